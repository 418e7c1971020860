"""Run tasks of tasks.py in a fresh, confined process: one, or one after the other.

    folder/in    what a task reads; every file argument of a task is a path relative to it
    folder/out   what a task leaves for its caller; empty when it failed
    folder/tmp   scratch; removed when the process ends

Nothing else of the caller's is within reach of the child. This module imports neither onnx nor numpy.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphpass.errors import says_no_memory
from service.sandbox import landlock
from service.sandbox.bounds import LABEL, LARGEST, LOG, TEXT, shortened, summary
from service.sandbox.confinement import hide_memory
from service.sandbox.limits import Limits as Limits  # what `run` takes, and what it gives
from service.sandbox.outcome import Failed as Failed
from service.sandbox.outcome import (
    SandboxOutcome,
    out_of_memory,
    out_of_processor_time,
    out_of_room,
    out_of_time,
)
from service.sandbox.outcome import Succeeded as Succeeded
from service.shortage import short_of

MessageHandler = Callable[[dict[str, Any]], None]

COMMAND = (sys.executable, "-I", "-B", "-X", "utf8", "-m", "service.sandbox.child")
# Of the caller's environment the child gets what finds shared libraries, and what chooses threads and kernels of linear
# algebra, on which the last bits of a conversion depend; no more.
INHERITED = ("LD_LIBRARY_PATH", "OPENBLAS_", "OMP_", "MKL_", "BLIS_", "NVPL_")  # names, or how they start
LONGEST_LINE = 1 << 20  # bytes of one message: a sweep of 128 conversions has half of it
MOST_OUTPUT = 256 << 20  # bytes of all messages together
LOG_TAIL = 16 << 10  # bytes of stderr that are kept
DISK_CHECK = 1.0  # seconds between looks at what the child has written

log = logging.getLogger("service.sandbox")


async def run(
    task: str, arguments: Mapping[str, Any], folder: Path, limits: Limits, progress: MessageHandler = lambda event: None
) -> SandboxOutcome:
    """Run a task of tasks.TASKS on files beneath `folder`, in a process of its own. See Child.run."""
    child = await start(folder, limits)
    if isinstance(child, Failed):
        return child
    try:
        return await child.run(task, arguments, progress)
    finally:
        await child.end()


async def start(folder: Path, limits: Limits) -> "Child | Failed":
    """A process that waits for tasks on files beneath `folder`."""
    _prepare()
    folder = folder.absolute()
    await asyncio.to_thread(_lay_out, folder)
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
            limit=LONGEST_LINE,
        )
    except (OSError, RuntimeError, MemoryError) as error:
        await asyncio.to_thread(_remove, folder, ("tmp", "out"))
        if short := short_of(error):
            return Failed(
                "unavailable", f"no process could be started: the machine is short of {short}", "try again later"
            )
        return Failed("internal", f"no process could be started ({error})", "see the service's log")
    return Child(process, folder, limits)


class Child:
    """A confined process, which runs one task at a time. Call `end` at last."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, limits: Limits):
        self._process, self._folder, self._limits = process, folder, limits
        self._tail = bytearray()
        self._stderr = asyncio.ensure_future(_keep_tail(process, self._tail))

    async def run(
        self, task: str, arguments: Mapping[str, Any], progress: MessageHandler = lambda event: None
    ) -> SandboxOutcome:
        """Run a task of tasks.TASKS. A task that does not succeed ends the process.

        progress: called with {"stage": str, "done": int, "total": int} and {"log": str}, in the caller's event loop.
        When cancelled, or over its time, the whole process group is killed before this returns, well below a second.
        """
        request = {
            "task": task,
            "arguments": dict(arguments),
            "folder": str(self._folder),
            "limits": asdict(self._limits),
        }
        outcome: SandboxOutcome = Failed("internal", "the task did not end", "try again")
        started = time.monotonic()
        try:
            await asyncio.to_thread(_empty, self._folder / "out")
            if await _is_full(self._folder, self._limits):  # of tasks that were too short to be watched
                outcome = out_of_room(self._limits)
            else:
                outcome = await self._supervised(json.dumps(request).encode() + b"\n", progress)
            return outcome
        finally:
            if isinstance(outcome, Failed):
                await self.end(keep_results=False)
            kind = outcome.type if isinstance(outcome, Failed) else "succeeded"
            log.info("%s: %s", task, kind, extra={"task": task, "outcome": kind, "seconds": time.monotonic() - started})

    def pause(self) -> None:
        """Stop the process between two tasks: it uses no processor until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process, from any thread. `end` has to follow."""
        self._signal(signal.SIGKILL)

    async def end(self, keep_results: bool = True) -> None:
        """Kill the process, and remove what it left but for its results."""
        self.kill()
        self._stderr.cancel()
        await asyncio.shield(_gone(self._process, [self._stderr]))
        if self._tail:
            log.debug("stderr: %s", self._tail.decode("utf-8", "replace"))
        await asyncio.shield(asyncio.to_thread(_remove, self._folder, ("tmp",) if keep_results else ("tmp", "out")))

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _supervised(self, request: bytes, progress: MessageHandler) -> SandboxOutcome:
        """The outcome of a task; one that went beyond a limit may still run."""
        disk = asyncio.ensure_future(_watch_disk(self._folder, self._limits))
        conversation = asyncio.ensure_future(_converse(self._process, request, progress))
        pumps: list[asyncio.Future[Any]] = [disk, conversation]
        try:
            done, _ = await asyncio.wait(pumps, timeout=self._limits.wall_seconds, return_when=asyncio.FIRST_COMPLETED)
            if conversation in done and (outcome := conversation.result()) is not None:
                return outcome
            if conversation in done:
                await asyncio.wait([self._stderr], timeout=1)
                return _autopsy(await self._process.wait(), self._tail.decode("utf-8", "replace"), self._limits)
            return out_of_room(self._limits) if done else out_of_time(self._limits)
        finally:
            for pump in pumps:
                pump.cancel()


