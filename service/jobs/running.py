"""One task in the sandbox: its folder filled from the blobs, its progress told, its files kept as blobs.

    folder/in/<name>     inputs, by the names of the job's row (`model/net.onnx`, `calibration/train.npz`, …)
    folder/out/<name>    what the task wrote; `keep` makes it blobs
    folder/tmp           scratch

A user's error is an TaskOutcome; what is raised is a fault of the machinery, and worth another attempt.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.errors import QuotaError, ShortageError
from service.problems import PROBLEMS, JobError
from service.sandbox.runner import Failed, Limits, run
from service.settings import Settings
from service.storage.blobs import Blobs
from service.storage.scratch import typed

JSON = dict[str, Any]
Tell = Callable[[JSON], Awaitable[None]]
Keep = Callable[[Path], Mapping[str, str]]
FILES_AT_MOST = 10_000  # that an archive unpacks to
ROOM = 2**16  # bytes
FRESH = 0.2  # seconds in which a new folder gets its lock
TASKS = "the folder of tasks"  # as users know it
LINES, STAGES = 50, 32  # of one task's log, and of its progress
EVERY, SHARE = 0.25, 0.005  # between two events of one stage: seconds, or this share of the time since its beginning
LEAST_FILE = 2**30  # bytes that a child may write, whatever may be uploaded: archives unpack to more


@dataclass(frozen=True)
class TaskOutcome:
    """What came of a task: a result and files (name → digest), or an error. by_system: of Failed, not written down."""

    result: JSON = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    error: JobError | None = None
    by_system: bool = False

    def to_json(self) -> JSON:
        """The JSON form that a step of the engine records."""
        error = self.error.to_json() if self.error else None
        return {"result": self.result, "files": dict(self.files), "error": error}

    @staticmethod
    def from_json(found: JSON) -> "TaskOutcome":
        """The outcome of a recorded step."""
        error = JobError(**found["error"]) if found["error"] else None
        return TaskOutcome(found["result"], found["files"], error)


def limits(settings: Settings, arguments: Mapping[str, Any]) -> Limits:
    """What the child of a task may use."""
    cuda = (arguments.get("options") or {}).get("provider") == "cuda"
    return Limits(
        memory_bytes=int(settings.job_memory_bytes),
        cpu_seconds=settings.job_cpu_seconds,
        wall_seconds=settings.job_seconds,
        file_bytes=max(2 * int(settings.max_upload_bytes), LEAST_FILE),
        files=FILES_AT_MOST,
        devices=tuple(str(path) for path in Path("/dev").glob("nvidia*") if path.is_char_device()) if cuda else (),
    )


class Events:
    """Turns the lines of a child into events, of which the database keeps every one: some a second at the beginning and
    fewer the longer it lasts, for each of a few stages, with the seconds left; and its first lines for the log.
    """

    def __init__(self, every: float = EVERY, clock: Callable[[], float] = time.monotonic):
        self._every, self._clock = every, clock
        self._queue: asyncio.Queue[JSON | None] = asyncio.Queue()
        self._started = clock()
        self._began: dict[str, float] = {}
        self._reported: dict[str, float] = {}
        self._ended: set[str] = set()
        self._logged = 0

    def line(self, line: Mapping[str, Any]) -> None:
        """One line of the child: `stage`, `done`, `total`, or `log`."""
        if "stage" not in line:
            self._logged += 1
            if self._logged <= LINES:
                self._queue.put_nowait({"event": "log", "text": str(line.get("log", ""))})
            return
        now, stage, done, total = self._clock(), str(line["stage"]), int(line["done"]), int(line["total"])
        if stage not in self._began and len(self._began) == STAGES:
            return
        began = self._began.setdefault(stage, now)
        every = max(self._every, (now - self._started) * SHARE)
        ends = done >= total and stage not in self._ended
        if not ends and stage in self._reported and now - self._reported[stage] < every:
            return
        if ends:
            self._ended.add(stage)
        self._reported[stage] = now
        left = round((now - began) / done * (total - done), 1) if done > 0 else None
        self._queue.put_nowait(
            {"event": "progress", "stage": stage, "done": done, "total": total, "seconds_left": left}
        )

    async def pump(self, tell: Tell) -> None:
        """Hand events on, in order, until `end`."""
        while (event := await self._queue.get()) is not None:
            await tell(event)

    def end(self) -> None:
        """No more events, but for how many lines were left out."""
        if self._logged > LINES:
            self._queue.put_nowait({"event": "log", "text": f"… {self._logged - LINES:,} more lines are left out"})
        self._queue.put_nowait(None)


async def run_task(
    task: str,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, str],
    *,
    settings: Settings,
    blobs: Blobs,
    keep: Keep,
    tell: Tell | None = None,
) -> TaskOutcome:
    """Run one task of the sandbox. Cancelling this kills the child. keep: the folder of its files → name → digest.

    Raises StorageError where the blobs or the folder cannot be used now.
    """
    scratch, given_up = settings.data_dir / "scratch", threading.Event()
    with typed(scratch, TASKS):
        scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=scratch))
        with _locked(folder):
            try:
                await asyncio.to_thread(_fill, folder, inputs, blobs, given_up)
                return await _run_in(folder, task, arguments, settings, keep, tell)
            finally:
                given_up.set()
                await asyncio.shield(_removed(folder))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """While the task lasts, or its process lives, others see that the folder is somebody's."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def clear_scratch(scratch: Path) -> None:
    """Remove the folders of tasks whose process is gone, of whatever process that works in this folder."""
    for folder in scratch.glob("*"):
        with suppress(OSError):  # somebody's, or gone
            if time.time() - folder.stat().st_mtime < FRESH:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


async def _removed(folder: Path) -> None:
    try:
        await asyncio.to_thread(shutil.rmtree, folder, True)
    except RuntimeError:  # no thread can begin
        shutil.rmtree(folder, True)


async def _run_in(
    folder: Path, task: str, arguments: Mapping[str, Any], settings: Settings, keep: Keep, tell: Tell | None
) -> TaskOutcome:
    events = Events()
    pump = asyncio.create_task(events.pump(tell)) if tell else None
    try:
        ended = await run(task, arguments, folder, limits(settings, arguments), events.line)
        if pump:
            events.end()
            await pump
        if isinstance(ended, Failed):
            if ended.type == "unavailable":
                raise ShortageError(ended.what, ended.remedy)
            await asyncio.to_thread(_prove_room, folder)
            kind = ended.type if ended.type in PROBLEMS else "internal"
            error = JobError(kind, ended.what, ended.remedy, ended.where or "")
            return TaskOutcome(error=error, by_system=ended.by_system)
        return TaskOutcome(ended.result, await asyncio.to_thread(keep, folder / "out"))
    except QuotaError as error:
        return TaskOutcome(error=JobError("storage-quota", error.what, error.remedy))
    finally:
        if pump:
            pump.cancel()


def _fill(folder: Path, inputs: Mapping[str, str], blobs: Blobs, given_up: threading.Event) -> None:
    """Fetch the inputs. A thread cannot be cancelled: what it makes after the task was given up it removes itself."""
    try:
        for part in ("in", "out", "tmp"):
            (folder / part).mkdir()
        for name, digest in inputs.items():
            if given_up.is_set():
                return
            target = folder / "in" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            blobs.fetch(digest, target)
    finally:
        if given_up.is_set():
            shutil.rmtree(folder, True)


def _prove_room(folder: Path) -> None:
    """Raises where no file can be written, or no thread begins: what a task failed of then may be that, in the words of
    some library.
    """
    with (folder / "room").open("wb") as file:
        file.write(bytes(ROOM))
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
