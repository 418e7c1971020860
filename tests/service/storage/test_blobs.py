"""What holds for every store of blobs: a folder, and S3 on a real server."""

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from service.errors import NotFoundError, QuotaError, StorageDamagedError
from service.settings import Settings
from service.storage.blobs import Blobs
from tests.properties import examples
from tests.service.conftest import Held, HeldRoom

LARGE = os.urandom(2**20) * 20  # more than two pieces of S3
UPLOAD = "upl_00000000000000000000000000"


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(blobs: Blobs, *chunks: bytes, held: Held | None = None) -> str:
    with blobs.writer((held or Held()).room()) as writer:
        for chunk in chunks:
            writer.write(chunk)
        writer.commit()
        return writer.digest


def scratch(settings: Settings) -> list[Path]:
    """Files that a writer left behind."""
    places = (settings.data_dir / "blobs" / "scratch", settings.data_dir / "spool")
    return [path for place in places if place.exists() for path in place.iterdir()]


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "short", "large"])
def test_what_is_put_comes_back(blobs: Blobs, held, blob_settings: Settings, tmp_path: Path, data: bytes) -> None:
    digest = put(blobs, data[:7], data[7:], held=held)
    assert digest == digest_of(data) and blobs.exists(digest) and blobs.size(digest) == len(data)
    assert b"".join(blobs.read(digest)) == data
    blobs.fetch(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o444
    assert held.sizes == {digest: len(data)} == dict(blobs.listing()) and held.settled == 1
    assert scratch(blob_settings) == []


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 60), end=st.none() | st.integers(0, 60))
def test_ranges_are_slices(blobs: Blobs, start: int, end: int | None) -> None:
    data = bytes(range(50))
    digest = put(blobs, data)
    assert b"".join(blobs.read(digest, start, end)) == data[start:end]


def test_ranges_over_the_borders_of_pieces(blobs: Blobs) -> None:
    digest = put(blobs, LARGE)
    for start, end in ((2**23 - 1, 2**23 + 1), (2**20, 2**24 + 5), (len(LARGE) - 1, None)):
        assert b"".join(blobs.read(digest, start, end)) == LARGE[start:end]


def test_equal_bytes_are_stored_once(blobs: Blobs, blob_settings: Settings) -> None:
    assert put(blobs, b"abc") == put(blobs, b"a", b"bc")
    assert list(blobs.listing()) == [(digest_of(b"abc"), 3)]
    assert scratch(blob_settings) == []


