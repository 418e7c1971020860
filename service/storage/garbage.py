"""What has expired goes, and after it the blobs that nothing refers to. Why that is safe: service/storage/ledger.py."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from service.storage.blobs import Blobs
from service.storage.metadata import Metadata

BATCH = 500
SCRATCH = timedelta(days=1)  # after so long without a byte a writer is dead


@dataclass(frozen=True)
class Swept:
    """What a sweep removed."""

    objects: int
    uploads: int
    jobs: int
    blobs: int
    bytes: int


def sweep(metadata: Metadata, blobs: Blobs, now: datetime, grace: timedelta) -> Swept:
    """Remove expired objects, uploads and finished jobs; then blobs that nothing refers to and nobody held lately.

    Safe beside uploads and beside other sweeps, on this machine and others. Raises StorageError; what was removed by
    then is gone for good, and the next sweep goes on.
    """
    objects = metadata.objects.expire(now)
    uploads = metadata.uploads.expire(now)
    jobs = metadata.jobs.expire(now)
    stored = blobs.uploads()
    while some := frozenset(islice(stored, BATCH)):
        for id in some - metadata.uploads.with_parts(some):
            blobs.drop_parts(id)
    blobs.tidy(now - SCRATCH)
    sizes = []
    while unused := metadata.ledger.unreferenced(now - grace, BATCH):
        collected = [metadata.ledger.collect(digest, now - grace, blobs.delete) for digest in unused]
        sizes += [size for size in collected if size is not None]
        if not any(size is not None for size in collected):
            break  # others are at them
    return Swept(objects, uploads, jobs, len(sizes), sum(sizes))


def adopt(metadata: Metadata, blobs: Blobs) -> int:
    """Put blobs on the ledger that are in the store alone, so that they are used or collected; how many.

    There are such blobs after the database was restored from an older backup. To be run when the service starts.
    """
    listing = blobs.listing()
    adopted = 0
    while some := dict(islice(listing, BATCH)):
        adopted += metadata.ledger.adopt(some)
    return adopted
