"""Work ends when nobody wants it, and only then."""

import asyncio
import time

import pytest

from service.jobs.cancelling import UnwantedError, while_wanted


class Sleeper:
    """Work that sleeps. cancelled: whether it was cancelled."""

    def __init__(self, seconds: float = 30.0):
        self.seconds, self.cancelled = seconds, False

    async def run(self) -> str:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
            self.cancelled = True
            raise
        return "done"


def test_it_ends_within_a_second_when_it_is_not_wanted_any_more() -> None:
    work, began = Sleeper(), time.monotonic()
    with pytest.raises(UnwantedError):
        asyncio.run(while_wanted(work.run(), lambda: time.monotonic() - began < 0.5))
    assert work.cancelled and time.monotonic() - began < 1.5


def test_it_goes_on_while_it_is_wanted() -> None:
    asked = []
    assert asyncio.run(while_wanted(Sleeper(0.8).run(), lambda: bool(asked.append(1) or True))) == "done"
    assert len(asked) >= 2


def test_it_goes_on_where_nobody_can_be_asked() -> None:
    def away() -> bool:
        raise OSError("the database is away")

    assert asyncio.run(while_wanted(Sleeper(0.8).run(), away)) == "done"


def test_cancelling_it_cancels_the_work() -> None:
    work = Sleeper()

    async def cancelled() -> None:
        task = asyncio.ensure_future(while_wanted(work.run(), lambda: True))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert work.cancelled


def test_what_it_raises_is_raised() -> None:
    async def wrong() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(while_wanted(wrong(), lambda: True))
