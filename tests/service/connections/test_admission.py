"""Admission: how many connections there may be in all and of one address, and which of them give way."""

import asyncio
from collections.abc import Callable

import pytest

from service.connections.admission import LOOK_SECONDS, Admission
from service.connections.bounds import Bounds, bounds_of
from service.metrics import ProcessMetrics
from service.settings import load_settings


class Fake:
    """A connection that records what is done to it."""

    def __init__(self, host: str = "192.0.2.1"):
        self.host, self.closed, self.looks = host, False, 0
        self.leave: Callable[[], None] = lambda: None

    def look(self, now: float) -> None:
        """See Connection."""
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("a look that fails is no harm to the others")

    def give_way(self) -> None:
        """See Connection."""
        self.closed = True
        self.leave()


def bounds(connections: int, **more: object) -> Bounds:
    """Bounds with so many connections."""
    return bounds_of(load_settings(connections=connections, **more), 10**6)


def enter(admission: Admission, host: str = "192.0.2.1") -> tuple[Fake, str]:
    """Enter a new connection: the connection, and the slug of its refusal."""
    fake = Fake(host)
    fake.leave = lambda: admission.leave(fake)
    problem = admission.enter(fake)
    if problem:
        admission.leave(fake)
    return fake, problem.slug if problem else ""


def run(test: Callable[[], object]) -> None:
    """Run a test in an event loop."""

    async def inside() -> None:
        test()

    asyncio.run(inside())


def test_who_asks_for_nothing_gives_way_the_longest_first() -> None:
    def test() -> None:
        admission = Admission(bounds(3), ProcessMetrics())
        first, second, third = (enter(admission)[0] for _ in range(3))
        admission.asks(first)
        _, refused = enter(admission)
        assert (first.closed, second.closed, third.closed, refused) == (False, True, False, "")
        admission.rests(first)  # now the last of those who wait
        enter(admission)
        assert third.closed and not first.closed and len(admission) == 3

    run(test)


def test_where_all_are_busy_the_next_is_refused() -> None:
    def test() -> None:
        admission = Admission(bounds(2), ProcessMetrics())
        held = [enter(admission)[0] for _ in range(2)]
        for each in held:
            admission.asks(each)
        assert enter(admission)[1] == "unavailable" and len(admission) == 2
        admission.leave(held[0])
        assert enter(admission)[1] == ""

    run(test)


def test_an_address_has_its_bound_and_proxies_have_none() -> None:
    def test() -> None:
        admission = Admission(bounds(100, connections_per_address=2, trusted_proxies="10.0.0.0/8"), ProcessMetrics())
        assert [enter(admission)[1] for _ in range(3)] == ["", "", "too-many-at-once"]
        assert enter(admission, "192.0.2.2")[1] == ""
        assert [enter(admission, "10.0.0.1")[1] for _ in range(5)] == [""] * 5
        assert [enter(admission, f"2001:db8::{n}")[1] for n in range(1, 4)] == ["", "", "too-many-at-once"]
        free = Admission(bounds(100, connections_per_address=0), ProcessMetrics())
        assert {enter(free)[1] for _ in range(50)} == {""}

    run(test)


def test_what_has_left_is_not_counted() -> None:
    def test() -> None:
        admission = Admission(bounds(3, connections_per_address=1), ProcessMetrics())
        for _ in range(20):
            fake, refused = enter(admission)
            assert refused == ""
            admission.asks(fake)
            admission.leave(fake)
            admission.rests(fake)  # its last answer ends after it
            admission.leave(fake)
        assert len(admission) == 0 and not admission._asking_nothing and not admission._of

    run(test)


def test_all_are_looked_at_again_and_again() -> None:
    async def test() -> None:
        admission = Admission(bounds(5), ProcessMetrics())
        fakes = [enter(admission)[0] for _ in range(2)]
        await asyncio.sleep(2.5 * LOOK_SECONDS)
        assert [fake.looks for fake in fakes] == [2, 2]
        for fake in fakes:
            admission.leave(fake)
        await asyncio.sleep(1.5 * LOOK_SECONDS)
        enter(admission)
        await asyncio.sleep(1.5 * LOOK_SECONDS)
        assert [fake.looks for fake in fakes] == [2, 2] and len(admission) == 1

    asyncio.run(test())


def test_an_address_that_is_full_is_turned_away_and_the_log_says_how_often(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        admission = Admission(bounds(100, connections_per_address=1, trusted_proxies="10.0.0.0/8"), ProcessMetrics())
        assert admission.turn_away("192.0.2.1") is None
        fake, _ = enter(admission)
        away = [admission.turn_away("192.0.2.1") for _ in range(50)]
        assert all(answer and answer.startswith(b"HTTP/1.1 429 ") for answer in away) and len(set(away)) == 1
        assert admission.turn_away("192.0.2.2") is None and admission.turn_away("10.0.0.1") is None
        await asyncio.sleep(1.5 * LOOK_SECONDS)
        refusals = [line for line in caplog.records if line.message.startswith("refused")]
        assert [(line.client, line.times) for line in refusals] == [("192.0.2.1", 50)]  # type: ignore[attr-defined]
        assert refusals[0].request.encode() in (away[0] or b"")  # type: ignore[attr-defined]
        admission.leave(fake)
        assert admission.turn_away("192.0.2.1") is None

    with caplog.at_level("INFO"):
        asyncio.run(test())
