"""Migrations: they lead to the tables of the code, and many processes may migrate at once."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from service.errors import SettingsError, StorageUnavailableError
from service.settings import Settings, load_settings
from service.storage import migrate as migrate_module
from service.storage import tables
from service.storage.database import Database, address
from service.storage.metadata import open_metadata, opened
from service.storage.migrate import migrate
from tests.service.servers import free_port


def test_migrations_lead_to_the_tables_of_the_code(database_settings: Settings) -> None:
    with opened(database_settings) as metadata, metadata.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"render_as_batch": True, "compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_migrating_again_changes_nothing(database_settings: Settings) -> None:
    with opened(database_settings) as metadata:
        key = metadata.keys.create("acme", "a" * 64)
        migrate(metadata.database)
        assert metadata.keys.list() == (key,)


@pytest.mark.slow
def test_many_processes_migrate_at_once(database_settings: Settings) -> None:
    source = (
        "import sys; from service.settings import load_settings; from service.storage.metadata import open_metadata\n"
        "m = open_metadata(load_settings(data_dir=sys.argv[1], database_url=sys.argv[2] or None)); m.probe(); m.close()"
    )
    command = [sys.executable, "-W", "error", "-c", source]
    arguments = [str(database_settings.data_dir), database_settings.database_url]
    children = [subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE) for _ in range(4)]
    assert [(child.communicate()[1], child.returncode) for child in children] == [(b"", 0)] * 4


def test_a_database_of_a_newer_version_is_refused(database_settings: Settings) -> None:
    with opened(database_settings) as metadata, metadata.database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match=r"schema 9999, which this version does not know; run the newer version"):
        open_metadata(database_settings)


def test_a_migration_that_fails_leaves_nothing(database_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    database_settings.data_dir.mkdir()
    database = Database(address(database_settings))
    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrate(database)
    assert sa.inspect(database.engine).get_table_names() == []
    migrate(database)
    assert len(sa.inspect(database.engine).get_table_names()) == len(tables.metadata.tables) + 1  # and Alembic's own
    database.engine.dispose()


def test_a_server_that_is_away_is_named_without_its_password(tmp_path) -> None:
    port = free_port()
    settings = load_settings(data_dir=tmp_path, database_url=f"postgresql://me:secret@127.0.0.1:{port}/graphpass")
    with pytest.raises(StorageUnavailableError) as caught:
        open_metadata(settings)
    assert f"127.0.0.1:{port}/graphpass does not answer" in str(caught.value)
    assert "GRAPHPASS_DATABASE_URL" in caught.value.remedy and "secret" not in str(caught.value)
    assert "secret" not in repr(settings)


def test_a_user_who_may_not_make_tables_is_told_so(tmp_path, postgres) -> None:
    with postgres.database() as url:
        engine = Database(address(load_settings(database_url=url))).engine
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE ROLE guest LOGIN"))
            connection.execute(sa.text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        settings = load_settings(data_dir=tmp_path, database_url=url.replace("graphpass@", "guest@"))
        with pytest.raises(
            StorageUnavailableError, match=r"refuses: permission denied for schema public.*own the data"
        ):
            open_metadata(settings)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP ROLE guest"))
        engine.dispose()


def test_a_database_that_does_not_exist_is_named(tmp_path, postgres) -> None:
    with pytest.raises(StorageUnavailableError, match=r'database "nowhere" does not exist.*GRAPHPASS_DATABASE_URL'):
        open_metadata(load_settings(data_dir=tmp_path, database_url=postgres.url("nowhere")))


@pytest.mark.parametrize("place", ["file/data", "/proc/nowhere"])
def test_a_data_folder_that_cannot_be_made_is_named(tmp_path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailableError, match=r"cannot be written to.*GRAPHPASS_DATA_DIR"):
        open_metadata(load_settings(data_dir=tmp_path / place))


def test_nobody_else_may_look_into_a_new_data_folder(tmp_path) -> None:
    open_metadata(load_settings(data_dir=tmp_path / "new" / "data")).close()
    assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_no_database_is_named(tmp_path) -> None:
    (tmp_path / "graphpass.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageUnavailableError, match=r"graphpass\.db does not answer: file is not a database"):
        open_metadata(load_settings(data_dir=tmp_path))


def test_the_next_migration_is_written_from_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("env.py", "script.py.mako"):
        shutil.copy(migrate_module.FOLDER / name, tmp_path)
    (tmp_path / "versions").mkdir()
    monkeypatch.setattr(migrate_module, "FOLDER", tmp_path)
    migrate_module.write_next("All of it")
    assert [path.name for path in (tmp_path / "versions").glob("*.py")] == ["0001_all_of_it.py"]
    with opened(load_settings(data_dir=tmp_path / "data")) as metadata, metadata.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C, D = (letter * 64 for letter in "abcd")
ROWS: dict[str, list[dict[str, object]]] = {  # of a database of the first version
    "tenants": [{"name": name, "created": NOW} for name in ("acme", "other")],
    "blobs": [{"digest": digest, "size": size, "held": NOW} for size, digest in enumerate((A, B, C, D), 1)],
    "objects": [
        {"id": "mod_1", "tenant": "acme", "kind": "model", "digest": A, "size": 1, "description": {"sites": []}},
        {"id": "mod_2", "tenant": "other", "kind": "model", "digest": A, "size": 1, "description": {}},
        {
            "id": "mod_3",
            "tenant": "acme",
            "kind": "model",
            "digest": B,
            "size": 2,
            "description": {"nodes": 7, "sites": [{"name": "x" * 10_000}] * 3, "outputs": ["y"]},
        },
    ],
    "uploads": [
        {"id": "upl_1", "tenant": "acme", "kind": "model", "metadata": {}, "length": 3, "offset": 3, "digest": C},
        {"id": "upl_2", "tenant": "acme", "kind": "model", "metadata": {}, "length": 9, "offset": 5, "digest": None},
    ],
    "parts": [{"upload": "upl_2", "offset": 0, "size": 5, "name": "one"}],
    "jobs": [
        {"id": "con_1", "tenant": "acme", "state": "succeeded", "error": None},
        {"id": "con_2", "tenant": "acme", "state": "failed", "error": {"type": "internal", "what": "w" * 9000}},
    ],
    "job_blobs": [{"job": "con_1", "role": "artifact", "name": "snn.onnx", "digest": B}],
}
REST = {
    "objects": {"name": "n", "media": "", "origin": "", "created": NOW},
    "uploads": {"name": "n", "created": NOW},
    "jobs": {"kind": "conversion", "request": {}, "request_digest": D, "created": NOW},
}


def test_what_a_database_of_the_first_version_holds_is_charged_to_its_tenants(database_settings: Settings) -> None:
    database_settings.data_dir.mkdir()
    database = Database(address(database_settings))
    with database.restructure() as connection:
        command.upgrade(migrate_module._config(connection), "0001")
        for table, rows in ROWS.items():
            types = {column.name: column.type for column in tables.metadata.tables[table].c}
            here = sa.table(table, *(sa.column(name, types[name]) for name in {**REST.get(table, {}), **rows[0]}))
            connection.execute(sa.insert(here), [{**REST.get(table, {}), **row} for row in rows])
    migrate(database)
    database.engine.dispose()
    with opened(database_settings) as metadata:
        with metadata.database.read() as connection:
            charges = connection.execute(sa.select(tables.charges)).all()
            links = connection.execute(sa.select(tables.job_blobs.c.tenant, tables.job_blobs.c.name)).all()
            parts = connection.execute(sa.select(tables.parts.c.name)).all()
            error = connection.scalar(sa.select(tables.jobs.c.error).where(tables.jobs.c.id == "con_2"))
            descriptions = connection.execute(sa.select(tables.objects.c.description).order_by(tables.objects.c.id))
            described = [row[0] for row in descriptions]
            uploads = connection.execute(sa.select(tables.uploads.c.id, tables.uploads.c.sha256)).all()
        assert sorted(map(tuple, charges)) == [("acme", A, 1), ("acme", B, 2), ("acme", C, 3), ("other", A, 1)]
        assert list(map(tuple, links)) == [("acme", "snn.onnx")] and list(map(tuple, parts)) == [("one",)]
        assert sorted(map(tuple, uploads)) == [("upl_1", C), ("upl_2", None)]
        assert metadata.uploads.ended() == ("upl_2",)  # its pieces lie where none are looked for now
        assert error == {"type": "internal", "what": "w" * 2000}
        assert described[:2] == [{"sites": []}, {}]
        assert described[2] == {"nodes": 7, "outputs": ["y"], "sites": [], "omitted": {"sites": 3}}
        assert metadata.keys.usage("acme").bytes == 1 + 2 + 3 + 9
        assert metadata.keys.usage("other").bytes == 1
        assert metadata.ledger.unclaimed(datetime.now(UTC), 10) == (D,)
