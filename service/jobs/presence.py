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
MOST = 0xFFFF  # places of one tenant in one process that are told
LEAVING = 0x67706C76  # advisory lock: one process at a time decides who gives up a place
OTHERS = sa.text("""
    SELECT name, count(pg_locks.pid) FROM unnest(CAST(:names AS text[])) AS name LEFT JOIN pg_locks
    ON locktype = 'advisory' AND granted AND classid::bigint BETWEEN :first AND :last
    AND objid::bigint = hashtext(name)::bigint & 4294967295 AND pg_locks.pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY name
""")


class Presence(Protocol):
    """What one process tells the others, and learns of them."""

    def tell(self, held: Mapping[str, int]) -> None:
        """This process's places, by tenant."""
        ...

    def others(self, tenants: Collection[str]) -> Mapping[str, int]:
        """Places that these tenants hold elsewhere."""
        ...

    def deciding(self) -> AbstractContextManager[bool]:
        """A context in which no other process has a holder give up its place; False: another one is about to."""
        ...


class Alone:
    """There are no other processes."""

    def tell(self, held: Mapping[str, int]) -> None:
        """Nobody."""

    def others(self, tenants: Collection[str]) -> Mapping[str, int]:
        """None."""
        return {}

    @contextmanager
    def deciding(self) -> Iterator[bool]:
        """Always."""
        yield True


class Locks:
    """See above. Used by one thread. Raises SQLAlchemyError where the database is away; what was told is told again."""

    def __init__(self, database: sa.Engine):
        self._database = database.execution_options(isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None
        self._announced: Counter[str] = Counter()

    def tell(self, held: Mapping[str, int]) -> None:
        """Lock and unlock what has changed."""
        wanted = Counter({tenant: min(count, MOST) for tenant, count in held.items()})
        for tenant in wanted.keys() | self._announced.keys():
            for number in range(self._announced[tenant], wanted[tenant]):
                self._call("pg_advisory_lock_shared", PLACE + number, tenant)
            for number in range(wanted[tenant], self._announced[tenant]):
                self._call("pg_advisory_unlock_shared", PLACE + number, tenant)
        self._announced = +wanted

    def others(self, tenants: Collection[str]) -> Mapping[str, int]:
        """Locks of other connections."""
        if not tenants:
            return {}
        names = {"names": sorted(tenants), "first": PLACE, "last": PLACE + MOST}
        with self._connected() as connection:
            return {name: count for name, count in connection.execute(OTHERS, names) if count}

    @contextmanager
    def deciding(self) -> Iterator[bool]:
        """Under a lock of all processes."""
        ours = bool(self._call("pg_try_advisory_lock", LEAVING, ""))
        try:
            yield ours
        finally:
            if ours:
                self._call("pg_advisory_unlock", LEAVING, "")

    def close(self) -> None:
        """Let go of everything."""
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
        """The connection that has the locks; a new one, which has none, after it broke."""
        if self._connection is None:
            self._connection = self._database.connect()
        try:
            yield self._connection
        except sa.exc.SQLAlchemyError:
            self.close()
            raise
