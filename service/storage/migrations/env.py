"""Alembic's way in: runs on the connection, and in the transaction, that service.storage.migrate opened."""

from alembic import context

from service.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter tables; Alembic copies them
    transactional_ddl=True,
)
context.run_migrations()