def _lay_out(folder: Path) -> None:
    _remove(folder, ("tmp", "out"))  # of an attempt before this one
    for name in ("out", "tmp"):
        (folder / name).mkdir(parents=True)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def _empty(folder: Path) -> None:
    """Remove what is in a folder. The folder stays: it is what a child may write to."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@functools.cache
def _prepare() -> None:
    """Where no Landlock keeps children out of /proc, close the memory and environment of this process to them."""
    if not landlock.abi():
        hide_memory()
        log.warning("this kernel has no Landlock: tasks can read what other files this user can, and write those")


async def _converse(
    child: asyncio.subprocess.Process, request: bytes, progress: MessageHandler
) -> SandboxOutcome | None:
    """Send the request and pass on what comes back; None when the child ends without an answer."""
    assert child.stdin and child.stdout
    with contextlib.suppress(ConnectionError):
        child.stdin.write(request)
        await child.stdin.drain()
    total = 0
    while True:
        try:
            line = await child.stdout.readline()
            total += len(line)
            message = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):  # longer than LONGEST_LINE, no JSON, or too deep
            return Failed("crashed", "its answer was damaged", "report this")
        if total > MOST_OUTPUT:
            return Failed("crashed", "it did not stop talking", "report this")
        match message:
            case None:
                return None
            case {"result": dict(result)}:
                return Succeeded(summary(result, LONGEST_LINE))
            case {"failed": {"type": str(kind), "what": str(what), "remedy": str(remedy), "where": str(where)}}:
                return Failed(kind, shortened(what, TEXT), shortened(remedy, TEXT), shortened(where, LABEL))
            case {"stage": str(stage), "done": int(done), "total": int(whole)}:
                counts = {"done": min(done, LARGEST), "total": min(whole, LARGEST)}
                progress({"stage": shortened(stage, LABEL), **counts})
            case {"log": str(text)}:
                progress({"log": shortened(text, LOG)})
            case _:
                return Failed("crashed", "its answer was damaged", "report this")


def _autopsy(status: int, stderr: str, limits: Limits) -> Failed:
    """Why a child ended that gave no answer."""
    log.warning("the child ended with %s: %s", status, stderr[-LOG_TAIL:])
    if says_no_memory(stderr):
        return out_of_memory(limits)
    if status == -signal.SIGXCPU:
        return out_of_processor_time(limits)
    if status == -signal.SIGKILL:
        return Failed(
            "memory-limit",
            "the system killed it, as it does when the machine runs out of memory",
            "give a smaller model or smaller samples, or try again later",
            "memory_bytes",
            by_system=True,
        )
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        return Failed("crashed", f"it crashed: {name}", "check the file with onnx.checker; if it is valid, report this")
    return Failed("internal", f"the child ended with status {status} and without an answer", "see the service's log")


async def _keep_tail(child: asyncio.subprocess.Process, tail: bytearray) -> None:
    assert child.stderr
    while block := await child.stderr.read(1 << 16):
        tail += block
        del tail[:-LOG_TAIL]


async def _watch_disk(folder: Path, limits: Limits) -> None:
    """Return once more is written than allowed. RLIMIT_FSIZE limits each file, but not all together."""
    while True:
        await asyncio.sleep(DISK_CHECK)
        if await _is_full(folder, limits):
            return


async def _is_full(folder: Path, limits: Limits) -> bool:
    """Whether more is written than allowed. False where the machine is short of files or threads: nobody can look."""
    with contextlib.suppress(OSError, RuntimeError):
        return await asyncio.to_thread(_written, folder) > limits.file_bytes
    return False


def _written(folder: Path) -> int:
    """Bytes on disk beneath out and tmp."""
    total = 0
    for name in ("out", "tmp"):
        for place, _, files in os.walk(folder / name):
            for file in files:
                with contextlib.suppress(OSError):  # removed meanwhile
                    total += os.lstat(os.path.join(place, file)).st_blocks * 512
    return total


async def _gone(child: asyncio.subprocess.Process, pumps: list[asyncio.Future[Any]]) -> None:
    await child.wait()
    await asyncio.gather(*pumps, return_exceptions=True)


def _environment(folder: Path) -> dict[str, str]:
    scratch = str(folder / "tmp")
    kept = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
    return {"LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch, **kept}
