"""Resumable uploads: whatever is interrupted, the bytes are those that were sent."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from service.errors import NotFoundError, OffsetError, QuotaError, StorageDamagedError, StorageUnavailableError
from service.settings import load_settings
from service.storage import upload_rows
from service.storage.blobs import Blobs
from service.storage.local import LocalBlobs
from service.storage.metadata import Metadata, opened
from service.storage.stores import open_blobs
from service.storage.uploads import append, complete, discard
from tests.properties import examples

ROOT = Path(__file__).parents[3]


@pytest.fixture
def metadata(tmp_path: Path):
    """Metadata in SQLite alone, since test_upload_rows.py runs the statements on both databases."""
    with opened(load_settings(data_dir=tmp_path / "data")) as metadata:
        metadata.keys.create("acme", "0" * 64)
        yield metadata


@pytest.fixture
def blobs(blob_settings, metadata: Metadata) -> Blobs:
    """Each kind of store, on the real ledger."""
    return open_blobs(blob_settings)


def begin(metadata: Metadata, length: int) -> str:
    return metadata.uploads.create("acme", "model", name="", length=length, metadata={}).id


@examples(15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=20), max_size=6))
def test_pieces_make_the_whole(metadata: Metadata, blobs: Blobs, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    id = begin(metadata, len(whole))
    for piece in pieces:
        offset = metadata.uploads.get("acme", id).offset
        assert append(metadata, blobs, "acme", id, offset, piece).offset == offset + len(piece)
    done = complete(metadata, blobs, "acme", id)
    assert b"".join(blobs.read(done.sha256)) == whole
    assert id not in set(blobs.uploads())
    assert complete(metadata, blobs, "acme", id) == done
    discard(metadata, blobs, "acme", id)


def test_pieces_at_another_place_are_refused_and_change_nothing(metadata: Metadata, blobs: Blobs) -> None:
    id = begin(metadata, 10)
    append(metadata, blobs, "acme", id, 0, b"abcd")
    for offset, data in ((0, b"xxxx"), (5, b"x"), (4, b"xxxxxxx")):
        with pytest.raises(OffsetError) as caught:
            append(metadata, blobs, "acme", id, offset, data)
        assert caught.value.offset == 4
    with pytest.raises(OffsetError, match="stands at byte 4, not at 10; go on at 4"):
        complete(metadata, blobs, "acme", id)
    append(metadata, blobs, "acme", id, 4, b"efghij")
    assert b"".join(blobs.read(complete(metadata, blobs, "acme", id).sha256)) == b"abcdefghij"
    with pytest.raises(NotFoundError):
        append(metadata, blobs, "other", id, 10, b"")


def test_an_upload_does_not_come_in_any_number_of_pieces(metadata: Metadata, blobs: Blobs, monkeypatch) -> None:
    """Each piece has a row: if each had one byte, the rows would be larger than the bytes that the account counts."""
    monkeypatch.setattr(upload_rows, "MOST_PIECES", 3)
    small, large = begin(metadata, 10), begin(metadata, 2 * upload_rows.LEAST_PIECE)
    for id, most in ((small, 3), (large, 5)):
        for offset in range(most):
            append(metadata, blobs, "acme", id, offset, b"x")
        with pytest.raises(QuotaError, match="send larger pieces"):
            append(metadata, blobs, "acme", id, most, b"x")
        assert metadata.uploads.get("acme", id).offset == most
        discard(metadata, blobs, "acme", id)


def test_two_clients_with_one_upload_cannot_mix_their_bytes(metadata: Metadata, blobs: Blobs) -> None:
    id = begin(metadata, 4000)

    def client(letter: bytes) -> None:
        while (offset := metadata.uploads.get("acme", id).offset) < 4000:
            try:
                append(metadata, blobs, "acme", id, offset, letter * 500)
            except OffsetError:
                continue

    clients = [threading.Thread(target=client, args=(letter,)) for letter in (b"a", b"b")]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    data = b"".join(blobs.read(complete(metadata, blobs, "acme", id).sha256))
    assert len(data) == 4000 and all(len(set(data[at : at + 500])) == 1 for at in range(0, 4000, 500))


def test_completing_twice_at_once_gives_one_blob(metadata: Metadata, blobs: Blobs) -> None:
    id = begin(metadata, 100)
    append(metadata, blobs, "acme", id, 0, b"x" * 100)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(complete(metadata, blobs, "acme", id).sha256)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_completing_while_another_one_does_gives_its_blob(metadata: Metadata, blobs: Blobs, monkeypatch) -> None:
    id = begin(metadata, 4)
    append(metadata, blobs, "acme", id, 0, b"abcd")
    parts = metadata.uploads.parts

    def overtaken(tenant: str, id: str):
        monkeypatch.setattr(metadata.uploads, "parts", parts)
        names = parts(tenant, id)
        complete(metadata, blobs, "acme", id)
        return names  # of pieces that are gone now

    monkeypatch.setattr(metadata.uploads, "parts", overtaken)
    done = complete(metadata, blobs, "acme", id)
    assert b"".join(blobs.read(done.sha256)) == b"abcd"


def test_a_piece_that_is_lost_is_noticed(metadata: Metadata, blobs: Blobs, monkeypatch) -> None:
    id = begin(metadata, 4)
    append(metadata, blobs, "acme", id, 0, b"abcd")
    with monkeypatch.context() as patch:
        patch.setattr(type(blobs), "_chunks", lambda *_: iter([b"", b"abc"]))
        with pytest.raises(StorageDamagedError, match=r"pieces of upload .* are missing"):
            complete(metadata, blobs, "acme", id)
    blobs.drop_parts(id)
    with pytest.raises((NotFoundError, StorageDamagedError)):
        complete(metadata, blobs, "acme", id)
    assert list(blobs.listing()) == list(blobs.scratch()) == [] and metadata.keys.usage("acme").bytes == 4


def test_a_piece_that_cannot_be_recorded_is_sent_again(metadata: Metadata, blobs: Blobs, monkeypatch) -> None:
    id = begin(metadata, 4)

    def away(*_):
        raise StorageUnavailableError("away", "wait")

    with monkeypatch.context() as patch:
        patch.setattr(metadata.uploads, "append", away)
        with pytest.raises(StorageUnavailableError):
            append(metadata, blobs, "acme", id, 0, b"xxxx")
    append(metadata, blobs, "acme", id, 0, b"abcd")
    assert b"".join(blobs.read(complete(metadata, blobs, "acme", id).sha256)) == b"abcd"


SENDER = """
import sys, os
from service.settings import load_settings
from service.storage.stores import open_blobs
from service.storage.metadata import open_metadata
from service.storage.uploads import append, complete
metadata = open_metadata(load_settings(data_dir=sys.argv[1]))
blobs = open_blobs(load_settings(data_dir=sys.argv[1]))
data = open(sys.argv[3], "rb").read()
print("ready", flush=True)
while (offset := metadata.uploads.get("acme", sys.argv[2]).offset) < len(data):
    append(metadata, blobs, "acme", sys.argv[2], offset, data[offset : offset + 1000])
print(complete(metadata, blobs, "acme", sys.argv[2]).sha256, flush=True)
"""


def test_a_process_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    data = os.urandom(150_000)
    (tmp_path / "sent").write_bytes(data)
    with opened(load_settings(data_dir=tmp_path / "data")) as metadata:
        metadata.keys.create("acme", "0" * 64)
        id = begin(metadata, len(data))
        command = [sys.executable, "-c", SENDER, str(tmp_path / "data"), id, str(tmp_path / "sent")]
        offsets = []
        for _ in range(3):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
            child.stdout.readline()
            start = metadata.uploads.get("acme", id).offset
            while metadata.uploads.get("acme", id).offset < start + 20_000:
                pass
            child.kill()
            child.communicate()
            offsets.append(metadata.uploads.get("acme", id).offset)
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert 0 < offsets[0] < offsets[1] < offsets[2] < len(data)
        blobs = LocalBlobs(tmp_path / "data" / "blobs")
        assert b"".join(blobs.read(done.stdout.split()[-1])) == data
