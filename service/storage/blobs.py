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
    """Room for one blob on an account. Its `id` names the file that is being written. See ledger.Reservation."""

    @property
    def id(self) -> str:
        """The name of the reservation, and of the file that is being written."""
        ...

    def need(self, size: int) -> None:
        """Make sure that there is room for so many bytes in all, before they are written. Raises QuotaError."""
        ...

    def hold(self, digest: str, size: int) -> None:
        """Charge the blob to the account: its bytes are written and are about to be put in place.

        From now on it stays.
        """
        ...

    def settle(self) -> None:
        """End the reservation of bytes: they are in place, and nowhere else."""
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
        """Append bytes. After a QuotaError, StorageFullError or StorageUnavailableError the writer can only be left."""
        ...

    def commit(self) -> None:
        """Charge the blob to its account, then put its bytes in place durably. Equal bytes are stored once."""
        ...


class Blobs(Protocol):
    """A store of blobs. is_folder: whether it is on this machine, where a small read takes no longer than a query."""

    is_folder: bool

    def writer(self, room: Room) -> AbstractContextManager[Writer]:
        """A context that writes a new blob; see Writer."""
        ...

    def fetch(self, digest: str, path: Path) -> None:
        """Make `path` a file with these bytes, which nobody may write to: a hard link where the store is local.

        A download is checked against its digest. Errors: NotFoundError, StorageDamagedError, StorageError; `path`
        does not exist then.
        """
        ...

    def read(self, digest: str, start: int = 0, end: int | None = None, size: int = CHUNK) -> Iterator[bytes]:
        """Bytes [start, end), in chunks of about `size`. A missing blob raises NotFoundError at the call itself."""
        ...

    def size(self, digest: str) -> int:
        """How many bytes a blob has. Raises NotFoundError."""
        ...

    def exists(self, digest: str) -> bool:
        """Whether the store has a blob."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a blob, if it is there. Only garbage collection calls this."""
        ...

    def listing(self) -> Iterator[tuple[str, int]]:
        """Digest and size of every blob in the store."""
        ...

    def turn(self, upload: str) -> AbstractContextManager[None]:
        """A context for one writer of an upload at a time, where pieces of one upload would be in each other's way."""
        ...

    def put_part(self, upload: str, name: str, offset: int, data: bytes) -> None:
        """Store a piece of an unfinished upload, durably, under a name that was not used before."""
        ...

    def drop_part(self, upload: str, name: str) -> None:
        """Remove a piece that was stored and could not be recorded."""
        ...

    def join(self, upload: str, names: Sequence[str], size: int, room: Room) -> str:
        """Put pieces of `size` bytes in all together into one blob and return its digest. They stay until `drop_parts`.

        Errors: NotFoundError, StorageDamagedError where pieces are missing.
        """
        ...

    def drop_parts(self, upload: str) -> None:
        """Remove all pieces of an upload."""
        ...

    def uploads(self) -> Iterator[str]:
        """Ids of uploads of which the store has pieces."""
        ...

    def scratch(self) -> Iterator[str]:
        """Ids of the rooms for which a file of this machine is being written."""
        ...

    def drop_scratch(self, id: str) -> None:
        """Remove the file that was being written for a room, if it is there."""
        ...

    def probe(self) -> None:
        """Write and remove something small, for /readyz. Raises StorageError where that does not work."""
        ...


class Hasher:
    """Digest and size of the bytes that it is given."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes) -> None:
        """Count and hash further bytes."""
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """SHA-256 in hex."""
        return self._hash.hexdigest()


def start_reading(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Run a generator up to its first chunk, which is empty, so that errors at its beginning are raised now."""
    next(chunks)
    return chunks


def pieces_missing(upload: str) -> StorageDamagedError:
    """The error of every store for an upload of which pieces are missing."""
    return StorageDamagedError(f"pieces of upload {upload} are missing", "delete it and begin a new one", part="")


def missing(digest: str) -> NotFoundError:
    """The error of every store for a blob that is not there."""
    return NotFoundError(f"there is no blob {digest[:64]!r}", "upload it again")


def checked(digest: str) -> str:
    """Return the digest. Raises NotFoundError for a text that is none, so that it never becomes part of a path."""
    if not DIGEST.fullmatch(digest):
        raise missing(digest)
    return digest


def checked_name(name: str) -> str:
    """Return the name of an upload or a part. Raises NotFoundError for a text that is none."""
    if not NAME.fullmatch(name):
        raise NotFoundError(f"there is no upload {name[:64]!r}", "begin a new one")
    return name
