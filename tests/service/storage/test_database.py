"""The database when it is away, busy, full or too old."""

import math
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.errors import SettingsError, StorageFullError, StorageUnavailableError
from service.settings import Settings, load_settings
from service.storage import database as module
from service.storage import metadata as metadata_module
from service.storage import tables
from service.storage.database import Database, address, sqlite_module
from service.storage.metadata import Metadata, open_metadata, opened
from tests.service.disks import fill, small_disk
from tests.service.servers import Postgres


def test_a_server_that_crashes_and_comes_back_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    server = Postgres()
    with server.database() as url, opened(load_settings(data_dir=tmp_path, database_url=url)) as metadata:
        key = metadata.keys.create("acme", "a" * 64)
        with pytest.raises(StorageUnavailableError), metadata.database.write() as connection:
            _change_and(server.stop, connection)
        for call in (metadata.probe, metadata.keys.list, lambda: metadata.keys.create("acme", "b" * 64)):
            with pytest.raises(StorageUnavailableError, match=r"does not answer.*GRAPHPASS_DATABASE_URL"):
                call()
        with pytest.raises(StorageUnavailableError):
            open_metadata(load_settings(data_dir=tmp_path, database_url=url))
        server.start()
        metadata.probe()
        assert metadata.keys.list() == (key,)
    server.remove()


def test_an_exception_rolls_back(metadata: Metadata) -> None:
    before = metadata.keys.list()
    with pytest.raises(ZeroDivisionError), metadata.database.write() as connection:
        connection.execute(sa.text("DELETE FROM keys"), 1 // 0)
    with pytest.raises(ZeroDivisionError):
        _delete_and_fail(metadata)
    assert metadata.keys.list() == before


def _change_and(stop, connection: sa.Connection) -> None:
    connection.execute(sa.text("UPDATE keys SET label = 'lost'"))
    stop("immediate")
    connection.execute(sa.text("SELECT 1"))


def _delete_and_fail(metadata: Metadata) -> None:
    with metadata.database.write() as connection:
        connection.execute(sa.text("DELETE FROM keys"))
        raise ZeroDivisionError


def test_writers_wait_for_each_other_and_readers_for_nobody(metadata: Metadata) -> None:
    with metadata.database.write() as connection:
        connection.execute(sa.text("UPDATE tenants SET created = created"))
        writer = threading.Thread(target=lambda: metadata.keys.create("acme", "a" * 64))
        writer.start()
        assert len(metadata.keys.list()) == 2
        time.sleep(0.2)
    writer.join()
    assert len(metadata.keys.list()) == 3


def test_many_threads_write_without_an_error(metadata: Metadata) -> None:
    def write(seed: int) -> None:
        for number in range(10):
            metadata.jobs.create("acme", "sweep", request={"n": [seed, number]}, inputs={})

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metadata.jobs.counts() == {("sweep", "queued"): 80}


def test_every_connection_of_sqlite_is_prepared(tmp_path: Path) -> None:
    with opened(load_settings(data_dir=tmp_path)) as metadata:
        for _ in range(2):
            with metadata.database.read() as connection:
                found = [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
                ]
                assert found == ["wal", 2, 1, 30_000]
            metadata.database.engine.dispose()
        assert (tmp_path / "graphpass.db").exists()


def test_a_database_that_others_hold_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    with opened(load_settings(data_dir=tmp_path)) as first, opened(load_settings(data_dir=tmp_path)) as second:
        with first.database.write(), pytest.raises(StorageUnavailableError, match="database is locked"):
            second.keys.create("acme", "a" * 64)
        second.keys.create("acme", "a" * 64)


def test_a_full_disk_is_named_and_nothing_is_half_done(tmp_path: Path) -> None:
    with opened(load_settings(data_dir=tmp_path)) as metadata:
        metadata.keys.create("acme", "a" * 64)
        metadata.database.engine.dispose()
        with metadata.database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # of this connection, which the pool keeps
        with pytest.raises(StorageFullError, match=r"no space left for the database .*graphpass\.db; make room"):
            metadata.jobs.create("acme", "sweep", request={"x": "y" * 10**6}, inputs={})
        assert metadata.jobs.list("acme").rows == ()
        metadata.database.engine.dispose()
        metadata.jobs.create("acme", "sweep", request={"x": "y" * 10**6}, inputs={})


def test_a_probe_writes_now_and_then_and_leaves_nothing(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def note(_connection, _cursor, statement: str, *_) -> None:
        written.append(statement)

    monkeypatch.setattr(metadata, "_written", -math.inf)
    sa.event.listen(metadata.database.engine, "before_cursor_execute", note)
    for _ in range(3):
        metadata.probe()
    assert [text.split()[0] for text in written if "blobs" in text] == ["INSERT", "DELETE"]
    monkeypatch.setattr(metadata_module, "WRITES", 0.0)
    metadata.probe()
    sa.event.remove(metadata.database.engine, "before_cursor_execute", note)
    assert sum("INSERT INTO blobs" in text for text in written) == 2
    with metadata.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.blobs)) == 0


