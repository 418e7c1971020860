"""Migrations: they lead to the tables of the code, and many processes may migrate at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
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


def test_many_processes_migrate_at_once(database_settings: Settings) -> None:
    source = (
        "import sys; from service.settings import load_settings; from service.storage.metadata import open_metadata\n"
        "m = open_metadata(load_settings(data_dir=sys.argv[1], database_url=sys.argv[2] or None)); m.ping(); m.close()"
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
    assert len(sa.inspect(database.engine).get_table_names()) == 9
    database.engine.dispose()


def test_a_process_that_stays_has_another_one_migrate(database_settings: Settings, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(migrate_module, "_config", lambda connection: asked.append(connection))  # Alembic's way in here
    open_metadata(database_settings, stays=True).close()
    monkeypatch.undo()
    assert asked == []
    with opened(database_settings) as metadata, metadata.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_where_the_other_process_fails_this_one_says_why(database_settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr(migrate_module.sys, "executable", "/bin/false")
    with monkeypatch.context() as patch:
        patch.setattr(migrate_module, "_config", lambda connection: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_metadata(database_settings, stays=True)
    open_metadata(database_settings, stays=True).close()


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
    with pytest.raises(StorageUnavailableError, match=r"data folder .* cannot be made.*GRAPHPASS_DATA_DIR"):
        open_metadata(load_settings(data_dir=tmp_path / place))


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
