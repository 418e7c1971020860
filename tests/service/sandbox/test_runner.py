"""The parent: limits, ends of every kind, cancelling, and what is left behind."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from service.sandbox import runner
from service.sandbox.bounds import LABEL, LARGEST, LOG, TEXT
from service.sandbox.outcome import size
from service.sandbox.runner import Failed, Limits, Succeeded
from tests.service.sandbox.sandboxed import HOSTILE, SMALL, Box

PARENT = """
import asyncio, sys
from pathlib import Path
from service.sandbox import runner
runner.COMMAND = tuple(sys.argv[2:])
asyncio.run(runner.run("sleep", {}, Path(sys.argv[1]), runner.Limits()))
"""


def failed(outcome: Succeeded | Failed) -> tuple[str, str]:
    assert isinstance(outcome, Failed), outcome
    return outcome.type, outcome.where


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def child_of(box: Box) -> int:
    """The process id that a sleeping task has written."""
    path = box.folder / "out" / "pid"
    for _ in range(500):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.02)
    raise AssertionError("it did not start")


@pytest.mark.parametrize(
    ("task", "arguments", "limits", "expected"),
    [
        ("allocate", {"bytes": 2 << 30}, {}, ("memory-limit", "memory_bytes")),
        ("spin", {}, {"cpu_seconds": 1}, ("time-limit", "cpu_seconds")),
        ("spin", {}, {"wall_seconds": 0.5}, ("time-limit", "wall_seconds")),
        ("stubborn", {}, {"wall_seconds": 0.5}, ("time-limit", "wall_seconds")),
        ("write_one", {"megabytes": 5}, {"file_bytes": 4 << 20}, ("output-limit", "file_bytes")),
        ("write_many", {"megabytes": 5}, {"file_bytes": 4 << 20}, ("output-limit", "file_bytes")),
        ("crash", {"signal": signal.SIGKILL}, {}, ("memory-limit", "memory_bytes")),
    ],
)
def test_limits(box: Box, task: str, arguments: dict, limits: dict, expected: tuple[str, str]) -> None:
    box.limits = replace(SMALL, **limits)
    start = time.monotonic()
    assert failed(box.hostile(task, arguments)) == expected
    assert time.monotonic() - start < 8
    assert sorted(path.name for path in box.folder.iterdir()) == ["in"]


def test_what_the_tasks_of_a_process_leave_counts_together(box: Box) -> None:
    async def told() -> list[Succeeded | Failed]:
        child = await runner.start(box.folder, replace(SMALL, file_bytes=4 << 20))
        assert not isinstance(child, Failed)
        try:
            return [await child.run("hoard", {"megabytes": 3}) for _ in range(3)]
        finally:
            await child.end()

    with mock.patch.object(runner, "COMMAND", HOSTILE):
        *before, last = asyncio.run(told())
    assert all(isinstance(each, Succeeded) for each in before) and failed(last) == ("output-limit", "file_bytes")
    assert sorted(path.name for path in box.folder.iterdir()) in ([], ["in"])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_a_crash_is_named_by_its_signal(box: Box, number: signal.Signals) -> None:
    outcome = box.hostile("crash", {"signal": number})
    assert failed(outcome) == ("crashed", "") and number.name in outcome.what


@pytest.mark.parametrize("status", [0, 3])
def test_an_end_without_an_answer(box: Box, status: int) -> None:
    outcome = box.hostile("leave", {"status": status})
    assert failed(outcome) == ("internal", "") and f"status {status}" in outcome.what


@pytest.mark.parametrize("kind", ["text", "list", "types", "endless", "deep"])
def test_an_answer_that_cannot_be_read(box: Box, kind: str) -> None:
    assert failed(box.hostile("garbage", {"kind": kind})) == ("crashed", "")


LONG = 900_000  # characters: nearly as long as a line may be


def test_what_a_subverted_child_says_is_cut_by_its_caller(box: Box) -> None:
    failure = {"before": '{"failed": {"type": "invalid-model", "what": "', "text": "w", "times": LONG}
    outcome = box.hostile("say", {"lines": [{**failure, "after": '", "remedy": "r", "where": "file"}}'}]})
    assert isinstance(outcome, Failed) and len(outcome.what) <= TEXT and "characters left out" in outcome.what
    assert outcome.what.startswith("www") and outcome.remedy == "r"
    log = {"before": '{"log": "', "text": "l", "times": LONG, "after": '"}'}
    stage = {"before": '{"stage": "', "text": "s", "times": 5000, "after": f'", "done": 1, "total": {10**30}}}'}
    result = {"before": '{"result": {"names": ["', "text": 'n", "', "times": LONG // 6, "after": '"]}}'}
    box.events.clear()
    outcome = box.hostile("say", {"lines": [log, stage, result]})
    assert isinstance(outcome, Succeeded) and len(json.dumps(outcome.result)) <= runner.LONGEST_LINE
    assert [len(event.get("log", "")) <= LOG for event in box.events] == [True, True]
    assert len(box.events[1]["stage"]) <= LABEL and box.events[1]["total"] == LARGEST


def test_what_libraries_print_is_no_answer(box: Box) -> None:
    assert box.hostile("noise") == Succeeded({"forged": False})


def test_what_is_unexpected_is_internal_and_names_no_folder_of_this_machine(box: Box) -> None:
    for task in ("fail", "not_json", "no such task"):
        outcome = box.hostile(task)
        assert failed(outcome)[0] == "internal" and str(box.folder.parent) not in outcome.what
    assert box.hostile("fail") == Failed("internal", "unexpected RuntimeError: at file", "report this")


def test_a_cancelled_task_is_dead_within_a_second(box: Box) -> None:
    async def cancelled() -> float:
        started = asyncio.Event()
        task = asyncio.ensure_future(
            runner.run("stubborn", {}, box.folder, SMALL, lambda event: started.set() if "stage" in event else None)
        )
        await started.wait()
        pid, start = child_of(box), time.monotonic()
        assert alive(pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = time.monotonic() - start
        assert not alive(pid)
        return took

    with mock.patch.object(runner, "COMMAND", HOSTILE):
        assert asyncio.run(cancelled()) < 1
    assert sorted(path.name for path in box.folder.iterdir()) == ["in"]


def test_it_dies_with_its_parent(box: Box) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(box.folder), *HOSTILE], stderr=subprocess.DEVNULL)
    pid = child_of(box)
    assert alive(pid)
    parent.kill()
    parent.wait()
    for _ in range(50):
        if not alive(pid):
            return
        time.sleep(0.02)
    raise AssertionError("the child outlived its parent")


def test_many_at_a_time(box: Box) -> None:
    async def all_of_them() -> list[Succeeded | Failed]:
        boxes = [box.folder.parent / str(number) for number in range(6)]
        for folder in boxes:
            (folder / "in").mkdir(parents=True)
        return await asyncio.gather(*(runner.run("noise", {}, folder, SMALL) for folder in boxes))

    with mock.patch.object(runner, "COMMAND", HOSTILE):
        assert asyncio.run(all_of_them()) == [Succeeded({"forged": False})] * 6


def test_leftovers_of_an_earlier_attempt_are_removed(box: Box) -> None:
    (box.folder / "out").mkdir()
    (box.folder / "out" / "old").write_text("")
    assert isinstance(box.hostile("environment"), Succeeded)
    assert list((box.folder / "out").iterdir()) == []
    assert not (box.folder / "tmp").exists()


def test_a_program_that_cannot_be_started(box: Box) -> None:
    with mock.patch.object(runner, "COMMAND", ("/nonexistent",)):
        assert failed(box.run("check")) == ("internal", "")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
)
def test_a_machine_that_is_short_of_something_is_nobodys_fault(box: Box, error: Exception) -> None:
    with mock.patch.object(asyncio, "create_subprocess_exec", side_effect=error):
        outcome = box.run("check")
    assert failed(outcome) == ("unavailable", "") and "the machine is short of" in outcome.what


def test_being_killed_by_the_system_differs_from_going_beyond_a_limit(box: Box) -> None:
    assert box.hostile("crash", {"signal": signal.SIGKILL}).by_system
    box.limits = replace(SMALL, wall_seconds=0.5)
    assert not box.hostile("stubborn").by_system
    assert not box.hostile("allocate", {"bytes": 2 << 30}).by_system


def test_the_task_goes_on_while_its_files_cannot_be_counted(box: Box) -> None:
    box.limits = replace(SMALL, wall_seconds=2.5)
    with mock.patch.object(runner, "_written", side_effect=RuntimeError("can't start new thread")):
        assert failed(box.hostile("spin")) == ("time-limit", "wall_seconds")


def test_progress_comes_in_order(box: Box) -> None:
    box.limits = replace(SMALL, wall_seconds=1)
    box.hostile("spin")
    assert box.events == [{"stage": "spinning", "done": 0, "total": 1}]


def test_the_api_process_imports_nothing_that_reads_models() -> None:
    code = "import service.sandbox.runner, sys, json; print(json.dumps(sorted(sys.modules)))"
    found = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert {name.split(".")[0] for name in found}.isdisjoint({"onnx", "onnxruntime", "numpy", "PIL"})
    assert {name for name in found if name.startswith("graphpass")} <= {"graphpass", "graphpass.errors"}


def test_sizes_in_words() -> None:
    assert [size(each) for each in (0, 1023, 4 << 30, 3 << 40)] == ["0 bytes", "1023 bytes", "4 GiB", "3072 GiB"]
    assert Limits().memory_bytes == 4 << 30
