"""The schema, brought to the newest version: in one transaction, by one process at a time.

`python -m service.storage.migrate MESSAGE` writes the next migration from what service/storage/tables.py has become.
"""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from service.errors import SettingsError
from service.storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x6772_6170_6870_6173  # the advisory lock of PostgreSQL: "graphpas"


def migrate(database: Database) -> None:
    """Create or upgrade all tables. Whoever comes second waits, and finds nothing to do.

    Raises SettingsError where the database was written by a newer version.
    """
    with database.restructure() as connection:  # on SQLite this is the lock
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        here = _here(connection)
        if here == _head():
            return
        if here - _known():
            raise SettingsError(
                f"the database {database.name} has schema {', '.join(sorted(here))}, which this version does not know",
                "run the newer version of graphpass that wrote it, or restore a backup",
            )
        from alembic import command

        command.upgrade(_config(connection), "head")


def _head() -> set[str]:
    return set(sorted(_known())[-1:])


def _known() -> set[str]:
    """The revisions that this version knows."""
    return {path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py")}


def _here(connection: Connection) -> set[str]:
    """The revisions that the database is at, as Alembic keeps them."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.scalars(sa.text("SELECT version_num FROM alembic_version")))


def _config(connection: Connection | None) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def write_next(message: str) -> None:
    """A new file in migrations/versions: the difference between the migrations so far and the tables."""
    from alembic import command

    with tempfile.TemporaryDirectory() as folder:
        database = Database(URL.create("sqlite+pysqlite", database=f"{folder}/scratch.db"))
        try:
            migrate(database)
            number = len(_known()) + 1
            with database.restructure() as connection:
                command.revision(_config(connection), message, autogenerate=True, rev_id=f"{number:04d}")
        finally:
            database.engine.dispose()


if __name__ == "__main__":
    write_next(" ".join(sys.argv[1:]))
