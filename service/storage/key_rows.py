"""Tenants and their keys; service/auth.py knows the texts of keys."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from service.errors import TextError
from service.storage import rows, tables
from service.storage.database import Database
from service.storage.ids import Ids
from service.storage.key_lookup import KeyLookup
from service.storage.records import Key, Tenant, Usage

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


class Keys:
    """Tenants and keys."""

    def __init__(self, database: Database, ids: Ids):
        self._database = database
        self._ids = ids
        self._lookup = KeyLookup(database)

    def create(self, tenant: str, sha256: str, label: str = "", *, alone: bool = False) -> Key:
        """Store a key; its tenant is created with its first one. alone: it replaces the tenant's keys with this label.

        Raises TextError.
        """
        if not TENANT.fullmatch(tenant):
            raise TextError(
                f"{tenant!r} is not the name of a tenant", "use at most 100 letters, digits and . _ @ -, a letter first"
            )
        now = datetime.now(UTC)
        key = Key(self._ids.new("key"), tenant, rows.text("the label", label), sha256, now, None)
        with self._database.write() as connection:
            new_tenant = self._database.insert(tables.tenants).values(name=tenant, created=now)
            connection.execute(new_tenant.on_conflict_do_nothing())
            if alone:
                earlier = (tables.keys.c.tenant == tenant, tables.keys.c.label == key.label)
                connection.execute(sa.delete(tables.keys).where(*earlier))
            connection.execute(sa.insert(tables.keys).values(**vars(key)))
        return key

    def find(self, sha256: str) -> Key | None:
        """The key with this digest, unless it is revoked."""
        query = sa.select(tables.keys).where(tables.keys.c.sha256 == sha256, tables.keys.c.revoked.is_(None))
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return Key(**row) if row else None

    def find_at_once(self, sha256: str) -> Key | None:
        """As `find`, without blocking. Raises NotAtOnceError where that is not possible."""
        return self._lookup.find(sha256)

    def close(self) -> None:
        """Close the connection of `find_at_once`."""
        self._lookup.close()

    def valid(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids are of keys that are not revoked."""
        query = sa.select(tables.keys.c.id).where(tables.keys.c.id.in_(ids), tables.keys.c.revoked.is_(None))
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def list(self, tenant: str | None = None) -> tuple[Key, ...]:
        """All keys, of one tenant or of all, oldest first, revoked ones too."""
        query = sa.select(tables.keys).order_by(tables.keys.c.id)
        if tenant is not None:
            query = query.where(tables.keys.c.tenant == tenant)
        with self._database.read() as connection:
            return tuple(Key(**row) for row in connection.execute(query).mappings())

    def revoke(self, id: str) -> Key:
        """Revoke a key; once revoked it stays so. Raises NotFoundError."""
        ours = tables.keys.c.id == rows.known(id, "key")
        with self._database.write() as connection:
            fresh = sa.update(tables.keys).where(ours, tables.keys.c.revoked.is_(None))
            connection.execute(fresh.values(revoked=datetime.now(UTC)))
            row = connection.execute(sa.select(tables.keys).where(ours)).mappings().one_or_none()
        if row is None:
            raise rows.absent(id)
        return Key(**row)

    def tenants(self) -> tuple[Tenant, ...]:
        """All tenants, by name."""
        with self._database.read() as connection:
            query = sa.select(tables.tenants).order_by(tables.tenants.c.name)
            return tuple(Tenant(**row) for row in connection.execute(query).mappings())

    def usage(self, tenant: str) -> Usage:
        """What the tenant has now, as quotas count it."""
        with self._database.read() as connection:
            return rows.usage(connection, tenant)
