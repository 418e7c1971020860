"""Which request is worked on next: few of one caller at a time, so that no caller waits behind all of another's."""

import asyncio
import random
from collections.abc import Callable

from starlette.types import Scope

from service.auth import RateLimit
from service.connections.bounds import caller
from service.errors import RateError
from service.problems import too_many

AT_WORK = 2  # requests of one caller that are worked on at a time
SLOW_SECONDS = 1.0  # least delay of an answer to an address that asks too often; the most is twice as long
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
        """Wait for a turn of this caller. Returns a function that ends the turn; calling it again does nothing.

        Problem: too-many-at-once.
        """
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
    """Delays answers to an address that asks too often without a key, or is refused too often, by a second or two.

    It is not refused: others may share the address, and a check whether the service is alive has to be answered.
    """

    def __init__(self, per_minute: int):
        self._rate = RateLimit(per_minute)

    async def count(self, scope: Scope) -> None:
        """Count such a request, and wait if there were too many. While it waits, its connection may give way."""
        try:
            self._rate.take(caller(scope["client"][0] if scope.get("client") else ""))
        except RateError:
            connection = scope["state"].get("connection")
            seconds = SLOW_SECONDS * random.uniform(1, 2)  # or requests that came together would come together again
            if connection is None:
                await asyncio.sleep(seconds)
            else:
                await connection.delay(seconds)
