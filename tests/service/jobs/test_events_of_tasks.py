"""However much a child reports, it becomes few enough events for a database."""

import asyncio
import itertools
from typing import Any

from service.jobs.running import LINES, STAGES, Events
from tests.service.clocks import ManualClock


def events_of(events: Events) -> list[dict[str, Any]]:
    """All events, once the task has ended."""

    async def pumped() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        async def tell(event: dict[str, Any]) -> None:
            found.append(event)

        events.end()
        await events.pump(tell)
        return found

    return asyncio.run(pumped())


def test_progress_of_a_long_task_is_some_hundred_events() -> None:
    """Of ten lines a second for an hour, the first, the last, and some between, ever further apart."""
    clock = ManualClock(0.0)
    events, total = Events(clock=clock), 36_000
    for done in range(total + 1):
        clock.now = done / 10
        events.line({"stage": "calibrating", "done": done, "total": total})
    found = events_of(events)
    assert 500 < len(found) < 1500
    assert found[0] == {"event": "progress", "stage": "calibrating", "done": 0, "total": total, "seconds_left": None}
    assert found[-1]["done"] == total and found[-1]["seconds_left"] == 0
    gaps = [after["done"] - before["done"] for before, after in itertools.pairwise(found)]
    assert gaps[0] <= 5 and max(gaps) < 300  # half a second, half a minute
    assert found[100]["seconds_left"] == round(3600 - found[100]["done"] / 10, 1)


def test_every_short_stage_ends() -> None:
    clock = ManualClock(0.0)
    events = Events(clock=clock)
    for stage in ("comparing", "counting", "timing"):
        for done in range(101):
            clock.now += 0.001
            events.line({"stage": stage, "done": done, "total": 100})
    assert [(each["stage"], each["done"]) for each in events_of(events)] == [
        (stage, done) for stage in ("comparing", "counting", "timing") for done in (0, 100)
    ]


def test_a_child_that_does_not_stop_talking_is_not_listened_to() -> None:
    clock = ManualClock(0.0)
    events = Events(clock=clock)
    for number in range(50_000):
        clock.now = number / 10_000
        events.line({"log": f"line {number}"})
        events.line({"stage": f"stage {number}", "done": 1, "total": 1})
        events.line({"stage": "stage 0", "done": 5, "total": 1})
        events.line({"stage": "stage 0", "done": -1, "total": 1})
    found = events_of(events)
    logs = [each["text"] for each in found if each["event"] == "log"]
    assert logs == [*(f"line {number}" for number in range(LINES)), "… 49,950 more lines are left out"]
    assert len({each["stage"] for each in found if each["event"] == "progress"}) == STAGES
    assert len(found) < LINES + STAGES + 30
