"""Blobs in a folder.

    sha256/ab/ab34…        whole blobs, read-only
    parts/<upload>/data    what has arrived of an unfinished upload, piece after piece
    scratch/<room>         being written; nothing here is of any value after a crash

A file is written in scratch/, synced, and renamed into place; then the folder is synced. At no moment is there half a
blob under a digest, and after `commit` neither a crash nor a power cut loses it. A whole upload is linked into place:
its bytes are there once.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from service.errors import StorageDamagedError
from service.storage.blobs import (
    CHUNK,
    DIGEST,
    PART,
    Hasher,
    Room,
    Writer,
    checked,
    checked_name,
    missing,
    pieces_missing,
    start_reading,
)
from service.storage.scratch import drop, file_writer, names, new_file, typed, write_all

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

    is_folder = True

    def __init__(self, root: Path):
        self.root = root
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

    def writer(self, room: Room) -> AbstractContextManager[Writer]:
        """See Blobs.writer."""
        return file_writer(self._scratch, room, self._place)

    def _place(self, descriptor: int, path: Path, digest: str, size: int) -> None:
        """Sync the file, rename it into place, and sync the folder. A whole blob that is there already stays."""
        target = self._path(digest)
        with typed(self.root):
            if not (target.exists() and target.stat().st_size == size):
                os.fchmod(descriptor, 0o444)
                os.fsync(descriptor)
                os.replace(path, target)
            sync_folder(target.parent)

    def fetch(self, digest: str, path: Path) -> None:
        """Make `path` a hard link, or a copy where the file system has no links."""
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
        """See Blobs.read."""
        return start_reading(self._chunks(self._path(digest), digest, start, end, size))

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
                        raise StorageDamagedError(
                            f"{name} is shorter than it was", "restore it from a backup", part=PART
                        )
                    left -= len(chunk)
                    yield chunk

    def size(self, digest: str) -> int:
        """See Blobs.size."""
        with typed(self.root):
            try:
                return self._path(digest).stat().st_size
            except FileNotFoundError as error:
                raise missing(digest) from error

    def exists(self, digest: str) -> bool:
        """See Blobs.exists."""
        with typed(self.root):
            return self._path(digest).exists()

    def delete(self, digest: str) -> None:
        """See Blobs.delete."""
        with typed(self.root):
            self._path(digest).unlink(missing_ok=True)

    def listing(self) -> Iterator[tuple[str, int]]:
        """See Blobs.listing."""
        with typed(self.root):
            for folder in sorted(self._whole.iterdir()):
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):  # collected meanwhile
                            if DIGEST.fullmatch(entry.name):
                                yield entry.name, entry.stat().st_size

    def _data(self, upload: str) -> Path:
        return self._parts / checked_name(upload) / "data"

    @contextmanager
    def turn(self, upload: str) -> Iterator[None]:
        """See Blobs.turn: the file of the upload is locked."""
        path = self._data(upload)
        with typed(self.root):
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def put_part(self, upload: str, name: str, offset: int, data: bytes) -> None:
        """Write a piece behind those before it, in one file; what another writer left there is overwritten."""
        path = self._data(upload)
        with typed(self.root):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.lseek(descriptor, offset, os.SEEK_SET)
                write_all(descriptor, data)
                os.fsync(descriptor)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(descriptor, offset)
                raise
            finally:
                os.close(descriptor)
            sync_folder(path.parent)
            sync_folder(self._parts)

    def drop_part(self, upload: str, name: str) -> None:
        """Do nothing: the next piece overwrites it."""

    def join(self, upload: str, pieces: Sequence[str], size: int, room: Room) -> str:
        """Link the file of the upload into place; copy it where the file system has no links."""
        path, hasher = self._data(upload), Hasher()
        try:
            for chunk in self._chunks(path, upload, 0, size, CHUNK):
                hasher.update(chunk)
            if hasher.size != size:
                raise pieces_missing(upload)
            with typed(self.root):
                os.truncate(path, size)
                return self._link(path, hasher.digest, size, room)
        finally:
            drop(self._scratch / room.id)

    def _link(self, path: Path, digest: str, size: int, room: Room) -> str:
        link = self._scratch / room.id
        try:
            os.link(path, link)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            with self.writer(room) as writer:
                for chunk in self._chunks(path, digest, 0, size, CHUNK):
                    writer.write(chunk)
                writer.commit()
            return digest
        room.hold(digest, size)
        descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._place(descriptor, link, digest, size)
        finally:
            os.close(descriptor)
        return digest

    def drop_parts(self, upload: str) -> None:
        """Remove the folder of an upload."""
        with typed(self.root), suppress(FileNotFoundError):
            shutil.rmtree(self._parts / checked_name(upload))

    def uploads(self) -> Iterator[str]:
        """Ids of uploads that have a folder."""
        return names(self._parts)

    def scratch(self) -> Iterator[str]:
        """Names of the files in scratch/."""
        return names(self._scratch)

    def drop_scratch(self, id: str) -> None:
        """Remove a file in scratch/."""
        drop(self._scratch / checked_name(id))

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
