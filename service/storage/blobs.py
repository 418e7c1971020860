"""Bytes addressed by their SHA-256: what every store of blobs does.

    with blobs.writer(room) as writer:
        writer.write(chunk)             # once there is room for it on the tenant's account
        …
        writer.commit()                 # all of it is there and durable, or nothing is
    writer.digest, writer.size

All methods block: call them from a thread. A chunk of about 1 MiB is a good size to write. Knowing a digest gives no
right to its bytes: who owns what is a matter of the metadata.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from service.errors import NotFoundError, StorageDamagedError

PART = "the store"  # as users know it
CHUNK = 2**20  # bytes read at a time
DIGEST = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[0-9a-z_]{1,64}")  # of uploads and their parts


class Room(Protocol):
    """Room for one blob on an account; its `id` is the name of what is being written. See ledger.Reservation."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    def need(self, size: int) -> None:
        """Have room for so many bytes in all, before they are written. Raises QuotaError."""
        ...

    def hold(self, digest: str, size: int) -> None:
        """The bytes are written, and are those of this blob, which stays: it is about to be put in place."""
        ...

    def settle(self) -> None:
        """They are in place, and nowhere else."""
        ...


class Writer(Protocol):
    """A blob being written. Leaving the context without `commit` leaves nothing behind."""

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        ...

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, data: bytes) -> None:
        """Append. Errors: QuotaError, StorageFullError, StorageUnavailableError; the writer can then only be left."""
        ...

    def commit(self) -> None:
        """Hold the digest, then put the bytes in place, durably. Equal bytes are stored once."""
        ...


class Blobs(Protocol):
    """A store of blobs. is_folder: on this machine, where small reads take no longer than the database does."""

    is_folder: bool

    def writer(self, room: Room) -> AbstractContextManager[Writer]:
        """A new blob; see Writer."""
        ...

    def fetch(self, digest: str, path: Path) -> None:
        """Make `path` a file with these bytes, which nobody may write to: a hard link where the store is local.

        A download is checked against its digest. Errors: NotFoundError, StorageDamagedError, StorageError; `path`
        does not exist then.
        """
        ...

    def read(self, digest: str, start: int = 0, end: int | None = None, size: int = CHUNK) -> Iterator[bytes]:
        """Bytes [start, end), in chunks of about `size`; raises NotFoundError before it returns, not later."""
        ...

    def size(self, digest: str) -> int:
        """Bytes. Raises NotFoundError."""
        ...

    def exists(self, digest: str) -> bool:
        """Whether it is there."""
        ...

    def delete(self, digest: str) -> None:
        """Remove it if it is there. Only garbage collection calls this."""
        ...

    def listing(self) -> Iterator[tuple[str, int]]:
        """Digest and size of every blob in the store."""
        ...

    def turn(self, upload: str) -> AbstractContextManager[None]:
        """While pieces of one upload would be in each other's way: nobody else is in here."""
        ...

    def put_part(self, upload: str, name: str, offset: int, data: bytes) -> None:
        """Store a piece of an unfinished upload, durably, under a name that was not used before."""
        ...

    def drop_part(self, upload: str, name: str) -> None:
        """Remove a piece that was not taken."""
        ...

    def join(self, upload: str, names: Sequence[str], size: int, room: Room) -> str:
        """Make pieces of so many bytes in all one blob: its digest. They stay until `drop_parts`.

        Errors: NotFoundError, StorageDamagedError where pieces are missing.
        """
        ...

    def drop_parts(self, upload: str) -> None:
        """Remove all pieces of an upload."""
        ...

    def uploads(self) -> Iterator[str]:
        """Uploads of which there are pieces."""
        ...

    def scratch(self) -> Iterator[str]:
        """Ids of the rooms of which this machine has something that is being written."""
        ...

    def drop_scratch(self, id: str) -> None:
        """Remove what was being written, if it is there."""
        ...

    def probe(self) -> None:
        """Write and remove something small. Raises StorageError where that does not work: /readyz asks."""
        ...


class Hasher:
    """Digest and size of what passes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes) -> None:
        """Count and hash."""
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """SHA-256 in hex."""
        return self._hash.hexdigest()


def start_reading(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A generator that has run up to its first chunk, which is empty: it has raised what it raises at its beginning."""
    next(chunks)
    return chunks


def pieces_missing(upload: str) -> StorageDamagedError:
    """What every store raises for an upload whose pieces are not the whole."""
    return StorageDamagedError(f"pieces of upload {upload} are missing", "delete it and begin a new one", part="")


def missing(digest: str) -> NotFoundError:
    """What every store raises for a blob that is not there."""
    return NotFoundError(f"there is no blob {digest[:64]!r}", "upload it again")


def checked(digest: str) -> str:
    """The digest. Raises NotFoundError for what cannot be one, so that it never becomes part of a path."""
    if not DIGEST.fullmatch(digest):
        raise missing(digest)
    return digest


def checked_name(name: str) -> str:
    """The name of an upload or a part, likewise."""
    if not NAME.fullmatch(name):
        raise NotFoundError(f"there is no upload {name[:64]!r}", "begin a new one")
    return name
