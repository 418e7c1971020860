"""Keys found without a thread, where the metadata is a file of SQLite.

Every request asks for its key. To ask in a thread takes a hundred times as long as SQLite itself needs (10 µs), and two
changes of threads, each of which waits for whatever else the process computes. So the thread that answers requests asks
by itself, on a connection of its own. Nothing is remembered: a key that another process has revoked is unknown at once.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from service.storage.database import Database, sqlite_module
from service.storage.records import Key

FIELDS = ("id", "tenant", "label", "sha256", "created")
QUERY = f"SELECT {', '.join(FIELDS)} FROM keys WHERE sha256 = ? AND revoked IS NULL"

ARGUMENTS: dict[str, Any] = {"uri": True, "timeout": 0, "isolation_level": None, "check_same_thread": False}


class NotAtOnceError(Exception):
    """The database is not SQLite, would keep the caller waiting, or does not answer: ask in a thread."""


class KeyLookup:
    """Finds keys as `Keys.find` does, for one thread at a time. A reader of a database in WAL mode waits for nobody."""

    def __init__(self, database: Database):
        path = database.engine.url.database if database.is_sqlite else None
        self._uri = f"file:{quote(path)}?mode=rw" if path else None
        self._connection: Any = None

    def find(self, sha256: str) -> Key | None:
        """The key with this digest, unless it is revoked. Raises NotAtOnceError."""
        if self._uri is None:
            raise NotAtOnceError
        module = sqlite_module()
        try:
            if self._connection is None:
                self._connection = module.connect(self._uri, **ARGUMENTS)
            found = self._connection.execute(QUERY, (sha256,)).fetchall()
        except module.Error as error:
            self.close()
            raise NotAtOnceError from error
        if not found:
            return None
        row = dict(zip(FIELDS, found[0], strict=True))
        return Key(**{**row, "created": datetime.fromisoformat(row["created"]).replace(tzinfo=UTC)}, revoked=None)

    def close(self) -> None:
        """Close the connection; the next `find` opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite_module().Error):
                connection.close()
