"""The bytes of resumable uploads: pieces that are durable one by one, put together at the end.

Whatever happens to the process, an upload stands at the offset that the metadata says, and the bytes before it are
there: a piece is stored under a name of its own first and recorded with a compare-and-set on the offset after that.
Two writers to one upload cannot mix: the slower one gets OffsetError.
"""

from service.storage.blobs import Blobs
from service.storage.metadata import Metadata
from service.storage.records import Upload

PIECE = 2**23  # bytes of one piece


def append(metadata: Metadata, blobs: Blobs, tenant: str, id: str, offset: int, chunk: bytes) -> Upload:
    """Store one piece (collect about PIECE bytes for it, or what came before the client went away)."""
    raise NotImplementedError


def complete(metadata: Metadata, blobs: Blobs, tenant: str, id: str) -> Upload:
    """Put all pieces of a full upload into one blob; may be repeated. Raises OffsetError where bytes are missing."""
    raise NotImplementedError


def discard(metadata: Metadata, blobs: Blobs, tenant: str, id: str) -> None:
    """Remove an upload and its pieces."""
    raise NotImplementedError
