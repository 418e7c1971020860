"""Tasks that try to leave the sandbox. Tests run them as its child; production only runs service.sandbox.child.

Each returns what it reached, or "denied: <why>".
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.sandbox.child import main


def attempt(deed: Callable[[], Any]) -> str:
    try:
        return f"reached: {str(deed())[:80]}"
    except ValueError as error:  # what Python makes of EPERM from setrlimit
        return f"denied: {error}"
    except OSError as error:
        return f"denied: {errno.errorcode.get(error.errno or 0, error)}"


def files(place: Any) -> dict[str, Any]:
    """Read everything outside of its folder, and write what it may only read."""
    beside = place.folder.parent / "beside"
    mine = place.folder / "in" / "mine"
    deeds: dict[str, Callable[[], Any]] = {
        "read /etc/passwd": lambda: Path("/etc/passwd").read_text(),
        "through its root": lambda: Path(f"/proc/self/root{beside}").read_text(),
        "through its folder": lambda: Path(f"/proc/self/cwd/../{beside.name}").read_text(),
        "list /": lambda: os.listdir("/"),
        "list home": lambda: os.listdir(os.path.expanduser("~root")),
        "read beside": beside.read_text,
        "write beside": lambda: beside.write_text("overwritten"),
        "truncate beside": lambda: os.truncate(beside, 0),
        "chmod beside": lambda: os.chmod(beside, 0o777),
        "touch beside": lambda: os.utime(beside),
        "remove beside": beside.unlink,
        "hard link": lambda: os.link(beside, place.out("link")),
        "move out": lambda: os.rename(mine, place.folder.parent / "moved"),
        "follow symlink": (place.folder / "in" / "symlink").read_text,
        "make symlink": lambda: place.out("symlink").symlink_to("/etc/passwd"),
        "write in": lambda: mine.write_text("overwritten"),
        "remove in": mine.unlink,
        "make in": lambda: (place.folder / "in" / "new").write_text(""),
        "parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "parent's memory": lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDWR),
        "own oom score": lambda: Path("/proc/self/oom_score_adj").write_text("-1000"),
        "shared memory": lambda: Path("/dev/shm/x").write_text(""),
        "make beside": lambda: (place.folder.parent / "escaped").write_text(""),
        "make a device": lambda: os.mknod(place.out("device"), 0o60600, 0),
        "read in": mine.read_text,
        "write out": lambda: place.out("result").write_text("fine"),
    }
    return {name: attempt(deed) for name, deed in deeds.items()}


def devices(place: Any) -> dict[str, Any]:
    """Open devices, one of which may have been allowed."""
    return {name: attempt(lambda name=name: os.close(os.open(name, os.O_RDWR))) for name in ("/dev/zero", "/dev/full")}


def calls(place: Any) -> dict[str, Any]:
    """Make system calls that reach the network, other programs, other processes or the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    python = sys.executable

    def call(number: int, *arguments: int) -> int:
        if (answer := libc.syscall(number, *arguments)) < 0:
            raise OSError(ctypes.get_errno(), "")
        return answer

    deeds: dict[str, Callable[[], Any]] = {
        "tcp": lambda: socket.create_connection(("127.0.0.1", 9), 1),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "netlink": lambda: socket.socket(socket.AF_NETLINK),
        "socketpair": socket.socketpair,
        "exec": lambda: os.execv(python, [python, "-c", "0"]),
        "spawn": lambda: os.posix_spawn(python, [python], {}),
        "subprocess": lambda: subprocess.run([python, "-c", "0"], check=True),
        "fork": os.fork,
        "kill parent": lambda: os.kill(os.getppid(), 0),
        "kill everybody": lambda: os.kill(-1, 0),
        "trace": lambda: libc.ptrace(16, os.getppid(), 0, 0) and _fail(),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2),
        "outlive the parent": lambda: libc.prctl(1, 0, 0, 0, 0) and _fail(),
        "shared anonymous memory": lambda: mmap.mmap(-1, 1 << 20, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS),
        "memfd": lambda: os.memfd_create("x"),
        "become nobody": lambda: os.setuid(65534),
        "leave the session": os.setsid,
        "chroot": lambda: os.chroot("/"),
        "mount": lambda: libc.mount(b"x", b"/mnt", b"tmpfs", 0, None) and _fail(),
        "namespace": lambda: libc.unshare(0x10000000) and _fail(),
        "io_uring": lambda: call(425, 1, 0),
        "pidfd": lambda: call(434, os.getppid(), 0),
        "a call newer than the table": lambda: call(470, 0),
        "pin the parent": lambda: os.sched_setaffinity(os.getppid(), {0}),
        "signal by a file": lambda: fcntl.fcntl(1, fcntl.F_SETOWN, os.getppid()),
        "signal a group by a file": lambda: fcntl.fcntl(1, fcntl.F_SETOWN, -os.getppid() & 0xFFFFFFFF),
        "signal an owner by a file": lambda: fcntl.fcntl(1, 15, struct.pack("ii", 1, os.getppid())),
        "choose a file's signal": lambda: fcntl.fcntl(1, fcntl.F_SETSIG, signal.SIGKILL),
        "own cores": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
        "own cores by id": lambda: os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0)),
        "own signal": lambda: os.kill(os.getpid(), 0),
        "a thread": lambda: threading.Thread(target=int).start(),
    }
    return {name: attempt(deed) for name, deed in deeds.items()}


