"""The places of this process: GRAPHPASS_WORKERS children of the sandbox run at a time, whatever they do.

    await places.run(tenant, "description", work)      waits for its turn (service/jobs/fairness.py), then runs work()

Work that has to give its place up is cancelled, which kills its child, and runs again when its turn comes. Places may
be used from any event loop and thread. `service/jobs/scheduler.py` gives out the places that become free: it compares
what waits here with what waits on the queues of all processes.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from service.errors import ShortageError
from service.jobs.fairness import Holder, Kind, Occupancy, first, leaver

R = TypeVar("R")
ARRIVAL = 5.0  # seconds for which a place is kept for a workflow that was taken from a queue and does not arrive
LONGEST_REST = 256.0  # seconds for which work that gave its place up again and again leaves places to others
COMING = "coming"  # stands for the workflow that is being taken from a queue
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Queued:
    """The oldest job or shard of a tenant on the queues of all processes.

    since: when it began to wait, by Places.clock.
    """

    tenant: str
    since: float
    kind: Kind = "task"


@dataclass(eq=False)
class _Turn:
    """One wait for a place, and then the holding of it.

    granted, leave: resolved when the place is given, and when it has to be given up, in the event loop of the work.
    heir: who gets the place after that.
    """

    tenant: str
    kind: Kind
    since: float
    granted: "asyncio.Future[None]"
    leave: "asyncio.Future[None]"
    rests_until: float = 0.0
    heir: "_Turn | Queued | None" = None


@dataclass(frozen=True)
class _Holder(Holder):
    """A holder, and the turn in which it holds its place."""

    turn: _Turn


class Places:
    """The `capacity` places of a process, and who holds them or waits for them."""

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic):
        self.capacity, self.clock = capacity, clock
        self._lock, self._changed = threading.RLock(), threading.Event()
        self._waiting: list[_Turn] = []
        self._held: dict[_Turn, float] = {}  # since when
        self._kept: dict[str, tuple[str, float]] = {}  # workflow → its tenant, and since when
        self._promised: list[_Turn | Queued] = []
        self._queued: set[str] = set()  # tenants that had something on the queues at the last look
        self._used: dict[str, float] = {}  # seconds of places, by tenant
        self._floor = 0.0  # seconds that a tenant which arrives is taken to have used

    async def run(
        self,
        tenant: str,
        kind: Kind,
        work: Callable[[], Coroutine[Any, Any, R]],
        *,
        workflow: str = "",
        within: float | None = None,
    ) -> R:
        """Wait for a place, run work() there, and return its result. workflow: the one for which `keep` kept a place.

        Raises ShortageError where there is no place within so many seconds. Cancelling this cancels the work.
        """
        since, rest, times = self.clock(), 0.0, 0
        while True:
            turn = await self._place(tenant, kind, since, rest, workflow, within)
            task = asyncio.ensure_future(work())
            either: set[asyncio.Future[Any]] = {task, turn.leave}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                task.cancel()
                try:
                    await asyncio.wait({task})
                finally:
                    self._release(turn)
            if not turn.leave.done() or not (task.cancelled() or task.exception()):
                return task.result()
            times += 1
            rest = self.clock() + min(2.0**times, LONGEST_REST)

    async def _place(
        self, tenant: str, kind: Kind, since: float, rest: float, workflow: str, within: float | None
    ) -> _Turn:
        loop = asyncio.get_running_loop()
        turn = _Turn(tenant, kind, since, loop.create_future(), loop.create_future(), rest)
        with self._lock:
            self._enter({tenant})
            if self._kept.pop(workflow, None) or (self._free() > 0 and not self._waiting and not self._promised):
                self._hold(turn)
            else:
                self._waiting.append(turn)
                self._changed.set()
        try:
            async with asyncio.timeout(within):
                await turn.granted
        except BaseException as error:
            self._release(turn)
            if isinstance(error, TimeoutError):
                raise ShortageError("all places for children are taken", "try again in a while") from None
            raise
        return turn

    def _hold(self, turn: _Turn) -> None:
        self._held[turn] = self.clock()
        _resolve(turn.granted)

    def _release(self, turn: _Turn) -> None:
        """End a turn, whether it holds a place or was given up while it waited."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            if turn in self._held:
                self._enter(())
                self._used[turn.tenant] = self._usage()[turn.tenant]
                del self._held[turn]
                if turn.heir is not None:
                    self._promised.append(turn.heir)
            self._changed.set()

    def keep(self, workflow: str) -> None:
        """Keep the place that `next` gave to the queues for the workflow that was taken from them, until it arrives."""
        with self._lock:
            if kept := self._kept.pop(COMING, None):
                self._kept[workflow] = (kept[0], self.clock())

    def forgo(self, workflow: str = COMING) -> None:
        """Stop keeping a place for a workflow that is over or waits for its shards, or where none was taken."""
        with self._lock:
            if self._kept.pop(workflow, None):
                self._changed.set()

    def free(self) -> int:
        """How many places are free."""
        with self._lock:
            return self._free()

    def _free(self) -> int:
        limit = self.clock() - ARRIVAL
        for workflow in [each for each, (_, since) in self._kept.items() if since < limit]:
            del self._kept[workflow]
        return self.capacity - len(self._held) - len(self._kept)

    def held(self) -> Mapping[str, int]:
        """Places by tenant; one that is given up is counted for whom it goes to."""
        with self._lock:
            holders = [turn.heir.tenant if turn.heir else turn.tenant for turn in self._held]
            return Counter((*holders, *(tenant for tenant, _ in self._kept.values())))

    def tenants(self) -> set[str]:
        """Tenants that hold a place of this process or wait for one."""
        with self._lock:
            return {turn.tenant for turn in (*self._held, *self._waiting)}

    def wait(self, seconds: float) -> None:
        """Block until something changes here, and no longer than so many seconds."""
        self._changed.wait(seconds)
        self._changed.clear()

    def wake(self) -> None:
        """End `wait`, since something has changed on the queues."""
        self._changed.set()

    def next(self, queued: Sequence[Queued], elsewhere: Mapping[str, int]) -> Queued | None:
        """Give free places to those who wait here, in turn, until it is the turn of one on the queues: return that one.

        A place is kept for the workflow that is then taken from the queues: call `keep` or `forgo`. elsewhere: places
        that tenants hold in other processes.
        """
        with self._lock:
            self._enter({wish.tenant for wish in queued})
            self._queued = {wish.tenant for wish in queued}
            while self._free() > 0:
                wish = self._heir(queued) or first(self._candidates(queued), self._room(elsewhere))
                if isinstance(wish, Queued):
                    self._kept[COMING] = (wish.tenant, self.clock())
                    return wish
                if wish is None:
                    return None
                self._waiting.remove(wish)
                self._hold(wish)
        return None

    def crowded(self, queued: Sequence[Queued], elsewhere: Mapping[str, int]) -> bool:
        """Whether `make_room` would have somebody give up a place."""
        with self._lock:
            return self._leaver(queued, elsewhere) is not None

    def make_room(self, queued: Sequence[Queued], elsewhere: Mapping[str, int]) -> None:
        """Where every place is taken, have one holder give its place up, if somebody has waited for too long."""
        with self._lock:
            if found := self._leaver(queued, elsewhere):
                holder, wish = found
                log.info(
                    "a %s of %s gives its place up to a %s of %s", holder.kind, holder.tenant, wish.kind, wish.tenant
                )
                holder.turn.heir = wish
                _resolve(holder.turn.leave)

    def _leaver(
        self, queued: Sequence[Queued], elsewhere: Mapping[str, int]
    ) -> "tuple[_Holder, _Turn | Queued] | None":
        leaving = any(turn.heir for turn in self._held)
        if self._free() > 0 or self._promised or leaving:
            return None
        room = self._room(elsewhere)
        here = [holder for holder in room.holders if isinstance(holder, _Holder)]
        return leaver(self._candidates(queued), here, room, self.clock())

    def _heir(self, queued: Sequence[Queued]) -> "_Turn | Queued | None":
        """Who was promised the free place, and still waits; None if there is nobody."""
        while self._promised:
            wish = self._promised.pop(0)
            if isinstance(wish, _Turn):
                if wish in self._waiting:
                    return wish
            elif found := next((each for each in queued if each.tenant == wish.tenant), None):
                return found
        return None

    def _candidates(self, queued: Sequence[Queued]) -> "list[_Turn | Queued]":
        """All that wait. What a tenant has started here goes before what it has on the queues."""
        now, holding = self.clock(), {turn.tenant for turn in self._held}
        here: list[_Turn | Queued] = [
            turn for turn in self._waiting if turn.rests_until <= now or turn.tenant not in holding
        ]
        at_work = {turn.tenant for turn in self._waiting if turn.kind == "task"}
        return here + [wish for wish in queued if wish.tenant not in at_work]

    def _room(self, elsewhere: Mapping[str, int]) -> Occupancy:
        here: list[Holder] = [_Holder(turn.tenant, turn.kind, since, turn) for turn, since in self._held.items()]
        here += [Holder(tenant, "task", since) for tenant, since in self._kept.values()]
        return Occupancy(self.capacity, here, elsewhere, self._usage())

    def _usage(self) -> Mapping[str, float]:
        """Seconds for which each tenant has held places, those that it holds now included."""
        found, now = dict(self._used), self.clock()
        for turn, started in self._held.items():
            found[turn.tenant] = found.get(turn.tenant, 0.0) + now - started
        return found

    def _enter(self, tenants: Collection[str]) -> None:
        """Count tenants that arrive as having used as much as the one here that used least: nobody saves time up."""
        there = {turn.tenant for turn in (*self._held, *self._waiting)} | self._queued
        there |= {tenant for tenant, _ in self._kept.values()}
        usage = self._usage()
        if there:
            self._floor = max(self._floor, min(usage.get(tenant, 0.0) for tenant in there))
        self._used = {name: used for name, used in self._used.items() if name in there or used > self._floor}
        for tenant in set(tenants) - there:
            self._used[tenant] = max(self._used.get(tenant, 0.0), self._floor)


def _resolve(future: "asyncio.Future[None]") -> None:
    """Resolve a future from any thread. If its event loop has ended, nobody waits for it."""

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(resolve)