def test_an_exception_leaves_nothing(blobs: Blobs, held, blob_settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), blobs.writer(held.room()) as writer:
        writer.write(bytes(1 // 0))
    with blobs.writer(held.room()) as writer:
        writer.write(b"not committed")
    assert list(blobs.listing()) == scratch(blob_settings) == [] and held.sizes == {}


def test_a_committed_blob_does_not_change(blobs: Blobs, held: Held) -> None:
    with blobs.writer(held.room()) as writer:
        writer.write(b"abc")
        writer.commit()
        with pytest.raises(ValueError, match="committed"):
            writer.write(b"d")
        writer.commit()
    assert b"".join(blobs.read(digest_of(b"abc"))) == b"abc"


def test_there_is_room_before_bytes_are_written_and_they_are_held_before_they_are_in_place(
    blobs: Blobs, held: Held, blob_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def need(_, size: int) -> None:
        (path,) = scratch(blob_settings)
        assert path.stat().st_size == size - 3
        if size == 9:
            raise QuotaError("no more", "delete some", "bytes", 8, 6)

    def hold(_, digest: str, size: int) -> None:
        assert not blobs.exists(digest)
        raise ZeroDivisionError

    monkeypatch.setattr(HeldRoom, "need", need)
    with pytest.raises(QuotaError):
        put(blobs, b"abc", b"abc", b"abc")
    assert list(blobs.listing()) == scratch(blob_settings) == []
    monkeypatch.setattr(HeldRoom, "hold", hold)
    with pytest.raises(ZeroDivisionError):
        put(blobs, b"abc")
    assert not blobs.exists(digest_of(b"abc"))


def test_writers_do_not_disturb_each_other(blobs: Blobs) -> None:
    threads = [threading.Thread(target=put, args=(blobs, LARGE[: 2**20], bytes([n % 2]))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {digest_of(LARGE[: 2**20] + bytes([n])) for n in range(2)}
    assert {digest for digest, _ in blobs.listing()} == expected
    assert all(digest_of(b"".join(blobs.read(digest))) == digest for digest in expected)


@pytest.mark.parametrize("digest", ["0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63 + "/"])
def test_what_is_not_there_is_not_found(blobs: Blobs, tmp_path: Path, digest: str) -> None:
    for read in (blobs.size, blobs.read, lambda digest: blobs.fetch(digest, tmp_path / "copy")):
        with pytest.raises(NotFoundError):
            read(digest)
    assert not (tmp_path / "copy").exists()
    assert digest != "0" * 64 or not blobs.exists(digest)


def test_deleting_is_final_and_may_be_repeated(blobs: Blobs) -> None:
    digest = put(blobs, b"abc")
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.exists(digest) and list(blobs.listing()) == []
    assert put(blobs, b"abc") == digest and blobs.exists(digest)


def test_a_blob_that_is_fetched_stays_when_it_is_collected(blobs: Blobs, tmp_path: Path) -> None:
    digest = put(blobs, b"abc")
    blobs.fetch(digest, tmp_path / "copy")
    reading = blobs.read(digest)
    blobs.delete(digest)
    assert (tmp_path / "copy").read_bytes() == b"abc"
    del reading


def test_fetching_never_replaces_a_file(blobs: Blobs, tmp_path: Path) -> None:
    digest = put(blobs, b"abc")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Exception, match="cannot be used"):
        blobs.fetch(digest, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


def test_pieces_of_uploads(blobs: Blobs, held: Held, blob_settings: Settings) -> None:
    other = UPLOAD[:-1] + "1"
    with blobs.turn(UPLOAD), blobs.turn(other):
        blobs.put_part(UPLOAD, "one", 0, LARGE)
        blobs.put_part(UPLOAD, "lost", len(LARGE), b"a piece that another writer overtakes")
        blobs.drop_part(UPLOAD, "lost")
        blobs.drop_part(UPLOAD, "never")
        blobs.put_part(UPLOAD, "two", len(LARGE), b"2")
        blobs.put_part(other, "one", 0, b"x")
    assert sorted(blobs.uploads()) == [UPLOAD, other] and list(blobs.listing()) == []
    digest = blobs.join(UPLOAD, ("one", "two"), len(LARGE) + 1, held.room())
    assert digest == digest_of(LARGE + b"2") and held.sizes == {digest: len(LARGE) + 1}
    assert blobs.join(UPLOAD, ("one", "two"), len(LARGE) + 1, held.room()) == digest  # as long as the pieces are there
    with pytest.raises(StorageDamagedError, match=r"pieces of upload .* are missing"):
        blobs.join(other, ("one",), 2, held.room())
    blobs.drop_parts(UPLOAD)
    blobs.drop_parts(UPLOAD)
    assert list(blobs.uploads()) == [other] and scratch(blob_settings) == []
    assert b"".join(blobs.read(digest)) == LARGE + b"2"
    with pytest.raises(NotFoundError):
        blobs.join(UPLOAD, ("one", "two"), len(LARGE) + 1, held.room())
    for upload in ("../x", "", "x/y"):
        with pytest.raises(NotFoundError), blobs.turn(upload):
            blobs.put_part(upload, "one", 0, b"")


def test_the_probe_leaves_nothing(blobs: Blobs, blob_settings: Settings) -> None:
    blobs.probe()
    assert list(blobs.listing()) == scratch(blob_settings) == []


def test_what_dead_writers_left_is_known_by_their_rooms(blobs: Blobs, held: Held, blob_settings: Settings) -> None:
    room = held.room()
    context = blobs.writer(room)
    context.__enter__().write(b"half")
    assert list(blobs.scratch()) == [room.id]
    blobs.drop_scratch("res_none")
    blobs.drop_scratch(room.id)
    assert scratch(blob_settings) == [] == list(blobs.scratch())
    context.__exit__(None, None, None)
