"""Bytes addressed by their SHA-256: what every store of blobs does, and which one the settings mean.

    with blobs.writer() as writer:
        writer.write(chunk)
        …
        writer.commit()                 # all of it is there and durable, or nothing is
    writer.digest, writer.size

All methods block: call them from a thread. A chunk of about 1 MiB is a good size to write. Knowing a digest gives no
right to its bytes: who owns what is a matter of the metadata.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from service.settings import Settings

CHUNK = 2**20  # bytes read at a time


class Ledger(Protocol):
    """The blobs, listed in the metadata: one is on it before its bytes are in place, and until they are gone."""

    def hold(self, digest: str, size: int) -> None:
        """Put a blob on the list, or keep it there: garbage collection leaves it alone for the grace period."""
        ...


class Writer(Protocol):
    """A blob being written. Leaving the context without `commit` leaves nothing behind."""

    digest: str  # of what was written so far
    size: int

    def write(self, data: bytes) -> None:
        """Append. Errors: StorageFullError, StorageUnavailableError; the writer can then only be left."""
        ...

    def commit(self) -> None:
        """Hold the digest on the ledger, then put the bytes in place, durably. Equal bytes are stored once."""
        ...


class Blobs(Protocol):
    """A store of blobs."""

    def writer(self) -> AbstractContextManager[Writer]:
        """A new blob; see Writer."""
        ...

    def fetch(self, digest: str, path: Path) -> None:
        """Make `path` a file with these bytes, which nobody may write to: a hard link where the store is local.

        A download is checked against its digest. Errors: NotFoundError, StorageDamagedError, StorageError; `path`
        does not exist then.
        """
        ...

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes [start, end), in chunks. The first chunk is there, or NotFoundError raised, before it returns."""
        ...

    def size(self, digest: str) -> int:
        """Bytes. Raises NotFoundError."""
        ...

    def exists(self, digest: str) -> bool: ...

    def delete(self, digest: str) -> None:
        """Remove it if it is there. Only garbage collection calls this."""
        ...

    def put_part(self, upload: str, data: bytes) -> str:
        """Store a piece of an unfinished upload, durably, under a fresh name that is returned."""
        ...

    def read_parts(self, upload: str, names: tuple[str, ...]) -> Iterator[bytes]:
        """The pieces one after another, in chunks."""
        ...

    def drop_parts(self, upload: str) -> None:
        """Remove all pieces of an upload."""
        ...

    def listing(self) -> Iterator[tuple[str, int, datetime]]:
        """Digest, size and time of every blob in the store."""
        ...

    def probe(self) -> None:
        """Write and remove something small. Raises StorageError where that does not work: /readyz asks."""
        ...


def open_blobs(settings: Settings, ledger: Ledger) -> Blobs:
    """The store that GRAPHPASS_STORE_URL names; a folder in the data directory if it is empty."""
    raise NotImplementedError
