"""What has expired goes, and after it the blobs that nothing refers to."""

from dataclasses import dataclass
from datetime import datetime

from service.storage.blobs import Blobs
from service.storage.metadata import Metadata


@dataclass(frozen=True)
class Swept:
    """What a sweep removed."""

    objects: int
    uploads: int
    jobs: int
    blobs: int
    bytes: int


def sweep(metadata: Metadata, blobs: Blobs, now: datetime) -> Swept:
    """Remove expired objects, uploads and finished jobs, then blobs without a reference older than the grace period.

    Safe beside uploads and beside other sweeps, on this machine and others.
    """
    raise NotImplementedError
