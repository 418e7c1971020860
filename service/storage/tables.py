"""The tables, as the newest migration leaves them; a test compares the two.

    tenants ─┬─ keys
             ├─ charges ────────────── blobs
             ├─ reservations ┄┄┄┄┄┄┄┄ charges (once its bytes are in place)
             ├─ objects ────────────── charges (its bytes, and those of a long description)
             ├─ uploads ─ parts ┄┄┄┄┄ charges (once complete, until it is an object)
             └─ jobs ─┬── job_blobs ── charges
                      └── attempts

A charge says that a blob counts on a tenant's account. It stays while a row of that tenant refers to it, the blob while
there is a charge: what is not referred to is collected, see ledger.py. Columns that are compared in order (ids,
digests) sort by bytes in every database.
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
        """An aware time, as the database stores it."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """A time that the database gives, as an aware one."""
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


def _digest(name: str = "digest", nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, DIGEST, nullable=nullable, index=True)


def _charged(name: str = "digest") -> sa.ForeignKeyConstraint:
    """A foreign key: this blob is charged to the tenant."""
    return sa.ForeignKeyConstraint(["tenant", name], ["charges.tenant", "charges.digest"])


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
charges = sa.Table(
    "charges",
    metadata,
    sa.Column("tenant", NAME, sa.ForeignKey("tenants.name"), primary_key=True),
    sa.Column("digest", DIGEST, sa.ForeignKey("blobs.digest"), primary_key=True, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
)
reservations = sa.Table(  # of bytes that are being written
    "reservations",
    metadata,
    sa.Column("id", ID, primary_key=True),
    _tenant(),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    _digest(nullable=True),
    sa.Column("renewed", Moment, nullable=False, index=True),
    _charged(),
    sa.Index(None, "tenant"),
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
    _digest("whole_description", nullable=True),
    sa.Column("origin", NAME, nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.Column("expires", Moment, index=True),
    _charged(),
    _charged("whole_description"),
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
    sa.Column("sha256", DIGEST),  # of all its bytes, once they are there
    _digest(nullable=True),
    sa.Column("created", Moment, nullable=False),
    sa.Column("expires", Moment, index=True),
    sa.Column("ended", Moment, index=True),  # nobody sees it any more; it counts until its pieces are gone
    _charged(),
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
    sa.Column("reserved", sa.BigInteger, nullable=False, server_default="0"),  # bytes of its files until it is finished
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
    _tenant(),
    _digest(),
    _charged(),
)
attempts = sa.Table(  # steps that run, and steps whose process died in them
    "attempts",
    metadata,
    sa.Column("workflow", NAME, primary_key=True),
    sa.Column("job", ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("process", NAME),
    sa.Column("deaths", sa.Integer, nullable=False),
)
REFERRING = (  # columns that refer to a charge, with the tenant beside them
    reservations.c.digest,
    objects.c.digest,
    objects.c.whole_description,
    uploads.c.digest,
    job_blobs.c.digest,
)
