"""One task in its folder, which is removed however the task ends."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from service.errors import StorageUnavailableError
from service.jobs.places import Places
from service.jobs.rooms import Rooms, clear_scratch
from service.jobs.running import run_task
from service.settings import load_settings


class Slow:
    """A store that takes time for each file, and makes missing folders."""

    def __init__(self) -> None:
        self.fetching, self.fetched = threading.Event(), 0

    def fetch(self, digest: str, path: Path) -> None:
        self.fetching.set()
        time.sleep(0.3)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        self.fetched += 1


class Away:
    """A store that does not answer."""

    def fetch(self, digest: str, path: Path) -> None:
        raise StorageUnavailableError("the store does not answer", "")


def rooms(data: Path) -> Rooms:
    return Rooms(data / "scratch", Places(2))


def none(folder: Path) -> dict[str, str]:
    """Keep no file."""
    return {}


def test_given_up_while_its_inputs_are_fetched(tmp_path: Path) -> None:
    settings, store = load_settings(data_dir=tmp_path), Slow()

    async def given_up() -> float:
        inputs = {f"model/{number}": "0" * 64 for number in range(20)}
        task = asyncio.ensure_future(
            run_task("check", {}, inputs, settings=settings, blobs=store, rooms=rooms(tmp_path), keep=none)
        )  # type: ignore[arg-type]
        await asyncio.to_thread(store.fetching.wait)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(given_up()) < 1  # the loop waits for its threads when it ends
    assert store.fetched < 5 and not list((tmp_path / "scratch").iterdir())


def test_inputs_that_cannot_be_fetched(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with pytest.raises(StorageUnavailableError):
        asyncio.run(
            run_task("check", {}, {"a/b": "0" * 64}, settings=settings, blobs=Away(), rooms=rooms(tmp_path), keep=none)
        )  # type: ignore[arg-type]
    assert not list((tmp_path / "scratch").iterdir())


def test_folders_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    """Folders of tasks that run, here or in another process, stay."""
    settings, store = load_settings(data_dir=tmp_path), Slow()
    scratch = tmp_path / "scratch"
    (scratch / "left").mkdir(parents=True)
    (scratch / "left" / "large").write_bytes(b"1")
    old = time.time() - 10
    os.utime(scratch / "left", (old, old))

    async def looked_at() -> set[str]:
        task = asyncio.ensure_future(
            run_task(
                "check", {}, {"model/a": "0" * 64}, settings=settings, blobs=store, rooms=rooms(tmp_path), keep=none
            )
        )  # type: ignore[arg-type]
        await asyncio.to_thread(store.fetching.wait)
        for folder in scratch.iterdir():
            os.utime(folder, (old, old))
        clear_scratch(scratch)
        found = {path.name for path in scratch.iterdir()}
        task.cancel()
        await asyncio.wait({task})
        return found

    assert len(asyncio.run(looked_at()) - {"left"}) == 1 and not (scratch / "left").exists()
    (scratch / "young").mkdir()  # between this and the lock of its task
    clear_scratch(scratch)
    assert (scratch / "young").exists()
    later = time.time() + 3600
    os.utime(scratch / "young", (later, later))  # made before the clock was set back
    clear_scratch(scratch)
    assert not (scratch / "young").exists()
