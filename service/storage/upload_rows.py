"""Resumable uploads, and which of their pieces are durable. service/storage/uploads.py stores the bytes.

created > [pieces] > complete > an object of them > expired or deleted (ended) > pieces gone (forgotten)
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from graphpass.wording import counted
from service.errors import OffsetError, QuotaError, StorageUnavailableError
from service.settings import Quota
from service.storage import rows, tables
from service.storage.database import Database
from service.storage.ids import Ids
from service.storage.records import JSON, ObjectKind, Upload

MOST_PIECES, LEAST_PIECE = 1000, 2**16  # of an upload: so many of any size, the others have so many bytes on average
TABLE = tables.uploads
SHOWN = tuple(TABLE.c[name] for name in Upload.__dataclass_fields__)


class Uploads:
    """Uploads and their pieces."""

    def __init__(self, database: Database, ids: Ids):
        self._database = database
        self._ids = ids

    def create(
        self,
        tenant: str,
        kind: ObjectKind,
        *,
        name: str,
        length: int,
        metadata: JSON,
        expires: datetime | None = None,
        quota: Quota | None = None,
    ) -> Upload:
        """An empty upload of `length` bytes, which count towards the quota from now on. Raises QuotaError."""
        values: dict[str, Any] = {
            "id": self._ids.new("upl"),
            "tenant": tenant,
            "kind": kind,
            "name": rows.text("the name", name),
            "metadata": rows.json("the metadata", metadata),
            "length": length,
            "offset": 0,
            "sha256": None,
            "created": datetime.now(UTC),
            "expires": expires,
        }
        with self._database.write() as connection:
            rows.lock(connection, tenant)
            connection.execute(sa.insert(TABLE).values(values))
            rows.check(connection, tenant, quota, ("bytes",), length)
            rows.check(connection, tenant, quota, ("entries",), 1)
        return Upload(**values)

    def get(self, tenant: str, id: str) -> Upload:
        """An upload of a tenant. Raises NotFoundError."""
        with self._database.read() as connection:
            return _one(connection, tenant, id)

    def require(self, tenant: str, id: str, offset: int, size: int) -> None:
        """Raise OffsetError unless the offset of the upload is `offset` and has room for so many bytes.

        Raises QuotaError (`pieces`) where it came in very many that are small: each has a row, and a file in S3.
        """
        upload = self.get(tenant, id)
        if upload.sha256 or upload.offset != offset or upload.length < offset + size:
            raise _misplaced(upload, offset, size)
        most = MOST_PIECES + upload.length // LEAST_PIECE
        with self._database.read() as connection:
            query = sa.select(sa.func.count()).where(tables.parts.c.upload == id)
            pieces = connection.scalar(query) or 0
        if size and pieces >= most:
            what = f"upload {id} came in {pieces:,} pieces, of which it may have {most:,}"
            raise QuotaError(what, "begin a new one, and send larger pieces", "pieces", most, pieces)

    def append(self, tenant: str, id: str, offset: int, part: str, size: int) -> Upload:
        """Record a stored piece. Raises OffsetError unless the offset of the upload is `offset` and has room for it."""
        with self._database.write() as connection:
            fits = (TABLE.c.offset == offset, TABLE.c.length >= offset + size, TABLE.c.sha256.is_(None))
            advance = sa.update(TABLE).where(*_ours(tenant, id), *fits).values(offset=offset + size)
            if connection.execute(advance).rowcount == 0:
                raise _misplaced(_one(connection, tenant, id), offset, size)
            connection.execute(sa.insert(tables.parts).values(upload=id, offset=offset, size=size, name=part))
            return _one(connection, tenant, id)

    def parts(self, tenant: str, id: str) -> tuple[str, ...]:
        """Names of the pieces of an upload, in order. Raises NotFoundError."""
        with self._database.read() as connection:
            _one(connection, tenant, id)
            query = sa.select(tables.parts.c.name).where(tables.parts.c.upload == id).order_by(tables.parts.c.offset)
            return tuple(connection.scalars(query))

    def complete(self, tenant: str, id: str, digest: str) -> Upload:
        """Record the blob that holds all bytes, charged to the tenant.

        The upload keeps it until an object is made of it.
        """
        try:
            with self._database.write() as connection:
                upload = _one(connection, tenant, id)
                if upload.offset < upload.length:
                    raise _misplaced(upload, upload.length, 0)
                connection.execute(sa.update(TABLE).where(*_ours(tenant, id)).values(digest=digest, sha256=digest))
                connection.execute(sa.delete(tables.parts).where(tables.parts.c.upload == id))
                return _one(connection, tenant, id)
        except sa.exc.IntegrityError as error:
            raise StorageUnavailableError(
                f"the bytes of {id} are no longer there", "send them again", part=""
            ) from error

    def end(self, tenant: str, id: str) -> None:
        """Hide an upload from its tenant.

        It counts until `forget`, when its pieces are deleted. Raises NotFoundError.
        """
        with self._database.write() as connection:
            if connection.execute(_ended(datetime.now(UTC), *_ours(tenant, id))).rowcount == 0:
                raise rows.absent(id)

    def expire(self, now: datetime) -> int:
        """End uploads that have expired. Returns how many."""
        with self._database.write() as connection:
            return connection.execute(_ended(now, TABLE.c.expires <= now, TABLE.c.ended.is_(None))).rowcount

    def ended(self) -> tuple[str, ...]:
        """Ids of uploads that have ended, whose pieces have to be deleted."""
        with self._database.read() as connection:
            return tuple(connection.scalars(sa.select(TABLE.c.id).where(TABLE.c.ended.is_not(None))))

    def forget(self, id: str) -> None:
        """Remove the row of an upload that has ended, once its pieces are gone."""
        with self._database.write() as connection:
            connection.execute(sa.delete(TABLE).where(TABLE.c.id == id, TABLE.c.ended.is_not(None)))

    def with_parts(self, ids: frozenset[str]) -> frozenset[str]:
        """Which of these uploads still need their pieces."""
        query = sa.select(TABLE.c.id).where(TABLE.c.id.in_(ids), TABLE.c.sha256.is_(None), TABLE.c.ended.is_(None))
        with self._database.read() as connection:
            return frozenset(connection.scalars(query))


def _ended(now: datetime, *where: sa.ColumnElement[bool]) -> sa.Update:
    return sa.update(TABLE).where(*where).values(ended=now, digest=None)


def _ours(tenant: str, id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return TABLE.c.id == rows.known(id, "upl"), TABLE.c.tenant == tenant, TABLE.c.ended.is_(None)


def _one(connection: Connection, tenant: str, id: str) -> Upload:
    row = connection.execute(sa.select(*SHOWN).where(*_ours(tenant, id))).mappings().one_or_none()
    if row is None:
        raise rows.absent(id)
    return Upload(**row)


def _misplaced(upload: Upload, offset: int, size: int) -> OffsetError:
    if upload.sha256:
        return OffsetError(f"upload {upload.id} is complete", "use it", upload.offset)
    if offset != upload.offset:
        return OffsetError(
            f"upload {upload.id} stands at byte {upload.offset}, not at {offset}",
            f"go on at {upload.offset}",
            upload.offset,
        )
    return OffsetError(
        f"upload {upload.id} has {counted(upload.length, 'byte')}, and {size} more at {offset} would be too many",
        "send what was announced",
        upload.offset,
    )
