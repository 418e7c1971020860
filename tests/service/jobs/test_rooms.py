"""Children that go on with the next task of their job."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from service.jobs import rooms
from service.jobs.places import Places
from service.jobs.rooms import Rooms, Workroom
from service.jobs.running import TaskOutcome, run_task
from service.sandbox import runner
from service.settings import load_settings
from tests.service.sandbox.sandboxed import HOSTILE

FILES = {"first": b"one", "second": b"two"}


class Texts:
    """A store of FILES."""

    def fetch(self, digest: str, path: Path) -> None:
        with path.open("xb") as file:
            file.write(FILES[digest])


@pytest.fixture(autouse=True)
def hostile() -> Iterator[None]:
    """Children run the tasks of hostile_tasks.py."""
    with mock.patch.object(runner, "COMMAND", HOSTILE):
        yield


class Process:
    """What a process of the service has for tasks. wanted: whether their jobs are."""

    def __init__(self, folder: Path, places: int):
        self.settings, self.places = load_settings(data_dir=folder), Places(places)
        self.rooms = Rooms(folder / "scratch", self.places)
        self.wanted = True
        self.kept: list[list[str]] = []

    def keep(self, folder: Path) -> dict[str, str]:
        self.kept.append(sorted(path.name for path in folder.iterdir()))
        return {}

    async def task(self, job: str, digest: str = "first", task: str = "again", **arguments: Any) -> TaskOutcome:
        """Run a task in a place; a real caller has one for each."""

        async def work() -> TaskOutcome:
            return await run_task(
                task,
                {"file": "given/name", **arguments},
                {"given/name": digest},
                settings=self.settings,
                blobs=Texts(),  # type: ignore[arg-type]
                rooms=self.rooms,
                keep=self.keep,
                job=job,
                wanted=lambda: self.wanted,
            )

        return await self.places.run("acme", "task", work)


def run(folder: Path, story: Callable[[Process], Awaitable[None]], places: int = 1) -> None:
    async def told() -> None:
        process = Process(folder, places)
        await story(process)
        process.rooms.close()
        began = time.monotonic()
        while list(process.rooms.scratch.iterdir()):
            assert time.monotonic() - began < 1.0
            await asyncio.sleep(0.02)

    asyncio.run(told())


def state(pid: int) -> str:
    """The state of a process: R, S, T (stopped); "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0].replace("Z", "")
    except FileNotFoundError:
        return ""


async def until(pid: int, wanted: str = "") -> None:
    """Wait until a process is in a state, by default until it is gone, within a second."""
    began = time.monotonic()
    while state(pid) != wanted:
        assert time.monotonic() - began < 1.0, state(pid)
        await asyncio.sleep(0.02)


def test_tasks_of_a_job_run_in_one_child_which_is_stopped_in_between(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        first = await process.task("a")
        await until(first.result["pid"], "T")
        second = await process.task("a", "second")
        assert [first.result["read"], second.result["read"]] == ["one", "two"]
        assert second.result["pid"] == first.result["pid"] and second.result["count"] == 2
        assert process.kept == [["left 1"], ["left 2"]]

    run(tmp_path, story)


def test_a_task_of_another_job_gets_a_child_of_its_own(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        first, other = await process.task("a"), await process.task("b")
        assert other.result["pid"] != first.result["pid"] and other.result["count"] == 1
        await until(first.result["pid"])  # there is one place, which the other one takes
        alone = await process.task("")
        assert state(alone.result["pid"]) == ""

    run(tmp_path, story)


def test_a_child_without_a_next_task_is_gone_before_its_files_are_stored(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        def keep(folder: Path) -> dict[str, str]:
            (room,) = process.rooms.scratch.iterdir()
            held = [pid for pid in os.listdir("/proc") if pid.isdigit() and _works_in(int(pid), room)]
            process.kept.append(held)
            return {}

        with mock.patch.object(process, "keep", keep):
            await process.task("")
            await process.task("a")
        assert [len(each) for each in process.kept] == [0, 1]

    run(tmp_path, story)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(folder)
    except OSError:
        return False


def test_as_many_rest_as_there_are_free_places(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        pids = [(await process.task(job)).result["pid"] for job in "abcd"]
        await asyncio.gather(*(until(pid, "T") for pid in pids[2:]))
        await asyncio.gather(*(until(pid) for pid in pids[:2]))
        assert (await process.task("c")).result["pid"] == pids[2]

    run(tmp_path, story, places=2)


def test_what_fails_in_a_child_that_rested_runs_in_a_fresh_one(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        first = await process.task("a", most=1)
        second = await process.task("a", most=1)
        assert second.error is None and second.result["count"] == 1
        assert second.result["pid"] != first.result["pid"] and not state(first.result["pid"])
        assert process.kept == [["left 1"], ["left 1"]]
        broken = await process.task("a", most=0)  # in a fresh one, too
        assert broken.error and broken.error.type == "crashed" and not state(second.result["pid"])

    run(tmp_path, story)


def test_a_child_whose_task_failed_does_not_go_on(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        first = await process.task("a")
        failed = await process.task("a", task="fail")
        assert failed.error and failed.error.type == "internal"
        await until(first.result["pid"])
        assert (await process.task("a")).result["count"] == 1

    run(tmp_path, story)


def test_it_ends_soon_where_the_job_is_over(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        first = await process.task("a")
        process.wanted = False
        await until(first.result["pid"])

    run(tmp_path, story)


def test_its_folder_goes_where_no_thread_can_begin(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        await process.task("a")
        with mock.patch.object(runner, "_remove", side_effect=RuntimeError("can't start new thread")):
            process.wanted = False
            began = time.monotonic()
            while list(process.rooms.scratch.iterdir()):
                assert time.monotonic() - began < 2.0
                await asyncio.sleep(0.02)

    run(tmp_path, story)


def test_it_ends_where_no_task_comes(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        with mock.patch.object(rooms, "REST", 0.1):
            first = await process.task("a")
            await until(first.result["pid"])

    run(tmp_path, story)


def test_a_cancelled_task_ends_the_child_that_rested(tmp_path: Path) -> None:
    async def story(process: Process) -> None:
        first = await process.task("a")
        await until(first.result["pid"], "T")
        task = asyncio.ensure_future(process.task("a", task="stubborn"))
        for _ in range(200):
            if state(first.result["pid"]) not in ("T", ""):
                break
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() and not state(first.result["pid"])
        with pytest.raises(ProcessLookupError):
            os.kill(first.result["pid"], 0)

    run(tmp_path, story)


def test_a_folder_that_is_removed_twice_closes_no_descriptor_of_others(tmp_path: Path) -> None:
    room = Workroom(tmp_path)
    room.remove()
    with (tmp_path / "other").open("wb") as other:
        room.remove()
        os.fstat(other.fileno())
