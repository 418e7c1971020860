"""Blobs in a folder.

    sha256/ab/ab34…     whole blobs, read-only
    parts/<upload>/     pieces of unfinished uploads
    scratch/            being written; nothing here is of any value after a crash

A file is written in scratch/, synced, and renamed into place; then the folder is synced. At no moment is there half a
blob under a digest, and after `commit` neither a crash nor a power cut loses it.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from service.errors import StorageDamagedError, StorageFullError, StorageUnavailableError
from service.storage.blobs import CHUNK, DIGEST, Hasher, Ledger, begun, checked, checked_name, missing

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}


@contextmanager
def typed(
    folder: Path, remedy: str = "make it a folder that the service may write to (GRAPHPASS_DATA_DIR)"
) -> Iterator[None]:
    """OSError → StorageError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFullError(f"no space left in {folder}", "make room and try again") from error
        raise StorageUnavailableError(f"{folder} cannot be used: {error.strerror or error}", remedy) from error


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalWriter:
    """See blobs.Writer."""

    def __init__(self, blobs: "LocalBlobs", path: Path, descriptor: int):
        self._blobs = blobs
        self._path = path
        self._descriptor = descriptor
        self._hasher = Hasher()
        self._committed = False

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        return self._hasher.digest

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._hasher.size

    def write(self, data: bytes) -> None:
        """Append."""
        if self._committed:
            raise ValueError("the blob is committed")
        with typed(self._blobs.root):
            _write_all(self._descriptor, data)
        self._hasher.update(data)

    def commit(self) -> None:
        """Hold, sync, rename, sync the folder."""
        self._committed = True
        with typed(self._blobs.root):
            os.fchmod(self._descriptor, 0o444)
            os.fsync(self._descriptor)
        self._blobs.ledger.hold(self.digest, self.size)
        with typed(self._blobs.root):
            self._blobs.place(self._path, self.digest, self.size)


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

    @contextmanager
    def writer(self) -> Iterator[LocalWriter]:
        """A new blob."""
        path = self._scratch / secrets.token_hex(16)
        with typed(self.root):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield LocalWriter(self, path, descriptor)
        finally:
            os.close(descriptor)
            with suppress(OSError):  # gone where it was renamed; what is left is tidied later
                os.unlink(path)

    def place(self, path: Path, digest: str, size: int) -> None:
        """Move a synced file under its digest; a whole one that is there already stays."""
        target = self._path(digest)
        if not (target.exists() and target.stat().st_size == size):
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

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes [start, end)."""
        return begun(self._chunks(self._path(digest), digest, start, end))

    def _chunks(self, path: Path, name: str, start: int, end: int | None) -> Iterator[bytes]:
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
                    chunk = file.read(min(CHUNK, left))
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
        scratch = self._scratch / secrets.token_hex(16)
        with typed(self.root):
            folder.mkdir(exist_ok=True)
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
                os.replace(scratch, target)
                sync_folder(folder)
                sync_folder(self._parts)
            finally:
                os.close(descriptor)
                with suppress(OSError):
                    os.unlink(scratch)

    def read_part(self, upload: str, name: str) -> Iterator[bytes]:
        """Its bytes."""
        path = self._parts / checked_name(upload) / checked_name(name)
        return begun(self._chunks(path, f"{upload}/{name}", 0, None))

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
        with typed(self.root):
            for path in list(self._scratch.iterdir()):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before.timestamp():
                        path.unlink()

    def probe(self) -> None:
        """Create, sync and remove a file."""
        path = self._scratch / secrets.token_hex(16)
        with typed(self.root):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write_all(descriptor, b"probe")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                os.unlink(path)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy(source: Path, path: Path) -> None:
    try:
        shutil.copyfile(source, path)
        path.chmod(0o444)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
