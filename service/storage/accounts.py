"""A tenant's account while something is stored for it: reservations count at once, and are released at the end.

with Account(metadata, blobs, "acme", quota) as account:
    digest = account.store(path)
    …                                   # unless a row of the tenant refers to the digest now, the blob is deleted
"""

import asyncio
import errno
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import StorageError
from service.settings import Quota
from service.storage.blobs import CHUNK, Blobs
from service.storage.ledger import Reservation
from service.storage.metadata import Metadata

BATCH = 500
NO_FILE = {errno.ELOOP, errno.ENOENT, errno.EISDIR}  # what opening or reading says of something else than a file
log = logging.getLogger(__name__)


class Account:
    """A context: reservations made through it end with it. job: the one whose reserve for its files is used."""

    def __init__(self, metadata: Metadata, blobs: Blobs, tenant: str, quota: Quota | None = None, job: str = ""):
        self._metadata, self._blobs, self._tenant, self._quota, self._job = metadata, blobs, tenant, quota, job
        self._reservations: list[Reservation] = []

    def reserve(self, size: int = 0) -> Reservation:
        """Reserve room for a blob of `size` bytes; the room grows where they turn out to be more. Raises QuotaError."""
        made = self._metadata.ledger.reserve(self._tenant, size, self._quota, self._job)
        self._reservations.append(made)
        return made

    def keep(self, digest: str) -> None:
        """Keep a blob that is charged to the tenant until the end of the context. Raises NotFoundError."""
        self._metadata.ledger.keep(self.reserve(), digest)

    def store(self, path: Path) -> str:
        """Store a file as a blob and return its digest. Raises QuotaError before anything is written."""
        return self._written(path, self.reserve(path.stat().st_size))

    def store_all(self, folder: Path) -> Mapping[str, str]:
        """Store every regular file of a folder, all or none: name → digest. Raises QuotaError.

        Links and pipes are left out, even those that take the place of a file meanwhile. A child that is being stopped
        may still finish what it began. It must not choose a file that only this process may read, or make it wait.
        """
        paths = [path for path in sorted(folder.iterdir()) if not path.is_symlink() and path.is_file()]
        rooms = [self.reserve(path.stat().st_size) for path in paths]
        found: dict[str, str] = {}
        for path, room in zip(paths, rooms, strict=True):
            try:
                found[path.name] = self._written(path, room)
            except OSError as error:
                if error.errno not in NO_FILE:
                    raise
        return found

    def _written(self, path: Path, room: Reservation) -> str:
        with open(path, "rb", opener=_opened) as file, self._blobs.writer(room) as writer:
            while chunk := file.read(CHUNK):
                writer.write(chunk)
            writer.commit()
            return writer.digest

    def close(self) -> None:
        """Release the reservations. Where the storage does not answer, housekeeping does it."""
        for reservation in self._reservations:
            try:
                self._metadata.ledger.release(reservation.id, self._blobs.delete)
            except StorageError as error:
                log.warning("%s is left to housekeeping: %s", reservation.id, error)
        self._reservations.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the account in a thread, even where the caller is cancelled."""
        await asyncio.shield(asyncio.to_thread(self.close))


def _opened(path: str, flags: int) -> int:
    """Open a regular file: no link, and no pipe, for which opening would wait. Raises OSError of NO_FILE."""
    found = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(found).st_mode):
        return found
    os.close(found)
    raise OSError(errno.EISDIR, "no regular file", path)


def settle(metadata: Metadata, blobs: Blobs, tenant: str | None = None) -> tuple[int, int]:
    """Delete blobs that are charged to a tenant, or to any, and that nothing of the tenant refers to.

    Returns how many blobs were deleted, and their bytes. Safe beside uploads and beside others that do it.
    """
    sizes: list[int] = []
    seen: tuple[tuple[str, str], ...] = ()
    while (unused := metadata.ledger.unreferenced(BATCH, tenant)) and unused != seen:  # else others are at them
        sizes += filter(None, [metadata.ledger.collect(*charge, blobs.delete) for charge in unused])
        seen = unused
    return len(sizes), sum(sizes)
