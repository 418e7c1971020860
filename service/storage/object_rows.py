"""Models and datasets."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.errors import StorageUnavailableError
from service.settings import Quota
from service.storage import rows, tables
from service.storage.database import Database
from service.storage.ids import Ids
from service.storage.records import JSON, ObjectKind, Page, StoredObject

PREFIXES: dict[ObjectKind, str] = {"model": "mod", "dataset": "dat"}
TABLE = tables.objects


class Objects:
    """Models and datasets, each a reference to a blob."""

    def __init__(self, database: Database, ids: Ids):
        self._database = database
        self._ids = ids

    def create(
        self,
        tenant: str,
        kind: ObjectKind,
        *,
        name: str,
        digest: str,
        media: str,
        description: JSON,
        whole_description: str | None = None,
        origin: str = "",
        expires: datetime | None = None,
        quota: Quota | None = None,
    ) -> tuple[StoredObject, bool]:
        """Make an object of a blob that is charged to the tenant: the object, and True.

        Where the tenant has an object of this kind and digest already: that one, and False. It keeps its name, and
        expires at the later of both times. Uploads that became the object keep its bytes no longer. Raises QuotaError
        (`entries`), and StorageUnavailableError where the blob was collected meanwhile: send it again.
        """
        for what, value in (("the name", name), ("the media type", media), ("the origin", origin)):
            rows.text(what, value)
        rows.json("the description", description)
        try:
            with self._database.write() as connection:
                rows.lock(connection, tenant)
                if found := _again(connection, tenant, kind, digest, expires):
                    return found, False
                charge = tables.charges.c.tenant == tenant, tables.charges.c.digest == digest
                size = connection.scalar(sa.select(tables.charges.c.size).where(*charge))
                if size is None:
                    raise _collected(digest)
                values: dict[str, Any] = {
                    "id": self._ids.new(PREFIXES[kind]),
                    "tenant": tenant,
                    "kind": kind,
                    "name": name,
                    "digest": digest,
                    "size": size,
                    "media": media,
                    "description": description,
                    "whole_description": whole_description,
                    "origin": origin,
                    "created": datetime.now(UTC),
                    "expires": expires,
                }
                connection.execute(sa.insert(TABLE).values(values))
                rows.check(connection, tenant, quota, ("entries",), 1)
                _let_uploads_go(connection, tenant, kind, digest)
                return StoredObject(**values), True
        except sa.exc.IntegrityError as error:
            raise _collected(digest) from error

    def again(
        self, tenant: str, kind: ObjectKind, digest: str, *, expires: datetime | None = None
    ) -> StoredObject | None:
        """The tenant's object of this kind and digest, if there is one; it then expires at the later of both times."""
        with self._database.write() as connection:
            rows.lock(connection, tenant)
            return _again(connection, tenant, kind, digest, expires)

    def get(self, tenant: str, id: str) -> StoredObject:
        """An object of a tenant. Raises NotFoundError."""
        query = sa.select(TABLE).where(TABLE.c.id == rows.known(id, *PREFIXES.values()), TABLE.c.tenant == tenant)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise rows.absent(id)
        return StoredObject(**row)

    def list(
        self, tenant: str, *, kind: ObjectKind | None = None, after: str | None = None, limit: int = 50
    ) -> Page[StoredObject]:
        """A page of objects, newest first. after: the cursor of the page before; TextError for any other text."""
        query = sa.select(TABLE).where(TABLE.c.tenant == tenant)
        if kind is not None:
            query = query.where(TABLE.c.kind == kind)
        with self._database.read() as connection:
            return rows.page(connection, query, TABLE.c.id, after, limit, lambda row: StoredObject(**row))

    def delete(self, tenant: str, id: str) -> None:
        """Remove an object; unfinished jobs that read it go on. Raises NotFoundError."""
        gone = sa.delete(TABLE).where(TABLE.c.id == rows.known(id, *PREFIXES.values()), TABLE.c.tenant == tenant)
        with self._database.write() as connection:
            if connection.execute(gone).rowcount == 0:
                raise rows.absent(id)

    def expire(self, now: datetime) -> int:
        """Remove objects that have expired. Returns how many."""
        with self._database.write() as connection:
            return connection.execute(sa.delete(TABLE).where(TABLE.c.expires <= now)).rowcount


def _collected(digest: str) -> StorageUnavailableError:
    return StorageUnavailableError(f"the bytes of {digest} are no longer there", "send them again", part="")


def _again(
    connection: Connection, tenant: str, kind: ObjectKind, digest: str, expires: datetime | None
) -> StoredObject | None:
    same = (TABLE.c.tenant == tenant, TABLE.c.kind == kind, TABLE.c.digest == digest)
    row = connection.execute(sa.select(TABLE).where(*same)).mappings().one_or_none()
    if row is None:
        return None
    found = StoredObject(**row)
    _let_uploads_go(connection, tenant, kind, digest)
    latest = max(found.expires, expires) if found.expires and expires else None
    connection.execute(sa.update(TABLE).where(TABLE.c.id == found.id).values(expires=latest))
    return replace(found, expires=latest)


def _let_uploads_go(connection: Connection, tenant: str, kind: ObjectKind, digest: str) -> None:
    """Have uploads keep these bytes no longer, since the object does: once it is deleted they are free."""
    uploads = tables.uploads
    became = (uploads.c.tenant == tenant, uploads.c.kind == kind, uploads.c.digest == digest)
    connection.execute(sa.update(uploads).where(*became).values(digest=None))
