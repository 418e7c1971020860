"""Files that are being written: what becomes a blob is spooled here first, where its digest becomes known."""

import errno
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import ShortageError, StorageFullError, StorageUnavailableError
from service.shortage import short_of
from service.storage.blobs import PART, Hasher, Room, checked_name

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
Place = Callable[[int, Path, str, int], None]  # descriptor and path of a file, its digest and size: put it in place


@contextmanager
def typed(folder: Path, part: str = PART) -> Iterator[None]:
    """A context that turns OSError into a StorageError that names the folder. part: what users read in its place."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFullError(f"no space left in {folder}", "make room and try again", part=part) from error
        if short := short_of(error):
            raise ShortageError(f"the machine is short of {short}", "try again later") from error
        raise StorageUnavailableError(
            f"{folder} cannot be used: {error.strerror or error}",
            "make it a folder that the service may write to (GRAPHPASS_DATA_DIR)",
            part=part,
        ) from error


@contextmanager
def new_file(folder: Path, name: str = "") -> Iterator[tuple[Path, int]]:
    """Path and descriptor of an empty file, which is gone afterwards unless it was moved away."""
    path = folder / (name or secrets.token_hex(16))
    with typed(folder):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield path, descriptor
    finally:
        os.close(descriptor)
        with suppress(OSError):  # it was moved away; or it stays, and housekeeping removes it
            os.unlink(path)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however little the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Spool:
    """Bytes that wait on disk for those that follow, in a file without a name, which ends with the process."""

    def __init__(self, folder: Path):
        self.folder, self.size = folder, 0
        with typed(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 closed with the spool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        """Append. Errors: StorageFullError, StorageUnavailableError."""
        with typed(self.folder):
            write_all(self._file.fileno(), data)
        self.size += len(data)

    def take(self) -> bytes:
        """Return all bytes, and leave the spool empty."""
        with typed(self.folder):
            data = os.pread(self._file.fileno(), self.size, 0)
            self._file.seek(0)
            self._file.truncate()
        self.size = 0
        return data


def names(folder: Path) -> Iterator[str]:
    """Names of the files in a folder, sorted."""
    with typed(folder):
        yield from sorted(os.listdir(folder))


def drop(path: Path) -> None:
    """Remove a file, if it is there."""
    with typed(path.parent), suppress(FileNotFoundError):
        path.unlink()


class FileWriter:
    """See blobs.Writer."""

    def __init__(self, folder: Path, path: Path, descriptor: int, room: Room, place: Place):
        self._folder = folder
        self._path = path
        self._descriptor = descriptor
        self._room = room
        self._place = place
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
        self._room.need(self.size + len(data))
        with typed(self._folder):
            write_all(self._descriptor, data)
        self._hasher.update(data)

    def commit(self) -> None:
        """Charge the blob to its account, then put its file in place."""
        self._committed = True
        self._room.hold(self.digest, self.size)
        self._place(self._descriptor, self._path, self.digest, self.size)
        drop(self._path)  # where the same bytes were there already
        self._room.settle()


@contextmanager
def file_writer(folder: Path, room: Room, place: Place) -> Iterator[FileWriter]:
    """A context that writes a new blob, spooled in `folder`."""
    with new_file(folder, checked_name(room.id)) as (path, descriptor):
        yield FileWriter(folder, path, descriptor, room, place)
