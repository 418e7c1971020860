"""Runs one task in the sandbox: fills its room from the blobs, passes its progress on, keeps its files as blobs.

An error of the user is part of the TaskOutcome. What is raised is a fault of the machinery, and worth another attempt.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphpass.options.providers import provider_name
from service.errors import QuotaError, ShortageError
from service.jobs.rooms import Rooms, Workroom
from service.problems import PROBLEMS, JobError
from service.sandbox.runner import Failed, Limits
from service.settings import Settings
from service.storage.blobs import Blobs
from service.storage.scratch import typed

JSON = dict[str, Any]
Publish = Callable[[JSON], Awaitable[None]]
Keep = Callable[[Path], Mapping[str, str]]
FILES_AT_MOST = 10_000  # that an archive unpacks to
ROOM = 2**16  # bytes
TASKS = "the folder of tasks"  # as users know it
LINES, STAGES = 50, 32  # of one task's log, and of its progress
EVERY, SHARE = 0.25, 0.005  # between two events of one stage: seconds, or this share of the time since its beginning
LEAST_FILE = 2**30  # bytes that a child may write, whatever may be uploaded: archives unpack to more


@dataclass(frozen=True)
class TaskOutcome:
    """What came of a task: a result and files (name → digest), or an error.

    by_system: as in Failed; it is not part of the JSON form.
    """

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
    """The limits of a task's child."""
    cuda = provider_name((arguments.get("options") or {}).get("provider") or "") == "cuda"
    return Limits(
        memory_bytes=int(settings.job_memory_bytes),
        cpu_seconds=settings.job_cpu_seconds,
        wall_seconds=settings.job_seconds,
        file_bytes=max(2 * int(settings.max_upload_bytes), LEAST_FILE),
        files=FILES_AT_MOST,
        devices=tuple(str(path) for path in Path("/dev").glob("nvidia*") if path.is_char_device()) if cuda else (),
    )


class Events:
    """Turns the lines that a child sends into events, few enough for a database that keeps every one.

    Progress becomes some events a second at the beginning and fewer the longer the task lasts, for each of the first
    STAGES stages, with the seconds left. The first LINES lines of the log become events, too.
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
        """Take one line of the child, which has `stage`, `done` and `total`, or `log`."""
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

    async def pump(self, publish: Publish) -> None:
        """Hand events to `publish`, in order, until `end`."""
        while (event := await self._queue.get()) is not None:
            await publish(event)

    def end(self) -> None:
        """End the events. If lines of the log were left out, the last event says how many."""
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
    rooms: Rooms,
    keep: Keep,
    publish: Publish | None = None,
    job: str = "",
    wanted: Callable[[], bool] = lambda: False,
) -> TaskOutcome:
    """Run one task of the sandbox. Cancelling this kills the child.

    keep: stores the files of a folder as blobs; name → digest. publish: gets each event. job: whose tasks share
    children, while it is wanted; "" for a task alone.

    Raises StorageError where the blobs or the folder cannot be used now.
    """
    bounds, rests = limits(settings, arguments), False
    with typed(rooms.scratch, TASKS):
        room = rooms.enter(job, bounds)
        try:
            await room.fill(inputs, blobs)
            outcome = await _run_in(room, task, arguments, bounds, keep, publish, bool(job))
            rests = bool(job) and outcome.error is None
            return outcome
        finally:
            if rests:
                rooms.rest(job, bounds, room, wanted)
            else:
                await asyncio.shield(room.close())


async def _run_in(
    room: Workroom,
    task: str,
    arguments: Mapping[str, Any],
    bounds: Limits,
    keep: Keep,
    publish: Publish | None,
    goes_on: bool,
) -> TaskOutcome:
    events = Events()
    pump = asyncio.create_task(events.pump(publish)) if publish else None
    try:
        ended = await room.run(task, arguments, bounds, events.line)
        if goes_on:
            room.pause()
        else:
            await room.end()  # nobody needs its memory while its files are stored
        if pump:
            events.end()
            await pump
        if isinstance(ended, Failed):
            if ended.type == "unavailable":
                raise ShortageError(ended.what, ended.remedy)
            await asyncio.to_thread(_prove_room, room.folder)
            kind = ended.type if ended.type in PROBLEMS else "internal"
            error = JobError(kind, ended.what, ended.remedy, ended.where or "")
            return TaskOutcome(error=error, by_system=ended.by_system)
        return TaskOutcome(ended.result, await asyncio.to_thread(keep, room.folder / "out"))
    except QuotaError as error:
        return TaskOutcome(error=JobError("storage-quota", error.what, error.remedy))
    finally:
        if pump:
            pump.cancel()


def _prove_room(folder: Path) -> None:
    """Raise an error where no file can be written or no thread can be started.

    Then a task that failed may have failed of that, in whatever words its libraries have for it.
    """
    with (folder / "room").open("wb") as file:
        file.write(bytes(ROOM))
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
