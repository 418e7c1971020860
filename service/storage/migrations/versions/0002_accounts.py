"""Accounts: charges and reservations, what a step's process died of, and no long texts in rows."""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NAME = sa.String(255)
ID = sa.String(30).with_variant(sa.String(30, collation="C"), "postgresql")
DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
CHARGE = ["charges.tenant", "charges.digest"]
REFERENCES = """
    SELECT tenant, digest FROM objects UNION SELECT tenant, digest FROM uploads WHERE digest IS NOT NULL
    UNION SELECT jobs.tenant, job_blobs.digest FROM job_blobs JOIN jobs ON jobs.id = job_blobs.job
"""
LONG = 16384  # characters of a description
ERROR = 2000  # of each text of an error


def upgrade() -> None:
    """Whoever refers to a blob is charged for it. Uploads that are not complete have to begin again."""
    _create_tables()
    op.execute(
        f"INSERT INTO charges (tenant, digest, size) SELECT found.tenant, found.digest, blobs.size "
        f"FROM ({REFERENCES}) AS found JOIN blobs ON blobs.digest = found.digest"
    )
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("reserved", sa.BigInteger, server_default="0", nullable=False))
    with op.batch_alter_table("job_blobs") as links:
        links.add_column(sa.Column("tenant", NAME))
    op.execute("UPDATE job_blobs SET tenant = (SELECT jobs.tenant FROM jobs WHERE jobs.id = job_blobs.job)")
    with op.batch_alter_table("job_blobs") as links:
        links.alter_column("tenant", existing_type=NAME, nullable=False)
        links.drop_constraint("fk_job_blobs_digest", type_="foreignkey")
        links.create_foreign_key("fk_job_blobs_tenant", "tenants", ["tenant"], ["name"])
        _charge(links, "job_blobs", "digest")
    with op.batch_alter_table("objects") as objects:
        objects.add_column(sa.Column("whole_description", DIGEST))
        objects.create_index("ix_objects_whole_description", ["whole_description"])
        objects.drop_constraint("fk_objects_digest", type_="foreignkey")
        _charge(objects, "objects", "digest")
        _charge(objects, "objects", "whole_description")
    with op.batch_alter_table("uploads") as uploads:
        uploads.add_column(sa.Column("sha256", DIGEST))
        uploads.add_column(sa.Column("ended", MOMENT))
        uploads.create_index("ix_uploads_ended", ["ended"])
        uploads.drop_constraint("fk_uploads_digest", type_="foreignkey")
        _charge(uploads, "uploads", "digest")
    op.execute("UPDATE uploads SET sha256 = digest")
    op.execute("UPDATE uploads SET ended = created WHERE digest IS NULL")
    _shorten("objects", "description", LONG, _short_description)
    _shorten("jobs", "error", 4 * ERROR, _short_error)


def _create_tables() -> None:
    op.create_table(
        "charges",
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "digest", name="pk_charges"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_charges_tenant"),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name="fk_charges_digest"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("digest", DIGEST),
        sa.Column("renewed", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reservations"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_reservations_tenant"),
        sa.ForeignKeyConstraint(["tenant", "digest"], CHARGE, name="fk_reservations_tenant_digest"),
    )
    op.create_table(
        "attempts",
        sa.Column("workflow", NAME, nullable=False),
        sa.Column("job", ID, nullable=False),
        sa.Column("process", NAME),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("workflow", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_attempts_job", ondelete="CASCADE"),
    )
    for table, column in (
        ("charges", "digest"),
        ("reservations", "tenant"),
        ("reservations", "digest"),
        ("reservations", "renewed"),
        ("attempts", "job"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column])


def _charge(batch: Any, table: str, column: str) -> None:
    name = f"fk_{table}_tenant_{column}"
    batch.create_foreign_key(name, "charges", ["tenant", column], ["tenant", "digest"])


def _shorten(table: str, column: str, most: int, shortened: Callable[[Any], Any]) -> None:
    """Long texts, one row at a time: there may be many, of megabytes."""
    here = sa.table(table, sa.column("id"), sa.column(column, sa.JSON))
    connection, value = op.get_bind(), here.c[column]
    long = sa.func.length(sa.cast(value, sa.Text)) > most
    for id in connection.scalars(sa.select(here.c.id).where(long)).all():
        found = connection.scalar(sa.select(value).where(here.c.id == id))
        connection.execute(sa.update(here).where(here.c.id == id).values({column: shortened(found)}))


def _short_description(found: Any) -> Any:
    """What is short enough stays; of the rest, how much there was."""
    kept = {name: value for name, value in found.items() if len(json.dumps(value)) <= LONG // 16}
    rest = {name: found[name] for name in found.keys() - kept.keys()}
    omitted = {name: len(value) for name, value in rest.items() if isinstance(value, list | dict | str)}
    empty = {name: type(value)() for name, value in rest.items() if name in omitted}
    return {**kept, **empty, "omitted": omitted}


def _short_error(found: Any) -> Any:
    return {name: value[:ERROR] if isinstance(value, str) else value for name, value in found.items()}
