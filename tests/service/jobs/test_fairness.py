"""Whose turn it is: who holds least comes first, nobody loses a last place, and all work is finished."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.jobs.fairness import PATIENCE, Holder, Kind, Occupancy, first, leaver
from service.jobs.places import Queued
from tests.properties import examples

TENANTS = st.sampled_from("abcd")
KINDS = st.sampled_from(["description", "task"])
TIMES = st.floats(0, 100)
WISHES = st.lists(st.builds(Queued, TENANTS, TIMES, KINDS), max_size=8)
NOW = 100.0


@st.composite
def rooms(draw: st.DrawFn, full: bool = False) -> Occupancy:
    """Places of which some or all are held."""
    places = draw(st.integers(1, 5))
    holders = draw(st.lists(st.builds(Holder, TENANTS, KINDS, TIMES), min_size=places if full else 0, max_size=places))
    elsewhere = draw(st.dictionaries(TENANTS, st.integers(0, 3)))
    return Occupancy(places, holders, elsewhere, draw(st.dictionaries(TENANTS, TIMES)))


def held_after(room: Occupancy, leaves: Holder | None, comes: str) -> Counter[str]:
    """Places by tenant after one holder has left and another has come."""
    held = room.held()
    held[comes] += 1
    if leaves is not None:
        held[leaves.tenant] -= 1
    return held


@given(WISHES, rooms())
def test_whoever_holds_least_comes_first(wishes: list[Queued], room: Occupancy) -> None:
    winner = first(wishes, room)
    assert (winner is None) == (not wishes)
    if winner is not None:
        held = room.held()
        assert held[winner.tenant] == min(held[wish.tenant] for wish in wishes)
        same = [wish for wish in wishes if (wish.tenant, wish.kind) == (winner.tenant, winner.kind)]
        assert winner.since == min(wish.since for wish in same)


@given(WISHES, rooms(full=True))
def test_who_gives_a_place_up(wishes: list[Queued], room: Occupancy) -> None:
    found = leaver(wishes, room.holders, room, NOW)
    held = room.held()
    if found is None:
        waited = [wish for wish in wishes if NOW - wish.since >= PATIENCE]
        here = {holder.tenant for holder in room.holders}
        assert not any(held[wish.tenant] == 0 for wish in waited) or max(held[tenant] for tenant in here) < 2
        if room.places > 1 and all(holder.kind == "task" for holder in room.holders):
            assert not any(wish.kind == "description" for wish in waited)
        return
    holder, wish = found
    assert NOW - wish.since >= PATIENCE
    after = held_after(room, holder, wish.tenant)
    if held[wish.tenant] == 0 and held[holder.tenant] > 1:
        assert after[holder.tenant] >= 1
    else:  # a description, where tasks have everything
        assert wish.kind == "description" and room.places > 1 and holder.kind == "task"
    ours = [each for each in room.holders if each.tenant == holder.tenant]
    assert holder.started == max(each.started for each in ours)


@dataclass(eq=False)
class TimedWork:
    """Work of so many seconds, which starts from the beginning where it gave its place up."""

    wish: Queued
    seconds: int
    left: int = 0
    holder: Holder | None = None

    def begin(self, now: float) -> None:
        """Start in a place."""
        self.left, self.holder = self.seconds, Holder(self.wish.tenant, self.wish.kind, now)


@given(st.integers(2, 4), st.lists(st.tuples(TENANTS, KINDS, st.integers(1, 30)), min_size=1, max_size=25))
@examples(60)
def test_everybody_gets_to_the_end(places: int, given_works: list[tuple[str, Kind, int]]) -> None:
    """Time passes second by second.

    All work is finished, and no tenant waits for long while another one holds two places.
    """
    waiting = [TimedWork(Queued(tenant, 0.0, kind), seconds) for tenant, kind, seconds in given_works]
    running: list[TimedWork] = []
    hungry: Counter[str] = Counter()
    used: Counter[str] = Counter()
    now = 0.0

    def room() -> Occupancy:
        return Occupancy(places, [work.holder for work in running if work.holder], {}, used)

    def begin(wish: Queued | None) -> None:
        work = next(each for each in waiting if each.wish is wish)
        waiting.remove(work)
        work.begin(now)
        running.append(work)

    while waiting or running:
        assert now < 20_000, "somebody never gets to the end"
        found = leaver([work.wish for work in waiting], room().holders, room(), now) if len(running) == places else None
        if found is not None:
            work = next(each for each in running if each.holder is found[0])
            running.remove(work)
            waiting.append(work)
            begin(found[1])
        while len(running) < places and waiting:
            begin(first([work.wish for work in waiting], room()))
        held = room().held()
        starved = {work.wish.tenant for work in waiting if not held[work.wish.tenant]} if max(held.values()) > 1 else ()
        hungry = Counter({tenant: hungry[tenant] + 1 for tenant in starved})
        assert not hungry or max(hungry.values()) <= PATIENCE + 4
        now += 1
        for work in list(running):
            work.left -= 1
            used[work.wish.tenant] += 1
            if not work.left:
                running.remove(work)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({"a": "t"}, "task of b"),  # a holds one already
        ({"b": "t"}, "description of a"),
        ({}, "description of a"),  # equal: a description goes first
        ({"c": "d"}, "task of b"),  # but for the last place
    ],
)
def test_two_places(held: dict[str, str], expected: str) -> None:
    kinds = {"t": "task", "d": "description"}
    holders = [Holder(tenant, kinds[kind], 0.0) for tenant, kind in held.items()]  # type: ignore[arg-type]
    wishes = [Queued("b", 1.0), Queued("a", 2.0, "description")]
    found = first(wishes, Occupancy(2, holders, {}, {}))
    assert found is not None and f"{found.kind} of {found.tenant}" == expected


def test_time_that_was_used_decides_where_there_is_one_place() -> None:
    wishes = [Queued("long", 0.0), Queued("short", 50.0)]
    assert first(wishes, Occupancy(1, [], {}, {"long": 3600.0, "short": 60.0})) is wishes[1]
    assert (
        first(wishes, Occupancy(1, [], {"short": 1}, {"long": 3600.0, "short": 60.0})) is wishes[0]
    )  # it has one elsewhere


def test_one_place_is_not_given_up() -> None:
    room = Occupancy(1, [Holder("a", "task", 0.0)], {}, {})
    assert leaver([Queued("b", 0.0, "description")], room.holders, room, NOW) is None


def test_the_last_place_of_a_tenant_here_is_given_up_where_it_holds_another_one_elsewhere() -> None:
    room = Occupancy(1, [Holder("a", "task", 0.0)], {"a": 1}, {})
    assert leaver([Queued("b", 0.0)], room.holders, room, NOW) == (room.holders[0], Queued("b", 0.0))
    assert leaver([Queued("b", 0.0)], room.holders, Occupancy(1, room.holders, {"a": 1, "b": 1}, {}), NOW) is None


def test_an_upload_of_whoever_has_all_places_costs_him_his_own_job() -> None:
    holders = [Holder("a", "task", 1.0), Holder("b", "task", 9.0), Holder("a", "task", 2.0)]
    found = leaver([Queued("a", 0.0, "description")], holders, Occupancy(3, holders, {}, {}), NOW)
    assert found is not None and found[0] == holders[2]
