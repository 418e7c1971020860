"""Opens the store of blobs that the settings name."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.settings import Settings
from service.storage.blobs import Blobs
from service.storage.local import LocalBlobs


def open_blobs(settings: Settings) -> Blobs:
    """The store that GRAPHPASS_STORE_URL names; a folder in the data directory if it is empty. Raises StorageError."""
    url = urlsplit(settings.store_url)
    if url.scheme == "s3":
        from service.storage.s3 import S3Blobs, connect  # obstore is large, and needed here alone

        return S3Blobs(connect(settings), settings.data_dir / "spool")
    return LocalBlobs(Path(unquote(url.path)) if url.path else settings.data_dir / "blobs")
