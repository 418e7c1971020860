"""The metadata of the service: tenants and keys, objects, uploads, jobs and the ledger of blobs, in one database.

    metadata = open_metadata(settings)          # migrated; raises StorageUnavailableError where there is no database
    model, new = metadata.objects.create("tenant", "model", …)
    page = metadata.jobs.list("tenant", after=page.after)

Every read takes the tenant, and NotFoundError is raised alike for what is absent and for what belongs to another one.
Methods block (call them from a thread), are atomic, and may be repeated. They raise StorageError when the database does
not answer; then nothing was changed, or the change is complete.
"""

import math
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from service.errors import StorageUnavailableError
from service.settings import Settings
from service.storage import tables
from service.storage.attempt_rows import Attempts
from service.storage.database import Database, address
from service.storage.ids import Ids
from service.storage.job_rows import Jobs
from service.storage.key_rows import Keys
from service.storage.ledger import Ledger
from service.storage.migrate import migrate
from service.storage.object_rows import Objects
from service.storage.upload_rows import Uploads

WRITES = 5.0  # seconds for which a database that took a write is trusted to take others


class Metadata:
    """The rows of the database, by what they are about."""

    def __init__(self, database: Database):
        ids = Ids()
        self.database = database
        self.ledger = Ledger(database, ids)
        self.keys = Keys(database, ids)
        self.objects = Objects(database, ids)
        self.uploads = Uploads(database, ids)
        self.jobs = Jobs(database, ids)
        self.attempts = Attempts(database)
        self._written = -math.inf  # when `probe` last wrote, by the monotonic clock

    def probe(self) -> None:
        """Write a row and remove it in one transaction, for /readyz; for WRITES seconds after that, ask for nothing.

        Raises StorageError where the database does not answer, is read-only or has no room.
        """
        if time.monotonic() - self._written < WRITES:
            with self.database.read() as connection:
                connection.execute(sa.text("SELECT 1"))
            return
        blobs, digest = tables.blobs, secrets.token_hex(32)
        with self.database.write() as connection:
            connection.execute(blobs.insert().values(digest=digest, size=0, held=datetime.now(UTC)))
            connection.execute(blobs.delete().where(blobs.c.digest == digest))
        self._written = time.monotonic()

    def close(self) -> None:
        """Close its connections."""
        self.keys.close()
        self.database.engine.dispose()


def open_metadata(settings: Settings) -> Metadata:
    """Connect and migrate. Errors: StorageError, SettingsError; they name the variable to look at."""
    if not settings.database_url:
        make_data_folder(settings.data_dir)
    database = Database(address(settings))
    try:
        migrate(database)
    except BaseException:
        database.engine.dispose()
        raise
    return Metadata(database)


def make_data_folder(folder: Path) -> None:
    """Make the data folder, for the service's user alone: what all tenants store is below it.

    A folder that is there keeps its mode. Raises StorageUnavailableError.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailableError(
            f"{folder} cannot be written to: {error.strerror}", "name another folder with --data or GRAPHPASS_DATA_DIR"
        ) from error


@contextmanager
def opened(settings: Settings) -> Iterator[Metadata]:
    """A context of `open_metadata`, closed at the end."""
    metadata = open_metadata(settings)
    try:
        yield metadata
    finally:
        metadata.close()
