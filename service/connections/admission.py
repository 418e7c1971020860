"""Decides who may connect, and looks at every connection once a second."""

import asyncio
import logging
import secrets
from collections import Counter
from typing import Protocol

from service.connections.answers import raw_answer
from service.connections.bounds import Bounds, caller, is_trusted
from service.metrics import ProcessMetrics
from service.problems import ProblemError

LOOK_SECONDS = 1.0
log = logging.getLogger(__name__)


class OpenConnection(Protocol):
    """What Admission knows of a connection."""

    @property
    def host(self) -> str:
        """The address at the other end."""
        ...

    def look(self, now: float) -> None:
        """Close the connection if it has used up its time."""
        ...

    def give_way(self) -> None:
        """Close the connection: it asks for nothing, and somebody else needs its place."""
        ...


class Admission:
    """The connections of a process.

    Where all places are taken, the connection that has gone longest without asking for anything (idle, or in the middle
    of the head of a request) gives way to the new one. So whoever sends a whole request at once is answered, however
    many others hold half of one.
    """

    def __init__(self, bounds: Bounds, metrics: ProcessMetrics):
        self.bounds, self.metrics = bounds, metrics
        self._open: set[OpenConnection] = set()
        self._asking_nothing: dict[OpenConnection, None] = {}  # the longest first
        self._of: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._one_too_many = ProblemError(
            "too-many-at-once",
            f"more than {bounds.per_address} connections from one address",
            "use connections for several requests, or wait until some are closed",
            headers={"Retry-After": "5"},
        )
        self._turned_away: Counter[str] = Counter()  # since the last look
        self._request = secrets.token_hex(8)  # what the log knows those by
        self._answer = raw_answer(self._one_too_many, self._request)

    def __len__(self) -> int:
        return len(self._open)

    def turn_away(self, host: str) -> bytes | None:
        """The answer to a new connection whose address has too many; None where it may enter.

        This is asked before anything is made for the connection, so that whoever opens connections as fast as they are
        refused costs the process little more than `accept`.
        """
        if not self._is_full(host, self._of.get(caller(host), 0) + 1):
            return None
        self.metrics.cut.labels("address").inc()
        self._turned_away[host] += 1
        return self._answer

    def _is_full(self, host: str, number: int) -> bool:
        most = self.bounds.per_address
        return bool(most) and number > most and not is_trusted(host, self.bounds.trusted)

    def enter(self, connection: OpenConnection) -> ProblemError | None:
        """Count a new connection, until `leave`. If a problem is returned, answer it and close the connection."""
        crowded = len(self._open) >= self.bounds.connections
        longest = next(iter(self._asking_nothing), None)
        self._open.add(connection)
        self.metrics.connections.set(len(self._open))
        who = caller(connection.host)
        self._of[who] += 1
        self._watch()
        if self._is_full(connection.host, self._of[who]):
            return self.refused("address", self._one_too_many)
        if crowded and longest is None:
            return self.refused(
                "all",
                ProblemError(
                    "unavailable", "all connections are in use", "try again in a while", headers={"Retry-After": "5"}
                ),
            )
        if crowded and longest is not None:
            self.metrics.cut.labels("gave-way").inc()
            longest.give_way()
        self._asking_nothing[connection] = None
        return None

    def leave(self, connection: OpenConnection) -> None:
        """Count a connection as closed."""
        if connection in self._open:
            self._open.discard(connection)
            self._asking_nothing.pop(connection, None)
            who = caller(connection.host)
            self._of[who] -= 1
            if not self._of[who]:
                del self._of[who]
            self.metrics.connections.set(len(self._open))

    def asks(self, connection: OpenConnection) -> None:
        """Note that a connection has sent the head of a request, and so does not give way."""
        self._asking_nothing.pop(connection, None)

    def rests(self, connection: OpenConnection) -> None:
        """Note that the request of a connection is answered: from now on it may give way."""
        if connection in self._open:
            self._asking_nothing[connection] = None

    def refused(self, reason: str, problem: ProblemError) -> ProblemError:
        """Count a refusal under one of a few reasons, and return its problem."""
        self.metrics.cut.labels(reason).inc()
        return problem

    def _log_turned_away(self) -> None:
        problem, id, turned_away = self._one_too_many, self._request, self._turned_away
        for host, number in turned_away.items():
            extra = {
                "client": host,
                "status": problem.status,
                "request": id,
                "times": number,
                "repeats": f"full {host}",
            }
            log.info("refused: %s", problem.detail, extra=extra)
        self._turned_away, self._request = Counter(), secrets.token_hex(8)
        self._answer = raw_answer(problem, self._request)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if self._turned_away:
            self._log_turned_away()
        for connection in tuple(self._open):
            try:
                connection.look(now)
            except Exception:
                log.exception("looking at a connection failed")
        if self._open:
            self._watch()