def test_a_probe_finds_a_database_that_can_only_be_read(database_settings: Settings) -> None:
    with opened(database_settings) as metadata:
        metadata.probe()
        url = address(database_settings)
        if metadata.database.is_sqlite:
            url = url.set(database=f"file:{url.database}").update_query_dict({"mode": "ro", "uri": "true"})
        else:
            url = url.update_query_dict({"options": "-c default_transaction_read_only=on"})
        frozen = Metadata(Database(url))
        assert frozen.keys.list() == ()  # reading works
        for _ in range(2):
            with pytest.raises(StorageUnavailableError, match=r"read-?only"):
                frozen.probe()
        frozen.close()


def test_a_probe_finds_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_module, "WRITES", 0.0)
    with small_disk(tmp_path / "disk", "size=2m") as disk, opened(load_settings(data_dir=disk)) as metadata:
        metadata.probe()
        ballast = fill(disk)
        with pytest.raises(StorageFullError, match="no space left for the database"):
            _probe_on(metadata)
        assert metadata.keys.list() == ()
        ballast.unlink()
        metadata.probe()


def _probe_on(metadata: Metadata) -> None:
    for _ in range(100):  # SQLite may hold some pages ready
        metadata.probe()


def test_an_old_sqlite_is_replaced_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sqlite_module().sqlite_version_info >= (3, 42)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.40.1")
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", None)
    with pytest.raises(SettingsError, match=r"SQLite 3\.40\.1 is too old, 3\.42\.0 is needed; install pysqlite3"):
        sqlite_module()
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 42, 0))
    assert sqlite_module() is sqlite3


def test_the_address_is_that_of_the_settings(tmp_path: Path) -> None:
    local = load_settings(data_dir=tmp_path)
    assert address(local).database == str(tmp_path / "graphpass.db")
    remote = address(load_settings(database_url="postgres://me:p%40ss@host:1/db?sslmode=require"))
    assert (remote.drivername, remote.password, remote.query["sslmode"]) == ("postgresql+psycopg", "p@ss", "require")
    assert address(load_settings(database_url="sqlite:////x/y.db")).database == "/x/y.db"
    with pytest.raises(SettingsError, match="GRAPHPASS_DATABASE_URL"):
        address(load_settings(database_url="postgresql://host:port/db"))


def test_a_killed_process_keeps_what_it_committed_and_nothing_else(tmp_path: Path) -> None:
    source = (
        "import os, sys; import sqlalchemy as sa\n"
        "from service.settings import load_settings; from service.storage.metadata import open_metadata\n"
        "m = open_metadata(load_settings(data_dir=sys.argv[1])); m.keys.create('acme', 'a' * 64)\n"
        "with m.database.write() as c:\n"
        "    c.execute(sa.text(\"UPDATE keys SET label = 'half'\")); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", source, str(tmp_path)], cwd=Path(__file__).parents[3])
    assert done.returncode == -9
    with opened(load_settings(data_dir=tmp_path)) as metadata:
        assert [key.label for key in metadata.keys.list()] == [""]
