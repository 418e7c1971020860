"""S3 when it is away, refuses, or loses what it had: typed errors, and everything works again afterwards."""

import time
from datetime import timedelta
from pathlib import Path

import obstore
import pytest

from service.errors import NotFoundError, StorageDamagedError, StorageUnavailableError
from service.settings import Settings, load_settings
from service.storage import s3 as module
from service.storage.blobs import Blobs
from service.storage.stores import open_blobs
from tests.service.servers import S3Server, free_port
from tests.service.storage import crashes

DIGEST = "0" * 64


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP", timedelta(seconds=0.1))
    for name, value in S3Server.KEYS.items():
        monkeypatch.setenv(name, value)


def store(tmp_path: Path, endpoint: str, bucket: str) -> Blobs:
    settings = load_settings(data_dir=tmp_path, store_url=f"s3://{bucket}", store_endpoint=endpoint)
    return open_blobs(settings)


def everything(blobs: Blobs, tmp_path: Path) -> list:
    return [
        blobs.probe,
        lambda: crashes.put(blobs),
        lambda: blobs.size(DIGEST),
        lambda: blobs.exists(DIGEST),
        lambda: blobs.read(DIGEST),
        lambda: blobs.fetch(DIGEST, tmp_path / "copy"),
        lambda: blobs.delete(DIGEST),
        lambda: list(blobs.listing()),
        lambda: list(blobs.uploads()),
        lambda: blobs.put_part("upl_1", "a", 0, b"a"),
        lambda: blobs.drop_part("upl_1", "a"),
        lambda: blobs.join("upl_1", ("a",), 1, crashes.UnlimitedRoom()),
        lambda: blobs.drop_parts("upl_1"),
    ]


def test_a_store_that_is_away_is_named(tmp_path: Path) -> None:
    blobs = store(tmp_path, f"http://127.0.0.1:{free_port()}", "somewhere")
    begin = time.monotonic()
    for call in everything(blobs, tmp_path):
        with pytest.raises(StorageUnavailableError, match=r"s3://somewhere does not answer.*GRAPHPASS_STORE_ENDPOINT"):
            call()
    assert time.monotonic() - begin < 30
    assert not (tmp_path / "copy").exists() and list((tmp_path / "spool").iterdir()) == []


def test_a_bucket_that_is_not_there_is_named(s3: S3Server, tmp_path: Path) -> None:
    blobs = store(tmp_path, s3.endpoint, "nowhere")
    for call in (blobs.probe, lambda: crashes.put(blobs), lambda: list(blobs.listing())):
        with pytest.raises(StorageUnavailableError, match=r"s3://nowhere.*GRAPHPASS_STORE_URL"):
            call()


def test_a_store_that_comes_back_works_again(tmp_path: Path) -> None:
    server = S3Server()
    blobs = store(tmp_path, server.endpoint, server.bucket())
    crashes.put(blobs)
    digest = next(digest for digest, _ in blobs.listing())
    reading = blobs.read(digest)
    with blobs.writer(crashes.UnlimitedRoom()) as writer:
        writer.write(b"abc")
        server.stop()
        with pytest.raises(StorageUnavailableError):
            writer.commit()
    with pytest.raises(StorageUnavailableError):
        list(reading)
    server.start()
    blobs = store(tmp_path, server.endpoint, server.bucket())
    with pytest.raises(NotFoundError):
        blobs.size(digest)
    crashes.put(blobs)
    assert [each for each, _ in blobs.listing()] == [digest]
    server.stop()


def test_wrong_credentials_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "1")  # of moto: after one request, it checks who asks
    server = S3Server()
    blobs = store(tmp_path, server.endpoint, server.bucket())
    for call in (blobs.probe, lambda: crashes.put(blobs), lambda: blobs.size(DIGEST)):
        with pytest.raises(StorageUnavailableError, match=r"refuses: .*AWS_ACCESS_KEY_ID"):
            call()
    server.stop()


def test_the_settings_name_bucket_prefix_and_endpoint(s3_settings: Settings) -> None:
    def listing(url: str) -> list[tuple[str, int]]:
        return list(open_blobs(s3_settings.model_copy(update={"store_url": url})).listing())

    crashes.put(open_blobs(s3_settings))
    bucket = s3_settings.store_url.removesuffix("/some/prefix")
    assert listing(bucket) == listing(f"{bucket}/some") == []
    assert len(listing(f"{bucket}/some/prefix/")) == 1


def test_a_download_that_is_not_what_was_stored_is_refused(s3_settings: Settings, tmp_path, monkeypatch) -> None:
    blobs = open_blobs(s3_settings)
    crashes.put(blobs)
    digest = next(digest for digest, _ in blobs.listing())
    monkeypatch.setattr(obstore, "get_range", lambda *_, **__: b"other")
    with pytest.raises(StorageDamagedError, match="has other bytes than were stored"):
        blobs.fetch(digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
