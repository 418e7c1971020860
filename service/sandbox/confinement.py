"""What a child does to itself before it touches a byte of a user: limits first, then files, then system calls.

die with the parent     PR_SET_PDEATHSIG
die first               oom_score_adj
computes last           nice: requests are answered first
limits                  DATA, CPU, FSIZE, NOFILE, CORE, MEMLOCK, MSGQUEUE
no capabilities         root in name only: no override of file permissions, no raising of limits
no_new_privs            a condition of the two below
Landlock                only its folder and the installation; best effort, by kernel
seccomp                 no network, programs, processes, …; required
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.sandbox import landlock, seccomp
from service.sandbox.limits import Limits

FIRST = "1000"  # of those whom the system kills when it has no memory
NICE = 10
OPEN_FILES = 1024  # descriptors; calibration maps spilled tensors, which hold one each
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITIES_V3 = 0x20080522

# Beside the installation: what the dynamic loader, the C library and onnxruntime's look at the processor read.
SYSTEM = (
    "/lib /lib64 /usr/lib /usr/lib64 /usr/local/lib /etc/ld.so.cache /etc/ld.so.conf /etc/os-release "
    "/proc/cpuinfo /proc/meminfo /proc/stat /proc/self /sys/devices/system /dev/urandom /usr/share/zoneinfo"
)
WRITABLE_DEVICE = "/dev/null"
GPU = "/proc/driver/nvidia /proc/devices /proc/modules /sys/module/nvidia /sys/bus/pci/devices"  # CUDA's look around


def confine(folder: Path, limits: Limits, parent: int) -> dict[str, Any]:
    """Confine this process to `folder` and to its limits for good. Returns how. Raises OSError where that fails.

    parent: id of the process that has to be alive.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _die_with(libc, parent)
    _die_first()
    os.nice(NICE)
    _limit(limits)
    hide_memory()
    _drop_capabilities(libc)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    readable = [folder / "in", *installation(), *map(Path, SYSTEM.split())]
    readable += map(Path, GPU.split() if limits.devices else ())
    writable = [folder / "out", folder / "tmp", Path(WRITABLE_DEVICE)]
    version = landlock.restrict(readable, writable, map(Path, limits.devices))
    seccomp.install()
    return {"landlock": version, "seccomp": True, "no_new_privs": True, "capabilities": False, "uid": os.getuid()}


def hide_memory() -> None:
    """Close /proc/<pid>/mem, environ and the like of this process to others of its user."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")


def installation() -> list[Path]:
    """Folders of Python, of what is installed beside it, and of the two packages if they lie elsewhere."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_path(name) for name in names]
    found += [path for path in sys.path if path.endswith(("site-packages", "dist-packages", "lib-dynload"))]
    found += [os.path.join(prefix, "lib") for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    found += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    for package in ("service", "graphpass"):
        spec = find_spec(package)
        found += spec.submodule_search_locations or [] if spec else []
    return [Path(path) for path in dict.fromkeys(found) if os.path.isabs(path)]


def _die_with(libc: ctypes.CDLL, parent: int) -> None:
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:  # it died before this was set
        raise OSError("the process that asked for this is gone")


def _die_first() -> None:
    """Where the machine runs out of memory, have the system kill this process, not the service or its database."""
    with contextlib.suppress(OSError):  # where /proc is not there it chooses by itself
        Path("/proc/self/oom_score_adj").write_text(FIRST)


def _limit(limits: Limits) -> None:
    """Set the limits of resources.

    NPROC is not among them, since it counts whatever else the user runs on the host. Forks are refused by seccomp, and
    threads are limited by memory.
    """
    for which, wanted in (
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        value = _within(which, wanted)
        resource.setrlimit(which, (value, value))
    seconds = _within(resource.RLIMIT_CPU, max(1, limits.cpu_seconds))
    # SIGXCPU says that it was the limit; whoever blocks it is killed a second after
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, _within(resource.RLIMIT_CPU, seconds + 1)))


def _within(which: int, wanted: int) -> int:
    """The wanted limit, or the present hard limit where that is lower."""
    hard = resource.getrlimit(which)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    header, nothing = struct.pack("Ii", _CAPABILITIES_V3, 0), struct.pack("6I", *[0] * 6)
    if libc.capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")
