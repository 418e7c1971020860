"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NAME = sa.String(255)
ID = sa.String(30).with_variant(sa.String(30, collation="C"), "postgresql")
DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "tenants",
        sa.Column("name", NAME, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tenants"),
    )
    op.create_table(
        "keys",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("label", NAME, nullable=False),
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("revoked", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_keys_tenant"),
        sa.UniqueConstraint("sha256", name="uq_keys_sha256"),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("held", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blobs"),
    )
    op.create_index("ix_blobs_held", "blobs", ["held"])
    op.create_table(
        "objects",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("media", NAME, nullable=False),
        sa.Column("description", sa.JSON, nullable=False),
        sa.Column("origin", NAME, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("expires", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_objects"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_objects_tenant"),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name="fk_objects_digest"),
        sa.UniqueConstraint("tenant", "kind", "digest", name="uq_objects_tenant_kind_digest"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("digest", DIGEST),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("expires", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_uploads_tenant"),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name="fk_uploads_digest"),
    )
    for table in ("objects", "uploads"):
        op.create_index(f"ix_{table}_tenant_id", table, ["tenant", "id"])
        op.create_index(f"ix_{table}_digest", table, ["digest"])
        op.create_index(f"ix_{table}_expires", table, ["expires"])
    op.create_table(
        "parts",
        sa.Column("upload", ID, nullable=False),
        sa.Column("offset", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.PrimaryKeyConstraint("upload", "offset", name="pk_parts"),
        sa.ForeignKeyConstraint(["upload"], ["uploads.id"], name="fk_parts_upload", ondelete="CASCADE"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", NAME, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("request_digest", DIGEST, nullable=False),
        sa.Column("idempotency_key", NAME),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("result", sa.JSON),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("started", MOMENT),
        sa.Column("finished", MOMENT),
        sa.Column("expires", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_jobs_tenant"),
        sa.UniqueConstraint("tenant", "idempotency_key", name="uq_jobs_tenant_idempotency_key"),
    )
    op.create_index("ix_jobs_tenant_id", "jobs", ["tenant", "id"])
    op.create_index("ix_jobs_state_tenant", "jobs", ["state", "tenant"])
    op.create_index("ix_jobs_expires", "jobs", ["expires"])
    op.create_table(
        "job_blobs",
        sa.Column("job", ID, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("job", "role", "name", name="pk_job_blobs"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_job_blobs_job", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name="fk_job_blobs_digest"),
    )
    op.create_index("ix_job_blobs_digest", "job_blobs", ["digest"])
