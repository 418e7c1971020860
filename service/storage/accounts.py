"""A tenant's account while something is stored for it: what is reserved counts, and is let go at the end.

with Account(metadata, blobs, "acme", quota) as account:
    digest = account.store(path)
    …                                   # a row of the tenant refers to the digest, or it is gone afterwards
"""

import asyncio
import logging
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
log = logging.getLogger(__name__)


class Account:
    """What is reserved through it ends with it. `job`: the one whose reserve for its files is used."""

    def __init__(self, metadata: Metadata, blobs: Blobs, tenant: str, quota: Quota | None = None, job: str = ""):
        self._metadata, self._blobs, self._tenant, self._quota, self._job = metadata, blobs, tenant, quota, job
        self._reservations: list[Reservation] = []

    def reserve(self, size: int = 0) -> Reservation:
        """Room for a blob of `size` bytes; it grows where these turn out to be more. Raises QuotaError."""
        made = self._metadata.ledger.reserve(self._tenant, size, self._quota, self._job)
        self._reservations.append(made)
        return made

    def keep(self, digest: str) -> None:
        """Have a blob that the tenant bears stay until the end. Raises NotFoundError."""
        self._metadata.ledger.keep(self.reserve(), digest)

    def store(self, path: Path) -> str:
        """A file as a blob: its digest. Raises QuotaError before anything is written."""
        return self._written(path, self.reserve(path.stat().st_size))

    def store_all(self, folder: Path) -> Mapping[str, str]:
        """Every regular file of a folder, all or none: name → digest. Links are not followed. Raises QuotaError."""
        paths = [path for path in sorted(folder.iterdir()) if not path.is_symlink() and path.is_file()]
        rooms = [self.reserve(path.stat().st_size) for path in paths]
        return {path.name: self._written(path, room) for path, room in zip(paths, rooms, strict=True)}

    def _written(self, path: Path, room: Reservation) -> str:
        with path.open("rb") as file, self._blobs.writer(room) as writer:
            while chunk := file.read(CHUNK):
                writer.write(chunk)
            writer.commit()
            return writer.digest

    def close(self) -> None:
        """Let go of what was reserved. Where the storage is away housekeeping does it."""
        for reservation in self._reservations:
            try:
                self._metadata.ledger.release(reservation.id, self._blobs.delete)
            except StorageError as error:
                log.warning("%s is released later: %s", reservation.id, error)
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
        """In a thread, and to its end even where the caller is cancelled."""
        await asyncio.shield(asyncio.to_thread(self.close))


def settle(metadata: Metadata, blobs: Blobs, tenant: str | None = None) -> tuple[int, int]:
    """Collect what a tenant, or all, bear and nothing of theirs refers to: how many blobs went, and their bytes.

    Safe beside uploads and beside others that do it.
    """
    sizes: list[int] = []
    seen: tuple[tuple[str, str], ...] = ()
    while (unused := metadata.ledger.unreferenced(BATCH, tenant)) and unused != seen:  # else others are at them
        sizes += filter(None, [metadata.ledger.collect(*charge, blobs.delete) for charge in unused])
        seen = unused
    return len(sizes), sum(sizes)
