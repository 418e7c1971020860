"""Logs: one JSON object a line, and lines that are alike are counted instead of written."""

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.logs import JsonFormatter, Repeats, job_context

MOST, SECONDS = 3, 60.0


class Lines:
    """A logger of its own, with what it wrote."""

    def __init__(self, seconds: float = SECONDS):
        self.repeats, self._stream = Repeats(MOST, seconds), io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(JsonFormatter())
        handler.addFilter(self.repeats)
        self.log = logging.getLogger(f"test.{id(self)}")
        self.log.handlers, self.log.propagate = [handler], False
        self.log.setLevel(logging.DEBUG)

    def read(self) -> list[dict[str, Any]]:
        """All lines so far."""
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """A logger whose periods end when the test says so."""
    found = Lines()
    yield found
    if found.repeats._timer:
        found.repeats._timer.cancel()


def test_lines_alike_are_counted(lines: Lines) -> None:
    for number in range(1000):
        lines.log.error("accept failed: fd=%s", number)
    assert [line["message"] for line in lines.read()] == [f"accept failed: fd={number}" for number in range(MOST)]
    lines.repeats.end_period()
    summary = lines.read()[-1]
    assert summary["message"] == "accept failed: fd=999 … and 997 more like it in 60 s"
    assert (summary["times"], summary["level"], summary["logger"]) == (1000, "error", lines.log.name)
    lines.log.error("accept failed: fd=%s", 1)  # a new period
    assert lines.read()[-1]["message"] == "accept failed: fd=1"


def test_texts_that_differ_in_numbers_alone_are_alike(lines: Lines) -> None:
    for number in range(10):
        lines.log.warning(f"socket fd={number} at 0x7f{number}ab: job con_01jd{number}x failed")
    assert len(lines.read()) == MOST


def test_other_lines_pass(lines: Lines) -> None:
    for _ in range(10):
        lines.log.error("one")
    for level in (logging.INFO, logging.WARNING):
        lines.log.log(level, "one")
    lines.log.error("another")
    with job_context("con_1"):
        lines.log.info("last")
    assert [line["message"] for line in lines.read()] == ["one"] * (MOST + 2) + ["another", "last"]
    assert lines.read()[-1]["job"] == "con_1"


def test_a_line_says_what_it_is_like(lines: Lines) -> None:
    for number in range(10):
        lines.log.info("%s %s", "GET", number, extra={"repeats": None})
        lines.log.info("%s %s", "PUT", number, extra={"repeats": "401 acme"})
        lines.log.info("%s %s", "PUT", number, extra={"repeats": "401 other"})
    assert len(lines.read()) == 10 + 2 * MOST and not any("repeats" in line for line in lines.read())
    lines.repeats.end_period()
    assert len(lines.read()) == 10 + 2 * MOST + 2


def test_a_period_ends_by_itself() -> None:
    lines = Lines(seconds=0.2)
    for _ in range(10):
        lines.log.error("again")
    deadline = time.monotonic() + 5
    while len(lines.read()) <= MOST and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lines.read()[-1]["message"] == "again … and 7 more like it in 0.2 s"


def test_what_is_remembered_is_bounded(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.logs._KINDS", 5)
    for number in range(100):
        lines.log.info("x", extra={"repeats": f"kind {number}"})
    assert len(lines.repeats._seen) <= 6 and len(lines.read()) == 5 + MOST
