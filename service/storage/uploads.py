"""The bytes of resumable uploads: pieces that are durable one by one, put together at the end.

Whatever happens to the process, an upload stands at the offset that the metadata says, and the bytes before it are
there: a piece is stored under a name of its own first, and then recorded with a compare-and-set on the offset. Two
writers to one upload cannot mix: the slower one gets OffsetError.
"""

import secrets

from service.errors import NotFoundError, StorageDamagedError
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata
from service.storage.records import Upload

PIECE = 2**23  # bytes of one piece


def append(metadata: Metadata, blobs: Blobs, tenant: str, id: str, offset: int, data: bytes) -> Upload:
    """Store one piece: collect about PIECE bytes for it, or what came before the client went away.

    Raises OffsetError where the upload does not stand at `offset` or has no room for it.
    """
    metadata.uploads.require(tenant, id, offset, len(data))
    if not data:
        return metadata.uploads.get(tenant, id)
    name = secrets.token_hex(16)
    blobs.put_part(id, name, data)
    return metadata.uploads.append(tenant, id, offset, name, len(data))


def complete(metadata: Metadata, blobs: Blobs, tenant: str, id: str) -> Upload:
    """Put all pieces of a full upload into one blob. May be repeated, and by two at a time.

    Raises OffsetError where bytes are missing.
    """
    upload = metadata.uploads.get(tenant, id)
    if upload.digest is None:
        metadata.uploads.require(tenant, id, upload.length, 0)
        try:
            digest = _join(blobs, upload, metadata.uploads.parts(tenant, id))
        except (NotFoundError, StorageDamagedError):
            if metadata.uploads.get(tenant, id).digest is None:  # else somebody was faster
                raise
        else:
            metadata.uploads.complete(tenant, id, digest)
    blobs.drop_parts(id)
    return metadata.uploads.get(tenant, id)


def _join(blobs: Blobs, upload: Upload, names: tuple[str, ...]) -> str:
    with blobs.writer() as writer:
        for name in names:
            for chunk in blobs.read_part(upload.id, name):
                writer.write(chunk)
        if writer.size != upload.length:
            raise StorageDamagedError(f"pieces of upload {upload.id} are missing", "delete it and begin a new one")
        writer.commit()
        return writer.digest


def discard(metadata: Metadata, blobs: Blobs, tenant: str, id: str) -> None:
    """Remove an upload and its pieces. Raises NotFoundError."""
    metadata.uploads.delete(tenant, id)
    blobs.drop_parts(id)
