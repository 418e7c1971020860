"""The requests that are being answered: how many a tenant has, and which have to end because their key was revoked."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.connections.bounds import Bounds
from service.errors import StorageError
from service.problems import too_many
from service.storage.records import Key

REVOKED_SECONDS = 2.0  # between two looks at the keys of requests that last
Holds = Literal["request", "stream"]
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Call:
    """One request with a valid key."""

    key: Key
    holds: Holds
    task: "asyncio.Task[Any]"
    revoked: bool = field(default=False)

    def cut(self) -> None:
        """Cut the request off, since its key was revoked."""
        self.revoked = True
        self.task.cancel()


class Calls:
    """The calls of this process. still_valid: gives those of some ids of keys that are not revoked."""

    def __init__(self, bounds: Bounds, still_valid: Callable[[Sequence[str]], set[str]]):
        self._bounds, self._still_valid = bounds, still_valid
        self._calls: set[Call] = set()
        self._requests: Counter[str] = Counter()  # by tenant
        self._streams: Counter[str] = Counter()  # by id of the key

    def begin(self, key: Key, holds: Holds) -> Call:
        """Count a call, which the current asyncio task answers. Problem: too-many-at-once."""
        if holds == "stream":
            self._take(self._streams, key.id, self._bounds.streams_per_key, "event streams with one key")
        else:
            self._take(self._requests, key.tenant, self._bounds.requests_per_tenant, "requests of one tenant")
        task = asyncio.current_task()
        assert task is not None
        call = Call(key, holds, task)
        self._calls.add(call)
        return call

    def end(self, call: Call) -> None:
        """Count a call as answered."""
        self._calls.discard(call)
        counter, name = (self._streams, call.key.id) if call.holds == "stream" else (self._requests, call.key.tenant)
        counter[name] -= 1
        if not counter[name]:
            del counter[name]

    def _take(self, counter: Counter[str], name: str, most: int, what: str) -> None:
        if counter[name] >= most:
            raise too_many(most, what)
        counter[name] += 1

    async def watch(self) -> None:
        """Cut calls off whose key is revoked, until this is cancelled."""
        while True:
            await asyncio.sleep(REVOKED_SECONDS)
            ids = sorted({call.key.id for call in self._calls})
            if not ids:
                continue
            try:
                valid = await asyncio.to_thread(self._still_valid, ids)
            except StorageError as error:
                log.warning("keys cannot be looked at now: %s", error)
                continue
            for call in [call for call in self._calls if call.key.id in ids and call.key.id not in valid]:
                call.cut()
