"""Deletes what has expired, then blobs that nothing refers to. service/storage/ledger.py says why that is safe."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from service.storage.accounts import BATCH, settle
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata
from service.storage.uploads import remove_ended


@dataclass(frozen=True)
class Swept:
    """What a sweep removed."""

    objects: int
    uploads: int
    jobs: int
    blobs: int
    bytes: int


def sweep(metadata: Metadata, blobs: Blobs, now: datetime, grace: timedelta) -> Swept:
    """Remove expired objects, uploads and finished jobs, and what processes were writing that have given no sign of
    life within the grace period; then blobs that nothing refers to.

    Safe beside uploads and beside other sweeps, on this machine and others. Raises StorageError; what was removed by
    then is gone for good, and the next sweep goes on.
    """
    objects = metadata.objects.expire(now)
    uploads = metadata.uploads.expire(now)
    jobs = metadata.jobs.expire(now)
    for id in metadata.uploads.ended():
        remove_ended(metadata, blobs, id)
    _drop_others(blobs.uploads(), metadata.uploads.with_parts, blobs.drop_parts)
    abandon(metadata, blobs, now - grace)
    count, size = settle(metadata, blobs)
    while unclaimed := metadata.ledger.unclaimed(now - grace, BATCH):
        gone = [metadata.ledger.drop(digest, now - grace, blobs.delete) for digest in unclaimed]
        if not any(each is not None for each in gone):
            break  # others are at them
        count += sum(each is not None for each in gone)
        size += sum(each or 0 for each in gone)
    return Swept(objects, uploads, jobs, count, size)


def abandon(metadata: Metadata, blobs: Blobs, before: datetime) -> None:
    """Delete what was being written by processes that have given no sign of life since `before`."""
    for id in metadata.ledger.stale(before):
        blobs.drop_scratch(id)
        metadata.ledger.release(id, blobs.delete)
    _drop_others(blobs.scratch(), metadata.ledger.reserved, blobs.drop_scratch)


def _drop_others(
    names: Iterator[str], known: Callable[[frozenset[str]], frozenset[str]], drop: Callable[[str], None]
) -> None:
    while some := frozenset(islice(names, BATCH)):
        for name in some - known(some):
            drop(name)


def adopt(metadata: Metadata, blobs: Blobs) -> int:
    """Put blobs that only the store knows on the ledger, so that they are used or collected. Returns how many.

    There are such blobs after the database was restored from an older backup. To be run when the service starts.
    """
    listing = blobs.listing()
    adopted = 0
    while some := dict(islice(listing, BATCH)):
        adopted += metadata.ledger.adopt(some)
    return adopted
