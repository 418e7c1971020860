"""Whose turn it is: who gets a free place, and who gives one up. Pure functions of who holds and who waits.

A free place goes to the tenant that holds the fewest places, in all processes; among those that hold as many to a
description rather than to a task, as long as one place is left to tasks; then to the tenant that has used places for
the shortest time; then to what has waited longest.

Where every place is taken, the youngest holder gives its place up to a wish that has waited for PATIENCE, if

    the wish's tenant holds nothing, and the holder's tenant two places or more; or
    the wish is a description, and tasks hold every place of this process, of which there are two or more.

Work that gives its place up starts again when its turn comes. It is always the youngest, so that the oldest goes on to
its end: a tenant that floods the places loses what it started last, and nobody loses more than the one place too many.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

Kind = Literal["description", "task"]
PATIENCE = 1.0  # seconds that a wish waits before somebody has to give a place up


class Wish(Protocol):
    """A request for a place. since: when it began to wait, in seconds of the clock that `now` is read from."""

    @property
    def tenant(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def since(self) -> float: ...


@dataclass(frozen=True)
class Holder:
    """Work that has held a place of this process since `started`, in seconds of the same clock."""

    tenant: str
    kind: Kind
    started: float


W = TypeVar("W", bound=Wish)
H = TypeVar("H", bound=Holder)


@dataclass(frozen=True)
class Occupancy:
    """The places of this process: how many, and who holds some of them.

    elsewhere: places that tenants hold in other processes. used: seconds for which tenants have held places here.
    """

    places: int
    holders: Collection[Holder]
    elsewhere: Mapping[str, int]
    used: Mapping[str, float]

    def held(self) -> Counter[str]:
        """Places by tenant, in all processes."""
        return Counter(holder.tenant for holder in self.holders) + Counter(self.elsewhere)


def first(wishes: Iterable[W], room: Occupancy) -> W | None:
    """The wish that gets the next free place; None where nobody waits."""
    held = room.held()
    described = sum(holder.kind == "description" for holder in room.holders)
    favoured: Kind = "task" if described >= room.places - 1 else "description"

    def rank(wish: W) -> tuple[int, bool, float, float]:
        behind = room.places > 1 and wish.kind != favoured
        return held[wish.tenant], behind, room.used.get(wish.tenant, 0.0), wish.since

    return min(wishes, key=rank, default=None)


def leaver(wishes: Iterable[W], candidates: Collection[H], room: Occupancy, now: float) -> tuple[H, W] | None:
    """Which of the candidates, holders of this process, gives its place up, and to whom; None where nobody has to."""
    held = room.held()
    several = {holder for holder in candidates if held[holder.tenant] > 1}
    tasks = room.places > 1 and all(holder.kind == "task" for holder in room.holders)
    waited = [wish for wish in wishes if now - wish.since >= PATIENCE]
    wish = first([each for each in waited if several and not held[each.tenant]], room)
    leaving = several
    if wish is None and tasks:
        wish, leaving = first([each for each in waited if each.kind == "description"], room), set(candidates)
    if wish is None or not leaving:
        return None
    held[wish.tenant] += 1
    return max(leaving, key=lambda holder: (held[holder.tenant], holder.started)), wish
