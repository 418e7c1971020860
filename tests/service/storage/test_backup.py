"""The backup that docs/service.md describes, taken while the service runs, and restored."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.settings import load_settings
from service.storage.accounts import Account
from service.storage.garbage import adopt, sweep
from service.storage.metadata import Metadata, opened
from service.storage.stores import open_blobs


def store(metadata: Metadata, blobs, data: bytes) -> tuple[str, str]:
    """Store a model of these bytes; its id and digest."""
    with Account(metadata, blobs, "acme") as account, blobs.writer(account.reserve(len(data))) as writer:
        writer.write(data)
        writer.commit()
        fields = {"name": "", "media": "", "description": {}, "digest": writer.digest}
        return metadata.objects.create("acme", "model", **fields)[0].id, writer.digest


def test_a_backup_of_a_running_service_is_whole(tmp_path: Path) -> None:
    settings, restored = load_settings(data_dir=tmp_path / "data"), load_settings(data_dir=tmp_path / "restored")
    page = (Path(__file__).parents[3] / "docs" / "service.md").read_text("utf-8")
    statement = page.partition('sqlite3 graphpass.db "')[2].partition('"')[0]
    assert statement == "VACUUM INTO 'backup.db'"
    restored.data_dir.mkdir()
    with opened(settings) as metadata:
        blobs = open_blobs(settings)
        metadata.keys.create("acme", "0" * 64)
        before, _ = store(metadata, blobs, b"before")
        with metadata.database.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            raw.execute(statement.replace("backup.db", str(restored.data_dir / "graphpass.db")))
        after, late = store(metadata, blobs, b"after the database, before the blobs")
        shutil.copytree(settings.data_dir / "blobs" / "sha256", restored.data_dir / "blobs" / "sha256")
    with opened(restored) as metadata:
        blobs = open_blobs(restored)
        rows = metadata.objects.list("acme").rows
        assert [row.id for row in rows] == [before] != [after]
        assert b"".join(blobs.read(rows[0].digest)) == b"before"
        assert adopt(metadata, blobs) == 1
        assert sweep(metadata, blobs, datetime.now(UTC) + timedelta(hours=2), timedelta(hours=1)).blobs == 1
        assert not blobs.exists(late)
