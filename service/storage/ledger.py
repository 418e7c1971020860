"""The list of all blobs, which orders uploads and garbage collection.

An upload *holds* its digest before its bytes are put in place: that writes the time into the blob's row. Garbage
collection locks a blob's row unless it was held lately, deletes it, which foreign keys forbid where anything refers to
it, and removes the bytes within the same transaction. The row orders the two: whichever comes first, the other waits
for it. Held first: the collector sees a fresh time and leaves the blob. Collected first: the upload finds the bytes
gone when it puts its own in place, and stores them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from service.storage import tables
from service.storage.database import Database

TABLE = tables.blobs


class Ledger:
    """The rows of blobs."""

    def __init__(self, database: Database):
        self._database = database

    def hold(self, digest: str, size: int) -> None:
        """Put a blob on the list, or keep it there for the grace period."""
        now = datetime.now(UTC)
        insert = self._database.insert(TABLE).values(digest=digest, size=size, held=now)
        with self._database.write() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=["digest"], set_={"held": now}))

    def adopt(self, sizes: Mapping[str, int]) -> int:
        """Put blobs on the list that are in the store and not on it, as after restoring a backup; how many."""
        now = datetime.now(UTC)
        with self._database.write() as connection:
            there = set(connection.scalars(sa.select(TABLE.c.digest).where(TABLE.c.digest.in_(sizes))))
            new = [{"digest": each, "size": sizes[each], "held": now} for each in sizes.keys() - there]
            if new:
                connection.execute(self._database.insert(TABLE).on_conflict_do_nothing(), new)
        return len(new)

    def unreferenced(self, before: datetime, limit: int) -> tuple[str, ...]:
        """Digests held last before this time that nothing refers to now."""
        unused = (~sa.exists().where(table.c.digest == TABLE.c.digest) for table in tables.REFERRING)
        query = sa.select(TABLE.c.digest).where(TABLE.c.held < before, *unused)
        with self._database.read() as connection:
            return tuple(connection.scalars(query.order_by(TABLE.c.held).limit(limit)))

    def collect(self, digest: str, before: datetime, remove: Callable[[str], None]) -> int | None:
        """Take a blob off the list and `remove` its bytes, unless it is used or was held since; its size, or None.

        Where `remove` fails the blob stays on the list, and is collected the next time.
        """
        row = sa.select(TABLE.c.size).where(TABLE.c.digest == digest, TABLE.c.held < before)
        try:
            with self._database.write() as connection:
                size = connection.scalar(row.with_for_update(skip_locked=True))
                if size is None:
                    return None
                connection.execute(sa.delete(TABLE).where(TABLE.c.digest == digest))
                remove(digest)
                return int(size)
        except sa.exc.IntegrityError:  # of the DELETE, before anything is removed: something refers to it
            return None

    def total(self) -> tuple[int, int]:
        """How many blobs there are, and their bytes: for metrics."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(TABLE.c.size), 0))).one()
        return int(row[0]), int(row[1])
