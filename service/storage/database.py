"""One engine for SQLite and PostgreSQL: transactions that read, transactions that write, and typed errors.

SQLite: WAL, foreign keys on, every commit synced, writers wait for each other. A transaction that writes takes the
write lock when it begins, so that it never has to be given up for one that was faster. PostgreSQL: read committed for
writing (who waited for a row sees what it has become), repeatable read for reading.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine

from service.errors import SettingsError, StorageError, StorageFullError, StorageUnavailableError
from service.settings import Settings

SQLITE_NEEDED = (3, 42, 0)  # by the job engine
BUSY_SECONDS = 30
CONNECT_SECONDS = 5
POOL_SECONDS = 10  # that a request waits for a connection, then it is answered 503
SQLITE_STATEMENTS = 16  # that a connection keeps prepared, some 6 KiB each
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-512")  # KiB a connection
PART = "the database"  # as users know it
DISK_FULL, NOT_ALLOWED = "53100", "42501"  # codes of PostgreSQL
dumps = partial(json.dumps, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def sqlite_module() -> ModuleType:
    """Python's sqlite3, or pysqlite3 where Python was linked with one that is too old. Raises SettingsError.

    One process has to open one database file with one of them only: locks of files belong to the process.
    """
    if sqlite3.sqlite_version_info >= SQLITE_NEEDED:
        return sqlite3
    try:
        import pysqlite3.dbapi2 as newer
    except ImportError:
        raise SettingsError(
            f"SQLite {sqlite3.sqlite_version} is too old, {'.'.join(map(str, SQLITE_NEEDED))} is needed",
            "install pysqlite3 or set GRAPHPASS_DATABASE_URL to a PostgreSQL database",
        ) from None
    return newer  # type: ignore[no-any-return]


def address(settings: Settings) -> URL:
    """Where the database is, for SQLAlchemy. Raises SettingsError."""
    if not settings.database_url:
        return URL.create("sqlite+pysqlite", database=str(settings.data_dir / "graphpass.db"))
    try:
        url = sa.make_url(settings.database_url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise SettingsError(
            "GRAPHPASS_DATABASE_URL is not a URL", "write it as postgresql://user:password@host:5432/database"
        ) from error
    return url.set(drivername="sqlite+pysqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg")


def _arguments(url: URL) -> dict[str, Any]:
    """Further arguments of `create_engine`."""
    if url.get_backend_name() == "sqlite":
        return {
            "module": sqlite_module(),
            "connect_args": {"timeout": BUSY_SECONDS, "cached_statements": SQLITE_STATEMENTS},
        }
    return {
        "pool_pre_ping": True,  # a connection that a restart of the server cut is replaced unseen
        "connect_args": {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "graphpass",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    }


class Database:
    """The engine, and transactions on it."""

    def __init__(self, url: URL):
        self.name = url.render_as_string(hide_password=True)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine: Engine = sa.create_engine(
            url, json_serializer=dumps, pool_size=5, max_overflow=10, pool_timeout=POOL_SECONDS, **_arguments(url)
        )
        self._reading = self.engine
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare)
            sa.event.listen(self.engine, "begin", _begin)
        else:
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads: it sees one state of the database."""
        with self._errors(), self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; an exception rolls it back."""
        with self._errors(), self.engine.connect() as connection:
            connection.execution_options(graphpass_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def restructure(self) -> Iterator[Connection]:
        """A transaction that changes tables.

        SQLite copies and drops them, which must not delete rows that refer to them.
        """
        with self._errors(), self.engine.connect() as connection:
            self._enforce(connection, "OFF")
            try:
                connection.execution_options(graphpass_writes=True)
                with connection.begin():
                    yield connection
                    if self.is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
                        raise SettingsError(f"{self.name}: rows refer to nothing ({broken})", "restore a backup")
            finally:
                self._enforce(connection, "ON")

    def _enforce(self, connection: Connection, foreign_keys: str) -> None:
        if self.is_sqlite and (raw := connection.connection.dbapi_connection) is not None:
            raw.execute(f"PRAGMA foreign_keys={foreign_keys}")  # nothing happens inside of a transaction

    def insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that may have ON CONFLICT."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError) as error:
            raise self._typed(error) from error
        except sa.exc.DBAPIError as error:
            damaged = type(error) is sa.exc.DatabaseError and self.is_sqlite  # "file is not a database", "malformed"
            refused = getattr(error.orig, "sqlstate", None) == NOT_ALLOWED
            if error.connection_invalidated or damaged or refused:
                raise self._typed(error) from error
            raise

    def _typed(self, error: sa.exc.SQLAlchemyError) -> StorageError:
        original = getattr(error, "orig", None) or error
        reason = " ".join(str(original).split())
        code = getattr(original, "sqlstate", None)
        if code == DISK_FULL or "disk is full" in reason:
            return StorageFullError(f"no space left for the database {self.name}", "make room and try again", part=PART)
        if code == NOT_ALLOWED:
            return StorageUnavailableError(
                f"the database {self.name} refuses: {reason}",
                "let the user of GRAPHPASS_DATABASE_URL own the database",
                part=PART,
            )
        return StorageUnavailableError(
            f"the database {self.name} does not answer: {reason}",
            "look at the file and the rights of its folder (GRAPHPASS_DATA_DIR)"
            if self.is_sqlite
            else "start it, or correct GRAPHPASS_DATABASE_URL",
            part=PART,
        )


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin says
    for pragma in (*SQLITE_PRAGMAS, f"busy_timeout={BUSY_SECONDS * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("graphpass_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
