"""Whose request is worked on next: few at a time of one caller, so that nobody waits behind all that another asks."""

import asyncio
import random
from collections.abc import Callable

from starlette.types import Scope

from service.auth import RateLimit
from service.connections.bounds import caller
from service.errors import RateError
from service.problems import too_many

AT_WORK = 2  # requests of one caller
SLOW_SECONDS = 1.0  # to twice as many, that an address waits which asks too often without a key, or for what is refused
WAITING = (
    "/v1/models",
    "/v1/datasets",
    "/v1/uploads/",
    "/v1/examples/",
)  # where a POST or PATCH waits for body or child


class Turns:
    """At most AT_WORK requests of one caller are worked on at a time, from their head to that of their answer.

    The others wait in order, `most` in all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turns: dict[str, tuple[asyncio.Semaphore, int]] = {}  # and how many hold it or wait for it

    async def take(self, scope: Scope, who: str) -> Callable[[], None]:
        """Wait for a turn of this caller; what is given back ends it, once. Problem: too-many-at-once."""
        if scope["method"] in ("POST", "PATCH") and scope["path"].startswith(WAITING):
            return lambda: None
        turn, users = self._turns.get(who) or (asyncio.Semaphore(AT_WORK), 0)
        if users >= self._most:
            raise too_many(self._most, "requests of one caller")
        self._turns[who] = (turn, users + 1)
        try:
            await turn.acquire()
        except BaseException:
            self._leave(who)
            raise
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                turn.release()
                self._leave(who)

        return end

    def _leave(self, who: str) -> None:
        turn, users = self._turns.pop(who)
        if users > 1:
            self._turns[who] = (turn, users - 1)


class Slowness:
    """An address that asks too often without a key, or for what it is refused, is answered a second or two later.

    It is not refused: others may share the address, and who looks whether the service is alive shall see that it is.
    """

    def __init__(self, per_minute: int):
        self._rate = RateLimit(per_minute)

    async def count(self, scope: Scope) -> None:
        """Count such a request, and wait if there were too many. While it waits, its connection may give way."""
        try:
            self._rate.take(caller(scope["client"][0] if scope.get("client") else ""))
        except RateError:
            connection = scope["state"].get("connection")
            seconds = SLOW_SECONDS * random.uniform(1, 2)  # or all that came at once would come at once again
            if connection is None:
                await asyncio.sleep(seconds)
            else:
                await connection.delay(seconds)
