"""Blobs in a folder.

    sha256/ab/ab34…     whole blobs, read-only
    parts/<upload>/     pieces of unfinished uploads
    scratch/            being written; nothing here is of any value after a crash

A file is written in scratch/, synced, and renamed into place; then the folder is synced. At no moment is there half a
blob under a digest, and after `commit` neither a crash nor a power cut loses it.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path

from service.errors import StorageDamagedError
from service.storage.blobs import CHUNK, DIGEST, Ledger, Writer, begun, checked, checked_name, missing
from service.storage.scratch import file_writer, new_file, tidy, typed, write_all

NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalBlobs:
    """See blobs.Blobs."""

    def __init__(self, root: Path, ledger: Ledger):
        self.root = root
        self.ledger = ledger
        self._whole = root / "sha256"
        self._parts = root / "parts"
        self._scratch = root / "scratch"
        with typed(root):
            shards = (self._whole / f"{number:02x}" for number in range(256))
            for folder in (self._parts, self._scratch, self._whole, *shards):
                folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self._whole)
            sync_folder(root)

    def _path(self, digest: str) -> Path:
        return self._whole / checked(digest)[:2] / digest

    def writer(self) -> AbstractContextManager[Writer]:
        """A new blob."""
        return file_writer(self._scratch, self.ledger, self._place)

    def _place(self, descriptor: int, path: Path, digest: str, size: int) -> None:
        """Sync, rename, sync the folder; a whole blob that is there already stays."""
        target = self._path(digest)
        with typed(self.root):
            if not (target.exists() and target.stat().st_size == size):
                os.fchmod(descriptor, 0o444)
                os.fsync(descriptor)
                os.replace(path, target)
            sync_folder(target.parent)

    def fetch(self, digest: str, path: Path) -> None:
        """A hard link, or a copy where the file system has none."""
        source = self._path(digest)
        try:
            os.link(source, path)
        except FileNotFoundError as error:
            if not source.exists():
                raise missing(digest) from error
            with typed(path.parent):
                raise
        except OSError as error:
            with typed(path.parent):
                if error.errno not in NO_LINK:
                    raise
                _copy(source, path)

    def read(self, digest: str, start: int = 0, end: int | None = None, size: int = CHUNK) -> Iterator[bytes]:
        """Bytes [start, end)."""
        return begun(self._chunks(self._path(digest), digest, start, end, size))

    def _chunks(self, path: Path, name: str, start: int, end: int | None, size: int) -> Iterator[bytes]:
        with typed(self.root):
            try:
                file = path.open("rb")
            except FileNotFoundError as error:
                raise missing(name) from error
            with file:
                length = os.fstat(file.fileno()).st_size
                yield b""
                file.seek(start)
                left = max(0, min(length, length if end is None else end) - start)
                while left:
                    chunk = file.read(min(size, left))
                    if not chunk:
                        raise StorageDamagedError(f"{name} is shorter than it was", "restore it from a backup")
                    left -= len(chunk)
                    yield chunk

    def size(self, digest: str) -> int:
        """Bytes."""
        with typed(self.root):
            try:
                return self._path(digest).stat().st_size
            except FileNotFoundError as error:
                raise missing(digest) from error

    def exists(self, digest: str) -> bool:
        """Whether it is there."""
        with typed(self.root):
            return self._path(digest).exists()

    def delete(self, digest: str) -> None:
        """Remove it."""
        with typed(self.root):
            self._path(digest).unlink(missing_ok=True)

    def listing(self) -> Iterator[tuple[str, int]]:
        """Digest and size of every blob."""
        with typed(self.root):
            for folder in sorted(self._whole.iterdir()):
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):  # collected meanwhile
                            if DIGEST.fullmatch(entry.name):
                                yield entry.name, entry.stat().st_size

    def put_part(self, upload: str, name: str, data: bytes) -> None:
        """One file a piece."""
        folder = self._parts / checked_name(upload)
        target = folder / checked_name(name)
        with new_file(self._scratch) as (path, descriptor), typed(self.root):
            folder.mkdir(exist_ok=True)
            write_all(descriptor, data)
            os.fsync(descriptor)
            os.replace(path, target)
            sync_folder(folder)
            sync_folder(self._parts)

    def read_part(self, upload: str, name: str) -> Iterator[bytes]:
        """Its bytes."""
        path = self._parts / checked_name(upload) / checked_name(name)
        return begun(self._chunks(path, f"{upload}/{name}", 0, None, CHUNK))

    def drop_parts(self, upload: str) -> None:
        """Remove the folder."""
        with typed(self.root), suppress(FileNotFoundError):
            shutil.rmtree(self._parts / checked_name(upload))

    def uploads(self) -> Iterator[str]:
        """Folders of pieces."""
        with typed(self.root):
            yield from sorted(os.listdir(self._parts))

    def tidy(self, before: datetime) -> None:
        """Remove old files in scratch/."""
        tidy(self._scratch, before)

    def probe(self) -> None:
        """Create, sync and remove a file."""
        with new_file(self._scratch) as (_, descriptor), typed(self.root):
            write_all(descriptor, b"probe")
            os.fsync(descriptor)


def _copy(source: Path, path: Path) -> None:
    try:
        shutil.copyfile(source, path)
        path.chmod(0o444)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
