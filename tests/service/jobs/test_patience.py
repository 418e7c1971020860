"""What jobs wait for, how often the reason is reported, and when waiting ends."""

import asyncio
import errno
import logging

import pytest

from service.errors import NotFoundError, ShortageError, StorageDamagedError, StorageFullError, StorageUnavailableError
from service.jobs import patience
from service.jobs.patience import passes, patiently

FULL = StorageFullError("no space left in /data", "make room and try again")
AWAY = StorageUnavailableError("the store does not answer", "")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.02)


@pytest.mark.parametrize(
    ("raised", "waits"),
    [
        (FULL, True),
        (AWAY, True),
        (ShortageError("the machine is short of open files", ""), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (RuntimeError("can't start new thread"), True),
        (MemoryError(), True),
        (StorageDamagedError("a blob is damaged", ""), False),
        (NotFoundError("there is no such blob", ""), False),
        (ValueError("ours"), False),
        (RuntimeError("ours"), False),
    ],
)
def test_what_is_waited_for(raised: Exception, waits: bool) -> None:
    assert passes(raised) is waits


def attempts(*outcomes: Exception | str):
    """A function of which each call has the next of these outcomes."""
    left = list(outcomes)

    async def attempt() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return attempt


def test_it_is_tried_until_it_succeeds_and_each_reason_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[str] = []

    async def report(text: str) -> None:
        reports.append(text)

    with caplog.at_level(logging.WARNING):
        found = asyncio.run(patiently(attempts(FULL, FULL, AWAY, AWAY, FULL, "done"), report))
    assert found == "done"
    assert reports == [f"{FULL.public[0]}; waiting", f"{AWAY.public[0]}; waiting", f"{FULL.public[0]}; waiting"]
    assert len(caplog.records) == 3 and not any(record.exc_info for record in caplog.records)


def test_a_reason_that_cannot_be_reported_is_reported_with_the_next_attempt() -> None:
    reports: list[str] = []

    async def report(text: str) -> None:
        reports.append(text)
        if len(reports) == 1:
            raise AWAY

    assert asyncio.run(patiently(attempts(FULL, FULL, FULL, "done"), report)) == "done"
    assert reports == [f"{FULL.public[0]}; waiting"] * 2


def test_other_errors_and_too_long_a_wait_are_raised() -> None:
    with pytest.raises(ValueError, match="ours"):
        asyncio.run(patiently(attempts(FULL, ValueError("ours"))))
    with pytest.raises(StorageFullError):
        asyncio.run(patiently(attempts(*[FULL] * 100), within=0.1))
