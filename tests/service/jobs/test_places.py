"""Places: never more than there are, given up, taken again, kept for a workflow to come, and free after every end."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from service.errors import ShortageError
from service.jobs import places as module
from service.jobs.places import Places, Queued
from service.jobs.presence import SingleProcess
from service.jobs.scheduler import Scheduler


@pytest.fixture
def two() -> Iterator[Places]:
    """Two places with their scheduler."""
    places = Places(2)
    scheduler = Scheduler(places, None, SingleProcess(), 0.05)
    scheduler.start()
    yield places
    scheduler.stop()
    scheduler.join()


class Works:
    """Makes work, and counts how many of it run and how often each starts."""

    def __init__(self) -> None:
        self.now, self.most = Counter[str](), 0
        self.starts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def work(self, name: str, seconds: float = 0.05) -> Callable[[], "asyncio.Future[str]"]:
        """Sleeps; its answer is its name."""

        async def run() -> str:
            with self._lock:
                self.starts[name] += 1
                self.now[name] += 1
                self.most = max(self.most, self.now.total())
            try:
                await asyncio.sleep(seconds)
                return name
            finally:
                with self._lock:
                    self.now[name] -= 1

        return run  # type: ignore[return-value]


def test_never_more_than_there_are_from_two_threads(two: Places) -> None:
    works = Works()

    async def many(tenant: str) -> list[str]:
        names = [f"{tenant}{number}" for number in range(20)]
        return await asyncio.gather(*(two.run(tenant, "task", works.work(name, 0.01)) for name in names))

    threads = [threading.Thread(target=lambda tenant=tenant: asyncio.run(many(tenant))) for tenant in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert works.most == 2 and len(works.starts) == 40 and set(works.starts.values()) == {1}
    assert two.free() == 2


def test_a_description_beside_a_tenant_who_floods_with_long_ones(two: Places) -> None:
    """Whatever one tenant floods with, the description of another starts within its patience."""
    for kind in ("description", "task"):
        works = Works()

        async def beside(kind: str = kind, works: Works = works) -> float:
            flood = [asyncio.ensure_future(two.run("a", kind, works.work(f"a{n}", 3600))) for n in range(6)]  # type: ignore[arg-type]
            await asyncio.sleep(0.1)
            began = time.monotonic()
            assert await two.run("b", "description", works.work("b")) == "b"
            took = time.monotonic() - began
            for each in flood:
                each.cancel()
            await asyncio.wait(flood)
            return took

        assert asyncio.run(beside()) < 3
        assert works.most == 2 and works.starts["a0"] == 1, kind  # the oldest went on
        assert two.free() == 2 and not two.tenants()


def test_a_description_beside_jobs_of_everybody(two: Places) -> None:
    works = Works()

    async def beside() -> None:
        jobs = [asyncio.ensure_future(two.run(tenant, "task", works.work(tenant, 3))) for tenant in "ab"]
        await asyncio.sleep(0.1)
        assert await two.run("c", "description", works.work("c")) == "c"
        assert await asyncio.gather(*jobs) == ["a", "b"]

    asyncio.run(beside())
    assert works.starts == {"a": 1, "b": 2, "c": 1} and works.most == 2


def test_work_that_gave_its_place_up_leaves_it_to_others_for_longer_each_time(two: Places) -> None:
    works = Works()

    async def beside() -> None:
        own = [asyncio.ensure_future(two.run("a", "task", works.work(name, 12))) for name in ("first", "second")]
        for _ in range(3):
            await asyncio.sleep(0.1)
            await two.run("b", "description", works.work("b", 0.01))
            await asyncio.sleep(1.5)
        for each in own:
            each.cancel()
        await asyncio.wait(own)

    asyncio.run(beside())
    assert works.starts["first"] == 1 and works.starts["second"] == 2


def test_cancelling_waits_for_the_work_to_end_and_frees_its_place(two: Places) -> None:
    async def cancelled() -> float:
        ended = 0.0

        async def stubborn() -> None:
            nonlocal ended
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)
                ended = time.monotonic()

        running = asyncio.ensure_future(two.run("a", "task", stubborn))
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(two.run("a", "task", stubborn)) for _ in range(2)]
        await asyncio.sleep(0.05)
        others[1].cancel()  # while it waits
        running.cancel()
        others[0].cancel()
        await asyncio.wait([running, *others])
        assert two.free() == 2
        return ended

    assert asyncio.run(cancelled()) > 0


def test_whoever_waits_for_too_long_gets_an_error(two: Places) -> None:
    async def busy() -> None:
        holding = [asyncio.ensure_future(two.run("a", "description", lambda: asyncio.sleep(60))) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(ShortageError, match="all places for children are taken"):
            await two.run("a", "description", lambda: asyncio.sleep(0), within=0.3)
        for each in holding:
            each.cancel()
        await asyncio.wait(holding)

    asyncio.run(busy())
    assert two.free() == 2


def test_work_that_gives_its_place_up_with_an_error_starts_again(two: Places) -> None:
    """Its error does not count, since it was made to end."""
    starts = 0

    async def unclean() -> str:
        nonlocal starts
        starts += 1
        if starts > 1:
            return "done"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("it cannot clean up") from None
        return "never"

    async def beside() -> str:
        older = asyncio.ensure_future(two.run("a", "task", lambda: asyncio.sleep(60)))
        await asyncio.sleep(0.05)
        younger = asyncio.ensure_future(two.run("a", "task", unclean))
        await asyncio.sleep(0.05)
        await two.run("b", "description", lambda: asyncio.sleep(0))
        older.cancel()
        await asyncio.wait({older})
        return await younger

    assert asyncio.run(beside()) == "done"


def test_errors_of_the_work_are_raised_and_free_its_place(two: Places) -> None:
    async def wrong() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(two.run("a", "task", wrong))
    assert two.free() == 2


def test_a_place_is_kept_for_what_was_taken_from_a_queue() -> None:
    now = 0.0
    places = Places(1, lambda: now)
    assert places.next([Queued("a", 0.0)], {}) == Queued("a", 0.0)
    assert places.free() == 0 and places.next([Queued("b", 0.0)], {}) is None
    places.keep("con_1")

    async def arrives() -> str:
        waiting = asyncio.ensure_future(places.run("c", "description", lambda: _returned("c")))
        await asyncio.sleep(0.01)
        assert await places.run("a", "task", lambda: _returned("a"), workflow="con_1") == "a"
        assert places.next([], {}) is None  # the scheduler's look
        return await waiting

    assert asyncio.run(arrives()) == "c"
    for _ in range(2):
        places.next([Queued("a", 0.0)], {})
        places.forgo()
        assert places.free() == 1
    places.next([Queued("a", 0.0)], {})
    places.keep("con_2")
    now += module.ARRIVAL + 1
    assert places.free() == 1  # it never came


async def _returned(text: str) -> str:
    return text


def test_time_is_not_saved_up() -> None:
    """A tenant that was away while another one used the places does not get all of them afterwards."""
    now = 0.0
    places = Places(1, lambda: now)

    async def used(tenant: str, seconds: float) -> None:
        nonlocal now

        async def work() -> None:
            nonlocal now
            now += seconds

        await places.run(tenant, "task", work)

    asyncio.run(used("a", 1000.0))
    order = []
    for _ in range(6):
        wish = places.next([Queued("a", now), Queued("b", now)], {})
        assert wish is not None
        places.forgo()
        order.append(wish.tenant)
        asyncio.run(used(wish.tenant, 10.0))
    assert sorted(order) == ["a"] * 3 + ["b"] * 3
