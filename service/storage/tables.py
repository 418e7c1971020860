"""The tables, as the newest migration leaves them; a test compares the two.

    tenants ─┬─ keys
             ├─ objects ──────────── blobs
             ├─ uploads ─ parts ┄┄┄┄ blobs (once complete)
             └─ jobs ──── job_blobs ─ blobs

A blob lives while a row of objects, uploads or job_blobs refers to it, and for the grace period after `held`. Columns
that are compared in order (ids, digests) sort by bytes in every database.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware time, in UTC. SQLite has no zones: there it is written without one."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware → as the database takes it."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As the database gives it → aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _sorted_text(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


ID = _sorted_text(30)
DIGEST = _sorted_text(64)
NAME = sa.String(255)
JSON = sa.JSON(none_as_null=True)

metadata = sa.MetaData(naming_convention=CONVENTION)


def _tenant() -> sa.Column[Any]:
    return sa.Column("tenant", NAME, sa.ForeignKey("tenants.name"), nullable=False)


def _digest(nullable: bool = False) -> sa.Column[Any]:
    return sa.Column("digest", DIGEST, sa.ForeignKey("blobs.digest"), nullable=nullable, index=True)


tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("created", Moment, nullable=False),
)
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", ID, primary_key=True),
    _tenant(),
    sa.Column("label", NAME, nullable=False),
    sa.Column("sha256", DIGEST, nullable=False, unique=True),
    sa.Column("created", Moment, nullable=False),
    sa.Column("revoked", Moment),
)
blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("digest", DIGEST, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("held", Moment, nullable=False, index=True),
)
objects = sa.Table(
    "objects",
    metadata,
    sa.Column("id", ID, primary_key=True),
    _tenant(),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", NAME, nullable=False),
    _digest(),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("media", NAME, nullable=False),
    sa.Column("description", JSON, nullable=False),
    sa.Column("origin", NAME, nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.Column("expires", Moment, index=True),
    sa.UniqueConstraint("tenant", "kind", "digest"),
    sa.Index(None, "tenant", "id"),
)
uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", ID, primary_key=True),
    _tenant(),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("metadata", JSON, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    _digest(nullable=True),
    sa.Column("created", Moment, nullable=False),
    sa.Column("expires", Moment, index=True),
    sa.Index(None, "tenant", "id"),
)
parts = sa.Table(
    "parts",
    metadata,
    sa.Column("upload", ID, sa.ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("name", NAME, nullable=False),
)
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", ID, primary_key=True),
    _tenant(),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("request", JSON, nullable=False),
    sa.Column("request_digest", DIGEST, nullable=False),
    sa.Column("idempotency_key", NAME),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("error", JSON),
    sa.Column("result", JSON),
    sa.Column("created", Moment, nullable=False),
    sa.Column("started", Moment),
    sa.Column("finished", Moment),
    sa.Column("expires", Moment, index=True),
    sa.UniqueConstraint("tenant", "idempotency_key"),
    sa.Index(None, "tenant", "id"),
    sa.Index(None, "state", "tenant"),
)
job_blobs = sa.Table(
    "job_blobs",
    metadata,
    sa.Column("job", ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),  # input, part or artifact
    sa.Column("name", NAME, primary_key=True),
    _digest(),
)
REFERRING = (objects, uploads, job_blobs)
