"""Alembic's way in: runs on the connection, and in the transaction, that service.storage.migrate opened."""

from alembic import context

from service.storage.tables import Moment, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter tables; Alembic copies them
    render_item=lambda kind, item, _: "sa.DateTime(timezone=True)" if isinstance(item, Moment) else False,
)
context.run_migrations()
