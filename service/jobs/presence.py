"""Which tenants hold how many places in other processes, so that nobody holds all places of all machines.

On PostgreSQL each place is a lock, shared and advisory, of a connection that the process keeps: it is gone with the
process, however that ends. The second place that a tenant holds in a process is another lock than the first.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

PLACE = 0x67710000  # advisory locks: the first of two numbers, of a tenant's first place in a process
MOST = 0xFFFF  # places of one tenant in one process that others can see
LEAVING = 0x67706C76  # advisory lock: one process at a time decides who gives up a place
OTHERS = sa.text("""
    SELECT name, count(pg_locks.pid) FROM unnest(CAST(:names AS text[])) AS name LEFT JOIN pg_locks
    ON locktype = 'advisory' AND granted AND classid::bigint BETWEEN :first AND :last
    AND objid::bigint = hashtext(name)::bigint & 4294967295 AND pg_locks.pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY name
""")


class Presence(Protocol):
    """How a process shows its places to other processes, and sees theirs."""

    def announce(self, held: Mapping[str, int]) -> None:
        """Show how many places each tenant holds in this process."""
        ...

    def others(self, tenants: Collection[str]) -> Mapping[str, int]:
        """How many places each of these tenants holds in other processes."""
        ...

    def deciding(self) -> AbstractContextManager[bool]:
        """A context in which no other process makes a holder give its place up; False if another one does so now."""
        ...


class SingleProcess:
    """The presence of a process beside which there are no others."""

    def announce(self, held: Mapping[str, int]) -> None:
        """Do nothing: nobody looks."""

    def others(self, tenants: Collection[str]) -> Mapping[str, int]:
        """No places."""
        return {}

    @contextmanager
    def deciding(self) -> Iterator[bool]:
        """A context that is always True."""
        yield True


class PlaceLocks:
    """Places as advisory locks of PostgreSQL, as the module describes them. For one thread.

    Its methods raise SQLAlchemyError where the database does not answer; the next `announce` takes all locks again.
    """

    def __init__(self, database: sa.Engine):
        self._database = database.execution_options(isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None
        self._announced: Counter[str] = Counter()

    def announce(self, held: Mapping[str, int]) -> None:
        """Lock places that are new, and unlock those that are gone."""
        wanted = Counter({tenant: min(count, MOST) for tenant, count in held.items()})
        for tenant in wanted.keys() | self._announced.keys():
            for number in range(self._announced[tenant], wanted[tenant]):
                self._call("pg_advisory_lock_shared", PLACE + number, tenant)
            for number in range(wanted[tenant], self._announced[tenant]):
                self._call("pg_advisory_unlock_shared", PLACE + number, tenant)
        self._announced = +wanted

    def others(self, tenants: Collection[str]) -> Mapping[str, int]:
        """Count the locks that other connections hold."""
        if not tenants:
            return {}
        names = {"names": sorted(tenants), "first": PLACE, "last": PLACE + MOST}
        with self._connected() as connection:
            return {name: count for name, count in connection.execute(OTHERS, names) if count}

    @contextmanager
    def deciding(self) -> Iterator[bool]:
        """A context that is True while this process holds the lock for decisions."""
        ours = bool(self._call("pg_try_advisory_lock", LEAVING, ""))
        try:
            yield ours
        finally:
            if ours:
                self._call("pg_advisory_unlock", LEAVING, "")

    def close(self) -> None:
        """Release all locks, with their connection."""
        if self._connection is not None:
            if not self._connection.invalidated:
                self._connection.detach()  # not back into the pool: it has locks
            self._connection.close()
            self._connection, self._announced = None, Counter()

    def _call(self, function: str, number: int, text: str) -> object:
        with self._connected() as connection:
            return connection.scalar(
                sa.text(f"SELECT {function}(:number, hashtext(:text))"), {"number": number, "text": text}
            )

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """The connection that holds the locks; after it broke, a new one, which holds none."""
        if self._connection is None:
            self._connection = self._database.connect()
        try:
            yield self._connection
        except sa.exc.SQLAlchemyError:
            self.close()
            raise
