"""Gives the places of this process to those whose turn it is: descriptions of uploads, and what waits on the queues."""

import logging
import threading
from collections.abc import Mapping, Sequence

from service.jobs.places import Places, Queued
from service.jobs.presence import Presence
from service.jobs.queues import Queues

EVERY = 1.0  # seconds between looks, where nothing happens here, and
EVERY_SHARED = 0.25  # where other processes put something on the queues, and there is a place for it
log = logging.getLogger(__name__)


class Scheduler(threading.Thread):
    """A thread that looks for free places whenever something changes here, and regularly for what changes elsewhere.

    queues: None in a process that takes nothing from them. every: seconds between looks where there is a free place.
    """

    def __init__(self, places: Places, queues: Queues | None, presence: Presence, every: float = EVERY):
        super().__init__(name="scheduler", daemon=True)
        self._every = every
        self._places, self._queues, self._presence = places, queues, presence
        self._ended = threading.Event()
        self._away = False

    def run(self) -> None:
        """Look until stopped. Without the database, what waits in this process gets its places all the same."""
        while not self._ended.is_set():
            try:
                self.look()
                if self._away:
                    log.info("the queues are back")
                self._away = False
            except Exception as error:
                if not self._away:
                    log.warning("the queues are away: %s", error)
                self._away = True
                self._places.next((), {})
            self._places.wait(self._every if self._places.free() > 0 else EVERY)

    def look(self) -> None:
        """Give out all free places.

        Where none is free, have a holder give its place up if somebody has waited for too long.
        """
        queued, elsewhere = self._waiting()
        while wish := self._places.next(queued, elsewhere):
            if not self._take(wish):
                break
            queued, elsewhere = self._waiting()
        self._presence.announce(self._places.held())
        if self._places.crowded(queued, elsewhere):
            with self._presence.deciding() as ours:
                if ours:
                    queued, elsewhere = self._waiting()
                    self._places.make_room(queued, elsewhere)
                    self._presence.announce(self._places.held())

    def _take(self, wish: Queued) -> bool:
        """Take a workflow of the tenant whose turn it is. False where another process was faster."""
        workflow = None
        try:
            workflow = self._queues.take(wish.tenant) if self._queues else None
        finally:
            if workflow:
                self._places.keep(workflow)
            else:
                self._places.forgo()
        return workflow is not None

    def _waiting(self) -> tuple[Sequence[Queued], Mapping[str, int]]:
        """What waits on the queues, and the places that those tenants hold in other processes."""
        if self._queues is None:
            return (), {}
        now, found = self._places.clock(), self._queues.waiting()
        queued = [Queued(tenant, now - waited) for tenant, waited in found.items()]
        return queued, self._presence.others(found.keys() | self._places.tenants())

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._places.wake()
