"""Blobs in a folder: crashes, full disks, folders that cannot be written to."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import StorageError, StorageFullError, StorageUnavailableError
from service.settings import load_settings
from service.storage.local import LocalBlobs
from service.storage.stores import open_blobs
from tests.service.disks import small_disk
from tests.service.storage import crashes


def test_a_crash_at_any_point_leaves_the_whole_blob_or_none(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.service.storage.crashes", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def test_bytes_are_synced_before_the_name_and_the_name_before_the_answer(tmp_path: Path, monkeypatch) -> None:
    blobs = LocalBlobs(tmp_path)
    calls: list[str] = []

    def recorded(name: str, call):
        def wrapped(*arguments):
            target = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else str(arguments[1])
            calls.append(f"{name} {Path(target).relative_to(tmp_path).parts[0]}")
            return call(*arguments)

        return wrapped

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    crashes.put(blobs)
    assert calls == ["fsync scratch", "replace sha256", "fsync sha256"]
    calls.clear()
    with blobs.turn(crashes.UPLOAD):
        blobs.put_part(crashes.UPLOAD, "one", 0, b"abc")
    assert calls == ["fsync parts"] * 3  # the file, the folder of the upload, the folder of uploads
    calls.clear()
    blobs.join(crashes.UPLOAD, ("one",), 3, crashes.UnlimitedRoom())
    assert calls == ["fsync scratch", "replace sha256", "fsync sha256"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "fchmod"])
def test_every_failure_is_typed_and_leaves_nothing(tmp_path: Path, monkeypatch, call: str, code: int) -> None:
    blobs = LocalBlobs(tmp_path)

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError) as caught:
            crashes.put(blobs)
    assert isinstance(caught.value, StorageFullError) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert str(tmp_path) in caught.value.what and caught.value.remedy
    assert list(blobs.listing()) == [] and not any((tmp_path / "scratch").iterdir())
    crashes.put(blobs)
    assert [size for _, size in blobs.listing()] == [len(crashes.DATA)]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with small_disk(tmp_path / "small", "size=2m,nr_inodes=1000") as folder:
        yield folder


def test_a_full_disk_takes_nothing_and_works_again(small: Path) -> None:
    blobs = LocalBlobs(small)
    ballast = small / "ballast"
    ballast.write_bytes(bytes(2**20))
    with (
        pytest.raises(StorageFullError, match=r"no space left in .*; make room and try again"),
        blobs.writer(crashes.UnlimitedRoom()) as writer,
    ):
        writer.write(bytes(2**21))
    with pytest.raises(StorageFullError), blobs.turn(crashes.UPLOAD):
        blobs.put_part(crashes.UPLOAD, "part", 0, bytes(2**21))
    assert (small / "parts" / crashes.UPLOAD / "data").stat().st_size == 0
    assert list(blobs.listing()) == [] and list((small / "scratch").iterdir()) == []
    ballast.unlink()
    crashes.put(blobs)
    assert [size for _, size in blobs.listing()] == [len(crashes.DATA)]


def test_a_folder_on_a_read_only_disk_is_named(small: Path) -> None:
    blobs = LocalBlobs(small)
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    for call in (blobs.probe, lambda: crashes.put(blobs), lambda: crashes.send(blobs)):
        with pytest.raises(StorageUnavailableError, match=r"small.* cannot be used: Read-only.*GRAPHPASS_DATA_DIR"):
            call()
    with pytest.raises(StorageUnavailableError):
        LocalBlobs(small / "new")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailableError, match="Not a directory"):
        LocalBlobs(tmp_path / "file" / "blobs")


def test_a_store_that_vanished_is_named(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    shutil.rmtree(tmp_path / "blobs")
    for call in (blobs.probe, lambda: crashes.put(blobs), lambda: list(blobs.listing())):
        with pytest.raises(StorageUnavailableError, match="No such file"):
            call()


def test_a_blob_is_linked_or_copied_where_links_end(tmp_path: Path, small: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    crashes.put(blobs)
    digest = next(digest for digest, _ in blobs.listing())
    blobs.fetch(digest, tmp_path / "link")
    blobs.fetch(digest, small / "copy")
    assert (tmp_path / "link").stat().st_nlink == 2 and (small / "copy").stat().st_nlink == 1
    assert (small / "copy").read_bytes() == crashes.DATA and (small / "copy").stat().st_mode & 0o777 == 0o444
    (small / "copy").unlink()
    (small / "ballast").write_bytes(bytes(15 * 2**17))
    with pytest.raises(StorageFullError):
        blobs.fetch(digest, small / "another")
    assert not (small / "another").exists()


def test_a_damaged_blob_is_replaced_by_the_next_upload(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    crashes.put(blobs)
    digest = next(digest for digest, _ in blobs.listing())
    path = tmp_path / "sha256" / digest[:2] / digest
    path.chmod(0o600)
    os.truncate(path, 5)
    crashes.put(blobs)
    assert b"".join(blobs.read(digest)) == crashes.DATA


def test_the_store_may_be_named_by_a_url(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    settings = load_settings(data_dir=tmp_path / "data", store_url=f"file://{str(folder).replace(' ', '%20')}/")
    crashes.put(open_blobs(settings))
    assert (folder / "sha256").is_dir() and not (tmp_path / "data").exists()


def test_an_upload_takes_its_bytes_once(tmp_path: Path, held) -> None:
    """Its pieces are copied only where the file system has no links."""
    blobs = LocalBlobs(tmp_path)
    digest = crashes.send(blobs)
    assert (tmp_path / "sha256" / digest[:2] / digest).stat().st_nlink == 2
    room = held.room()
    assert blobs.join(crashes.UPLOAD, ("one", "two"), len(crashes.SENT), room) == digest and room.wanted == []
    blobs.drop_parts(crashes.UPLOAD)
    assert b"".join(blobs.read(digest)) == crashes.SENT


def test_an_upload_is_copied_where_there_are_no_links(tmp_path: Path, held, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    blobs, room = LocalBlobs(tmp_path), held.room()
    with blobs.turn(crashes.UPLOAD):
        blobs.put_part(crashes.UPLOAD, "one", 0, crashes.SENT)
    digest = blobs.join(crashes.UPLOAD, ("one",), len(crashes.SENT), room)
    assert room.wanted[-1] == len(crashes.SENT) and held.sizes == {digest: len(crashes.SENT)}
    blobs.drop_parts(crashes.UPLOAD)
    assert b"".join(blobs.read(digest)) == crashes.SENT and list(blobs.scratch()) == []