def _fail() -> None:
    raise OSError(ctypes.get_errno(), "")


def bomb(place: Any) -> dict[str, Any]:
    """Start threads until there are no more."""
    stop = threading.Event()
    count = 0
    try:
        while True:
            threading.Thread(target=stop.wait, daemon=True).start()
            count += 1
    except RuntimeError:
        return {"threads": count}


def allocate(place: Any) -> dict[str, Any]:
    return {"bytes": len(bytearray(place.arguments["bytes"]))}


def spin(place: Any) -> dict[str, Any]:
    place.progress("spinning", 0, 1)
    while True:
        pass


def sleep(place: Any) -> dict[str, Any]:
    place.out("pid").write_text(str(os.getpid()))
    (place.folder / "tmp" / "scratch").write_text("x")
    place.progress("sleeping", 0, 1)
    time.sleep(60)
    return {}


def stubborn(place: Any) -> dict[str, Any]:
    """Ignore every signal that can be ignored."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    return sleep(place)


def write_one(place: Any) -> dict[str, Any]:
    with place.out("large").open("wb") as file:
        for _ in range(place.arguments["megabytes"]):
            file.write(b"x" * (1 << 20))
    return {}


def write_many(place: Any) -> dict[str, Any]:
    for number in range(place.arguments["megabytes"]):
        (place.folder / "tmp" / str(number)).write_bytes(b"x" * (1 << 20))
    time.sleep(30)
    return {}


def hoard(place: Any) -> dict[str, Any]:
    """Leave a file in scratch, and end before anybody looks."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(bytes(place.arguments["megabytes"] << 20))
    return {"pid": os.getpid()}


def crash(place: Any) -> dict[str, Any]:
    os.kill(os.getpid(), place.arguments["signal"])
    time.sleep(5)
    return {}


def again(place: Any) -> dict[str, Any]:
    """Count the tasks of this process, read a file, and leave one. Crashes where they are too many."""
    place.lasting.open("calls", lambda: contextlib.nullcontext([])).append(place.arguments)
    count = len(place.lasting.open("calls", contextlib.nullcontext))
    if count > place.arguments.get("most", count):
        os.kill(os.getpid(), signal.SIGSEGV)
    place.out(f"left {count}").write_text("")
    return {"pid": os.getpid(), "count": count, "read": place.file("file").read_text()}


def leave(place: Any) -> dict[str, Any]:
    os._exit(place.arguments["status"])


def noise(place: Any) -> dict[str, Any]:
    """Print as libraries do, which is no message of the protocol."""
    print('{"result": {"forged": true}}', flush=True)
    os.write(1, b'{"result": {"forged": true}}\n')
    os.write(2, b"\xff\x00" * 100_000)
    return {"forged": False}


def channel_of_answers() -> int:
    """The descriptor on which this child answers."""
    return max(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def say(place: Any) -> dict[str, Any]:
    """Send lines of any kind, as a child that was taken over could."""
    for line in place.arguments["lines"]:
        text = line["text"] * line.get("times", 1)
        data = f"{line.get('before', '')}{text}{line.get('after', '')}\n".encode()
        for start in range(0, len(data), 1 << 16):
            os.write(channel_of_answers(), data[start : start + (1 << 16)])
    time.sleep(30)
    return {}


def garbage(place: Any) -> dict[str, Any]:
    """Send what a child that was taken over could write to its channel."""
    channel = channel_of_answers()
    block = {"text": b"hello\n", "list": b"[1]\n", "types": b'{"stage": 1}\n', "endless": b"x" * (1 << 20)}
    block["deep"] = b"[" * 500_000 + b"]" * 500_000 + b"\n"
    for _ in range(64 if place.arguments["kind"] == "endless" else 1):
        os.write(channel, block[place.arguments["kind"]])
    time.sleep(30)
    return {}


def fail(place: Any) -> dict[str, Any]:
    raise RuntimeError(f"at {place.folder}/in/file")


def not_json(place: Any) -> dict[str, Any]:
    return {"value": float("nan")}


def environment(place: Any) -> dict[str, Any]:
    return {"environment": dict(os.environ), "modules": sorted(place.arguments.get("modules", sys.modules))}


TASKS = {
    task.__name__: task
    for task in (
        files,
        calls,
        bomb,
        allocate,
        spin,
        sleep,
        stubborn,
        write_one,
        write_many,
        hoard,
        devices,
        crash,
        leave,
        noise,
        garbage,
        say,
        fail,
        not_json,
        environment,
        again,
    )
}

if __name__ == "__main__":
    main(lambda: TASKS)
