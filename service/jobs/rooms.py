"""Folders of tasks, and the children of the sandbox that work in them.

    folder/in/<name>     inputs, by the names of the job's row (`model/net.onnx`, `calibration/train.npz`, …)
    folder/out/<name>    what a task wrote
    folder/tmp           scratch

A child that has ended a task may rest, stopped, until the next task of its job: the rows of a sweep and the trials of a
search share what it knows of the network. Nothing depends on it: whatever a task fails of that may come from tasks
before, it is run again in a fresh child. Only as many rest as there are free places, and none for long.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.jobs.cancelling import UnwantedError, while_wanted
from service.jobs.places import Places
from service.sandbox.outcome import SandboxOutcome
from service.sandbox.runner import Child, Failed, Limits, MessageHandler, start
from service.storage.blobs import Blobs

FRESH = 0.2  # seconds in which a new folder gets its lock
REST = 5.0  # seconds for which a child waits for the next task
AGAIN = ("memory-limit", "time-limit", "output-limit", "crashed", "internal")  # what tasks before may have caused


class Workroom:
    """A folder, and the child that works in it, if there is one. Call `close` at last.

    The folder is locked, so that no process removes it before it is closed or this process dies.
    """

    def __init__(self, scratch: Path):
        self.folder = Path(tempfile.mkdtemp(dir=scratch))
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._inputs: dict[str, str] = {}
        self._child: Child | None = None
        self._given_up = threading.Event()

    async def fill(self, inputs: Mapping[str, str], blobs: Blobs) -> None:
        """Fetch the inputs that are not there yet."""
        await asyncio.to_thread(self._fill, inputs, blobs)

    async def run(
        self, task: str, arguments: Mapping[str, Any], limits: Limits, progress: MessageHandler
    ) -> SandboxOutcome:
        """Run a task: in the child that is there, else in a new one."""
        rested = self._child is not None
        if self._child is None:
            child = await start(self.folder, limits)
            if isinstance(child, Failed):
                return child
            self._child = child
        outcome = await self._child.run(task, arguments, progress)
        if isinstance(outcome, Failed):
            self._child = None
            if rested and outcome.type in AGAIN and outcome.where != "wall_seconds":
                return await self.run(task, arguments, limits, progress)
        return outcome

    def pause(self) -> None:
        """Stop the child."""
        if self._child:
            self._child.pause()

    def resume(self) -> None:
        """Let the child go on."""
        if self._child:
            self._child.resume()

    def kill(self) -> None:
        """Kill the child, from any thread."""
        if self._child:
            self._child.kill()

    async def end(self) -> None:
        """End the child; what it made stays."""
        if self._child:
            await self._child.end()
            self._child = None

    async def close(self) -> None:
        """End the child and remove the folder."""
        self._given_up.set()
        try:
            with suppress(RuntimeError):  # no thread can begin to remove what goes now anyway
                await self.end()
        finally:
            try:
                await asyncio.to_thread(self.remove)
            except RuntimeError:
                self.remove()

    def remove(self) -> None:
        """Remove the folder. May be repeated: whose descriptor the number is then is not known."""
        shutil.rmtree(self.folder, True)
        lock, self._lock = self._lock, -1
        with suppress(OSError):
            os.close(lock)

    def _fill(self, inputs: Mapping[str, str], blobs: Blobs) -> None:
        """A thread cannot be cancelled, so it removes what it made after the room was given up."""
        try:
            (self.folder / "in").mkdir(exist_ok=True)
            for name, digest in inputs.items():
                if self._given_up.is_set():
                    return
                if self._inputs.get(name) == digest:
                    continue
                target = self.folder / "in" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                blobs.fetch(digest, target)
                self._inputs[name] = digest
        finally:
            if self._given_up.is_set():
                shutil.rmtree(self.folder, True)


@dataclass(eq=False)
class _Resting:
    """A room whose child rests, in the event loop that its child belongs to.

    wait: ends with the rest. taken: whether a task goes on in the room. end: closes it otherwise.
    """

    job: str
    limits: Limits
    room: Workroom
    loop: asyncio.AbstractEventLoop
    wait: "asyncio.Task[None]"
    taken: bool = False
    end: "asyncio.Task[None] | None" = None


class Rooms:
    """The rooms of a process. Those whose children rest are ended where other work takes the places."""

    def __init__(self, scratch: Path, places: Places):
        self.scratch, self._places = scratch, places
        self._resting: list[_Resting] = []
        self._lock = threading.Lock()

    def enter(self, job: str, limits: Limits) -> Workroom:
        """A room for a task that holds a place: one whose child rests for this job, or a new one."""
        this = job, limits, asyncio.get_running_loop()
        with self._lock:
            found = next((each for each in self._resting if (each.job, each.limits, each.loop) == this), None)
            if found:
                self._resting.remove(found)
                found.taken = True
        if found:
            found.wait.cancel()
            found.room.resume()
            return found.room
        self._make_room()
        self.scratch.mkdir(parents=True, exist_ok=True)
        return Workroom(self.scratch)

    def rest(self, job: str, limits: Limits, room: Workroom, wanted: Callable[[], bool]) -> None:
        """Have a room whose child is paused wait for the next task of its job, while the job is wanted."""
        wait = asyncio.ensure_future(while_wanted(asyncio.sleep(REST), wanted))
        resting = _Resting(job, limits, room, asyncio.get_running_loop(), wait)
        with self._lock:
            self._resting.append(resting)
        resting.end = asyncio.ensure_future(self._end(resting))

    async def _end(self, resting: _Resting) -> None:
        """Close the room of a child that has rested long enough, unless a task took it."""
        with suppress(UnwantedError, asyncio.CancelledError):
            await resting.wait
        with self._lock:
            if resting in self._resting:
                self._resting.remove(resting)
        if not resting.taken:
            await resting.room.close()

    def _make_room(self) -> None:
        """End the children that have rested longest, until there are no more than free places."""
        with self._lock:
            count = max(0, len(self._resting) - max(0, self._places.free()))
            ended, self._resting = self._resting[:count], self._resting[count:]
        for each in ended:
            each.room.kill()
            with suppress(RuntimeError):  # its loop has ended, and its child with it
                each.loop.call_soon_threadsafe(each.wait.cancel)

    def close(self) -> None:
        """End all children that rest, when the process ends."""
        with self._lock:
            ended, self._resting = self._resting, []
        for each in ended:
            each.room.kill()
            each.room.remove()


def clear_scratch(scratch: Path) -> None:
    """Remove the folders of tasks whose process is gone. Several processes may work in one scratch folder."""
    for folder in scratch.glob("*"):
        with suppress(OSError):  # somebody's, or gone
            if 0 <= time.time() - folder.stat().st_mtime < FRESH:  # below 0 the clock was set back
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
