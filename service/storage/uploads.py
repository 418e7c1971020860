"""The bytes of resumable uploads: pieces that are durable one by one, put together at the end.

Whatever happens to the process, an upload stands at the offset that the metadata says, and the bytes before it are
there: a piece is stored first, and then recorded with a compare-and-set on the offset. Two writers to one upload cannot
mix: pieces have names of their own, or their writers take turns; the slower one gets OffsetError.
"""

import secrets

from service.errors import NotFoundError, StorageDamagedError
from service.storage.accounts import Account, settle
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata
from service.storage.records import Upload

PIECE = 2**23  # bytes of one piece


def append(metadata: Metadata, blobs: Blobs, tenant: str, id: str, offset: int, data: bytes) -> Upload:
    """Store one piece, of about PIECE bytes, or of fewer where the client went away.

    Raises OffsetError where the upload does not stand at `offset` or has no room for it.
    """
    metadata.uploads.require(tenant, id, offset, len(data))
    if not data:
        return metadata.uploads.get(tenant, id)
    name = secrets.token_hex(16)
    with blobs.turn(id):
        metadata.uploads.require(tenant, id, offset, len(data))
        blobs.put_part(id, name, offset, data)
        try:
            return metadata.uploads.append(tenant, id, offset, name, len(data))
        except BaseException:
            blobs.drop_part(id, name)
            raise


def complete(metadata: Metadata, blobs: Blobs, tenant: str, id: str) -> Upload:
    """Put all pieces of a full upload into one blob. May be repeated, and by two at a time.

    Where a store has to copy them the copy counts, beyond the quota if need be: it is there for a moment only. Raises
    OffsetError where bytes are missing.
    """
    upload = metadata.uploads.get(tenant, id)
    if upload.sha256 is None:
        metadata.uploads.require(tenant, id, upload.length, 0)
        with Account(metadata, blobs, tenant) as account:
            try:
                pieces = metadata.uploads.parts(tenant, id)
                with blobs.turn(id):
                    digest = blobs.join(id, pieces, upload.length, account.reserve())
            except (NotFoundError, StorageDamagedError):
                if metadata.uploads.get(tenant, id).sha256 is None:  # else somebody was faster
                    raise
            else:
                metadata.uploads.complete(tenant, id, digest)
    blobs.drop_parts(id)
    return metadata.uploads.get(tenant, id)


def discard(metadata: Metadata, blobs: Blobs, tenant: str, id: str) -> None:
    """Remove an upload and its bytes. Raises NotFoundError."""
    metadata.uploads.end(tenant, id)
    remove_ended(metadata, blobs, id)
    settle(metadata, blobs, tenant)


def remove_ended(metadata: Metadata, blobs: Blobs, id: str) -> None:
    """Remove the pieces of an upload that has ended, then its row, by which they count."""
    blobs.drop_parts(id)
    metadata.uploads.forget(id)
