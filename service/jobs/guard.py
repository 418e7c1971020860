"""Workers that never come back: on PostgreSQL each live worker holds an advisory lock named after its executor.

A worker that starts again takes up its own jobs. One whose host is gone cannot; survivors look for executors that have
running jobs and whose lock is free, and take the jobs over when it was free in two looks, `PATIENCE` apart. A worker
that lives but lost its connection locks again before that; DBOS refuses what a deposed worker writes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import psycopg
import sqlalchemy as sa

from service.errors import SettingsError
from service.jobs.engine import KEEPALIVES
from service.storage.database import Database

SPACE = 0x67706173  # advisory locks of graphpass: first of the two numbers
QUEUES = 0x67707175  # the same, for locks that say which queues a worker listens to
EVERY, PATIENCE = 5.0, 15.0
WAIT_FOR_OWN = 25.0  # a worker that starts again may find the lock of its dead self for so long
log = logging.getLogger(__name__)
LISTENING = f"""
    SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid
    WHERE datname = current_database() AND locktype = 'advisory' AND granted
    AND classid::bigint = {QUEUES} AND objid::bigint = hashtext(:queue)::bigint & 4294967295
"""


def workers_on(queue: str, database: Database) -> int:
    """How many live workers listen to a queue of this PostgreSQL."""
    with database.read() as connection:
        return int(connection.scalar(sa.text(LISTENING), {"queue": queue}) or 0)


class Guard(threading.Thread):
    """A thread that holds this worker's lock and watches the locks of the others.

    Call `lock_own`, then `watch` and `start`; at the end call `stop`.
    """

    def __init__(
        self,
        url: str,
        executor: str,
        queues: Sequence[str],
        *,
        every: float = EVERY,
        patience: float = PATIENCE,
    ):
        super().__init__(name="guard", daemon=True)
        self._url, self._executor, self._queues = url, executor, queues
        self._owners: Callable[[], Iterable[str]] = tuple
        self._recover: Callable[[str], None] = lambda owner: None
        self._every, self._patience = every, patience
        self._ended = threading.Event()
        self._free_since: dict[str, float] = {}
        self._connection: psycopg.Connection | None = None

    def lock_own(self, wait: float = WAIT_FOR_OWN) -> None:
        """Take this worker's lock. Raises SettingsError where another live worker has the same executor id."""
        deadline = time.monotonic() + wait
        self._connection = self._connect()
        while not self._try_lock(self._executor):
            if time.monotonic() > deadline:
                self._connection.close()
                raise SettingsError(
                    f"another worker runs as GRAPHPASS_EXECUTOR_ID={self._executor}",
                    "give every worker an id of its own, the same after a restart",
                )
            time.sleep(0.5)

    def watch(self, owners: Callable[[], Iterable[str]], recover: Callable[[str], None]) -> None:
        """Say what to watch.

        owners: gives the executors that have running jobs; recover: takes over the jobs of one.
        """
        self._owners, self._recover = owners, recover

    def run(self) -> None:
        """Watch the other workers until stopped."""
        while not self._ended.wait(self._every):
            try:
                self.look()
            except (psycopg.Error, OSError) as error:
                log.warning("guard: the database is away (%s); locking again", error)
                self._lock_again()
            except Exception:
                log.exception("guard: could not look after the other workers")

    def look(self, now: float | None = None) -> None:
        """Look once at the executors that have running jobs, and take over from those that are gone."""
        now = time.monotonic() if now is None else now
        free = {owner for owner in set(self._owners()) - {self._executor} if self._is_free(owner)}
        self._free_since = {owner: self._free_since.get(owner, now) for owner in free}
        for owner, since in list(self._free_since.items()):
            if now - since >= self._patience:
                log.warning("guard: worker %s does not come back; taking over its jobs", owner)
                self._recover(owner)
                del self._free_since[owner]

    def stop(self) -> None:
        """End the thread and release the lock."""
        self._ended.set()
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> "psycopg.Connection":
        connection = psycopg.connect(self._url, autocommit=True, application_name=self._executor, **KEEPALIVES)  # type: ignore[arg-type]
        for name, value in (("idle", 5), ("interval", 5), ("count", 2)):  # the server notices a dead host, too
            connection.execute(f"SET tcp_keepalives_{name} = {value}".encode())
        for queue in self._queues:  # shared with all others that listen to it
            connection.execute(b"SELECT pg_advisory_lock_shared(%s, hashtext(%s))", (QUEUES, queue))
        return connection

    def _lock_again(self) -> None:
        """Lock again after the connection was lost. Until this succeeds, other workers count this one as gone."""
        if self._connection is not None:
            self._connection.close()
        try:
            self._connection = self._connect()
            if not self._try_lock(self._executor):
                log.error("guard: another worker runs as %s", self._executor)
        except (psycopg.Error, OSError) as error:
            log.warning("guard: the database is still away (%s)", error)

    def _try_lock(self, executor: str) -> bool:
        return self._ask("SELECT pg_try_advisory_lock(%s, hashtext(%s))", executor)

    def _is_free(self, executor: str) -> bool:
        if not self._try_lock(executor):
            return False
        self._ask("SELECT pg_advisory_unlock(%s, hashtext(%s))", executor)
        return True

    def _ask(self, query: str, executor: str) -> bool:
        if self._connection is None:
            raise psycopg.OperationalError("not connected")
        row = self._connection.execute(query.encode(), (SPACE, executor)).fetchone()
        return bool(row and row[0])
