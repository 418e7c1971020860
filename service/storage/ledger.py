"""The accounts: which blob is charged to which tenant, and what is reserved for bytes that are being written.

    reserve (> grow) > [bytes are written] > hold > [bytes are put in place] > settle > [referred to, or not] > release

`reserve` counts bytes before the first is written, and `grow` before there are more. `hold` charges the blob to the
tenant before it is in place: from then on the charge counts instead of the reservation, or, where the tenant had that
charge before, beside it until `settle`. The reservation refers to the charge, and keeps it until it is released. By
then a row of the tenant refers to the charge, or it is collected: what was refused leaves nothing behind. So

    bytes on disk ≤ Σ charges + Σ reservations + Σ uploads that are not complete          at every moment

A process that dies leaves its reservations. Those that nobody renews are released after the grace period, once what was
written is gone.

`collect` locks a blob's row, deletes the charge, which foreign keys forbid where anything refers to it, and removes the
bytes with the last charge, within the same transaction. `hold` takes the same row first. Whichever comes first, the
other waits for it. Held first: the collector sees a charge and leaves the blob. Collected first: the upload finds the
bytes gone when it puts its own in place, and stores them.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.errors import NotFoundError, StorageUnavailableError
from service.settings import Quota
from service.storage import rows, tables
from service.storage.database import Database
from service.storage.ids import Ids

BLOBS, CHARGES, RESERVATIONS = tables.blobs, tables.charges, tables.reservations
AHEAD = 2**23  # bytes that a reservation grows by at least, where there is room
Remove = Callable[[str], None]


@dataclass
class Reservation:
    """Room for one blob; see blobs.Room. `job`: the one whose own reserve it is taken from."""

    ledger: "Ledger"
    id: str
    tenant: str
    quota: Quota | None
    job: str
    granted: int

    def need(self, size: int) -> None:
        """Make sure that there is room for so many bytes in all. Raises QuotaError."""
        if size > self.granted:
            self.granted = self.ledger.grow(self, size)

    def hold(self, digest: str, size: int) -> None:
        """Charge the blob, which the written bytes are, to the tenant."""
        if self.ledger.hold(self, digest, size):
            self.granted = 0

    def settle(self) -> None:
        """Count the bytes by their charge alone, since they are in place."""
        self.granted = 0
        self.ledger.settle(self)


class Ledger:
    """The rows of blobs, charges and reservations. `remove` deletes the bytes of a blob."""

    def __init__(self, database: Database, ids: Ids):
        self._database = database
        self._ids = ids
        self._lock = threading.Lock()
        self._open: set[str] = set()  # reservations of this process

    def reserve(self, tenant: str, size: int, quota: Quota | None = None, job: str = "") -> Reservation:
        """Reserve room for `size` bytes, until `release`. Raises QuotaError."""
        id = self._ids.new("res")
        values = {"id": id, "tenant": tenant, "bytes": size, "renewed": datetime.now(UTC)}
        with self._database.write() as connection:
            rows.lock(connection, tenant)
            connection.execute(sa.insert(RESERVATIONS).values(values))
            if size:
                rows.check(connection, tenant, quota, ("bytes",), size, job)
        with self._lock:
            self._open.add(id)
        return Reservation(self, id, tenant, quota, job, size)

    def grow(self, reservation: Reservation, size: int) -> int:
        """Enlarge a reservation to `size` bytes, and by AHEAD where there is room.

        Returns its size. Raises QuotaError.
        """
        wanted, limit = size + max(AHEAD, size // 8), reservation.quota.bytes if reservation.quota else 0
        with self._database.write() as connection:
            rows.lock(connection, reservation.tenant)
            if limit:
                used = rows.usage(connection, reservation.tenant, reservation.job).bytes - reservation.granted
                if used + size > limit:
                    raise rows.over("bytes", limit, used, size)
                wanted = min(wanted, limit - used)
            _change(connection, reservation, bytes=wanted)
        return wanted

    def hold(self, reservation: Reservation, digest: str, size: int) -> bool:
        """Charge a blob to the reservation's tenant; until it is released the charge stays.

        Returns whether the charge is new: the reservation counts no bytes then, since its charge does. Where the tenant
        stores the same bytes twice at once, the scratch file of the first thus counts no more once the second are in
        place, for the moment until it is in place, too; for one of a dead process, until it is abandoned.
        """
        now = datetime.now(UTC)
        blob = self._database.insert(BLOBS).values(digest=digest, size=size, held=now)
        charge = self._database.insert(CHARGES).values(tenant=reservation.tenant, digest=digest, size=size)
        with self._database.write() as connection:
            connection.execute(blob.on_conflict_do_update(index_elements=["digest"], set_={"held": now}))
            is_new = connection.scalar(charge.on_conflict_do_nothing().returning(CHARGES.c.digest)) is not None
            _change(connection, reservation, digest=digest, **({"bytes": 0} if is_new else {}))
        return is_new

    def keep(self, reservation: Reservation, digest: str) -> None:
        """Have the reservation keep a blob that is charged to its tenant already. Raises NotFoundError."""
        try:
            with self._database.write() as connection:
                _change(connection, reservation, digest=digest)
        except sa.exc.IntegrityError as error:
            raise NotFoundError("the bytes are no longer there", "send them again") from error

    def settle(self, reservation: Reservation) -> None:
        """Set a reservation to no bytes: they are in place, and nowhere else."""
        with self._database.write() as connection:
            _change(connection, reservation, bytes=0)

    def release(self, id: str, remove: Remove) -> None:
        """End a reservation, whose scratch file is gone. The blob that it kept is collected if nothing refers to it."""
        ended = sa.delete(RESERVATIONS).where(RESERVATIONS.c.id == id)
        with self._lock:
            self._open.discard(id)
        with self._database.write() as connection:
            row = connection.execute(ended.returning(RESERVATIONS.c.tenant, RESERVATIONS.c.digest)).one_or_none()
        if row is not None and row.digest is not None:
            self.collect(row.tenant, row.digest, remove)

    def renew(self) -> int:
        """Note that the reservations of this process are alive. Returns how many there are."""
        with self._lock:
            ids = tuple(self._open)
        if ids:
            with self._database.write() as connection:
                ours = sa.update(RESERVATIONS).where(RESERVATIONS.c.id.in_(ids))
                connection.execute(ours.values(renewed=datetime.now(UTC)))
        return len(ids)

    def stale(self, before: datetime) -> tuple[str, ...]:
        """Ids of reservations that nobody has renewed since `before`."""
        with self._database.read() as connection:
            return tuple(connection.scalars(sa.select(RESERVATIONS.c.id).where(RESERVATIONS.c.renewed < before)))

    def reserved(self, ids: Collection[str]) -> frozenset[str]:
        """Which of these ids are reservations."""
        with self._database.read() as connection:
            return frozenset(connection.scalars(sa.select(RESERVATIONS.c.id).where(RESERVATIONS.c.id.in_(ids))))

    def unreferenced(self, limit: int, tenant: str | None = None) -> tuple[tuple[str, str], ...]:
        """Tenant and digest of charges that nothing refers to, of one tenant or of all."""
        query = sa.select(CHARGES.c.tenant, CHARGES.c.digest).where(*map(_unused, tables.REFERRING))
        if tenant is not None:
            query = query.where(CHARGES.c.tenant == tenant)
        with self._database.read() as connection:
            return tuple((row.tenant, row.digest) for row in connection.execute(query.limit(limit)))

    def collect(self, tenant: str, digest: str, remove: Remove) -> int | None:
        """End a charge that nothing refers to, and with its last charge the blob. Returns the bytes removed, or None.

        Where `remove` fails all stays as it is, and is collected the next time.
        """
        charge = sa.delete(CHARGES).where(CHARGES.c.tenant == tenant, CHARGES.c.digest == digest)
        try:
            with self._database.write() as connection:
                self._lock_blob(connection, digest)
                connection.execute(charge)
                return _remove(connection, digest, remove)
        except sa.exc.IntegrityError:  # of the DELETE, before anything is removed: something refers to it
            return None

    def unclaimed(self, before: datetime, limit: int) -> tuple[str, ...]:
        """Blobs that are charged to no tenant, and were last stored before this time: those that `adopt` found."""
        query = sa.select(BLOBS.c.digest).where(BLOBS.c.held < before, _uncharged())
        with self._database.read() as connection:
            return tuple(connection.scalars(query.order_by(BLOBS.c.held).limit(limit)))

    def drop(self, digest: str, before: datetime, remove: Remove) -> int | None:
        """Remove an unclaimed blob. Returns its bytes; None where somebody stored it meanwhile."""
        with self._database.write() as connection:
            self._lock_blob(connection, digest)
            held = connection.scalar(sa.select(BLOBS.c.held).where(BLOBS.c.digest == digest))
            return _remove(connection, digest, remove) if held is not None and held < before else None

    def adopt(self, sizes: Mapping[str, int]) -> int:
        """Record blobs that only the store knows, as after restoring a backup. Returns how many."""
        now = datetime.now(UTC)
        with self._database.write() as connection:
            there = set(connection.scalars(sa.select(BLOBS.c.digest).where(BLOBS.c.digest.in_(sizes))))
            new = [{"digest": each, "size": sizes[each], "held": now} for each in sizes.keys() - there]
            if new:
                connection.execute(self._database.insert(BLOBS).on_conflict_do_nothing(), new)
        return len(new)

    def total(self) -> tuple[int, int]:
        """How many blobs there are, and their bytes: for metrics."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(BLOBS.c.size), 0))).one()
        return int(row[0]), int(row[1])

    def _lock_blob(self, connection: Connection, digest: str) -> None:
        connection.execute(sa.select(BLOBS.c.digest).where(BLOBS.c.digest == digest).with_for_update())


def _change(connection: Connection, reservation: Reservation, **values: object) -> None:
    """Change a reservation. Raises StorageUnavailableError where it was released, as one of a process that is gone."""
    ours = sa.update(RESERVATIONS).where(RESERVATIONS.c.id == reservation.id)
    if not connection.execute(ours.values(renewed=datetime.now(UTC), **values)).rowcount:
        raise StorageUnavailableError("the write was abandoned", "send it again", part="")


def _unused(column: sa.Column[str]) -> sa.ColumnElement[bool]:
    return ~sa.exists().where(column == CHARGES.c.digest, column.table.c.tenant == CHARGES.c.tenant)


def _uncharged() -> sa.ColumnElement[bool]:
    return ~sa.exists().where(CHARGES.c.digest == BLOBS.c.digest)


def _remove(connection: Connection, digest: str, remove: Remove) -> int | None:
    """Remove a blob whose row is locked, unless it is charged to somebody."""
    gone = sa.delete(BLOBS).where(BLOBS.c.digest == digest, _uncharged()).returning(BLOBS.c.size)
    size = connection.scalar(gone)
    if size is None:
        return None
    remove(digest)
    return int(size)
