"""Blobs in an S3 bucket.

    <prefix>/sha256/ab34…           whole blobs
    <prefix>/parts/<upload>/<part>  pieces of unfinished uploads

A blob is spooled to a local file, where its digest becomes known, and put from there, in parts where it is large: S3
shows it when it is complete. A process that dies on the way leaves parts of a multipart upload that only the bucket can
see: let its life cycle rules abort them after a day.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from service.errors import NotFoundError, StorageDamagedError, StorageError, StorageFullError, StorageUnavailableError
from service.settings import Settings
from service.storage.blobs import (
    DIGEST,
    PART,
    Hasher,
    Room,
    Writer,
    checked,
    checked_name,
    missing,
    pieces_missing,
    start_reading,
)
from service.storage.scratch import drop, file_writer, names, typed

if TYPE_CHECKING:
    from obstore.store import S3Config  # exists for type checkers only

PIECE = 2**23  # bytes of one request; every one is tried again on its own
LEAST_PIECE = 2**20  # bytes of a request for somebody who reads slowly
CONCURRENCY = 3  # requests at a time for one blob, each holds a piece in memory
REQUEST, SILENCE = timedelta(seconds=60), timedelta(seconds=20)  # most for one request, and in it until bytes arrive
GIVE_UP = timedelta(seconds=15)  # less than SILENCE: a request that hung is not sent again


def connect(settings: Settings) -> S3Store:
    """The bucket of the settings; credentials and region as AWS_… variables say. Asks nothing of the network yet."""
    url = urlsplit(settings.store_url)
    config: S3Config = {"bucket": url.netloc}
    if settings.store_endpoint:
        config["endpoint"] = settings.store_endpoint
    try:
        return S3Store(
            config=config,
            prefix=url.path.strip("/") or None,
            client_options={
                "allow_http": settings.store_endpoint.startswith("http://"),
                "timeout": REQUEST,
                "read_timeout": SILENCE,
                "connect_timeout": timedelta(seconds=5),
            },
            retry_config={"max_retries": 4, "retry_timeout": GIVE_UP},
        )
    except BaseError as error:
        raise _typed(error, settings.store_url) from error


def _typed(error: Exception, place: str) -> StorageError:
    """An error of the store as a StorageError that names the store."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        remedy = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights of that user on the bucket"
        return StorageUnavailableError(f"the store {place} refuses: {reason}", remedy, part=PART)
    if "XMinioStorageFull" in str(error) or "507 Insufficient Storage" in str(error):
        return StorageFullError(f"no space left in the store {place}", "make room and try again", part=PART)
    remedy = "check GRAPHPASS_STORE_URL, GRAPHPASS_STORE_ENDPOINT and that it is running, then try again"
    return StorageUnavailableError(f"the store {place} does not answer: {reason}", remedy, part=PART)


class S3Blobs:
    """See blobs.Blobs."""

    is_folder = False

    def __init__(self, store: S3Store, spool: Path):
        self.spool = spool
        self._store = store
        self._place = f"s3://{store.config.get('bucket', '')}/{store.prefix or ''}".rstrip("/")
        with typed(spool):
            spool.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise StorageUnavailableError(
                    f"there is no bucket {self._place}", "make it, or correct GRAPHPASS_STORE_URL", part=PART
                ) from error
            raise missing(name) from error
        except BaseError as error:
            raise _typed(error, self._place) from error

    def writer(self, room: Room) -> AbstractContextManager[Writer]:
        """See Blobs.writer."""
        return file_writer(self.spool, room, self._put)

    def _put(self, _: int, path: Path, digest: str, size: int) -> None:
        """Put a file, unless it is there."""
        with suppress(NotFoundError):
            if self.size(digest) == size:
                return
        with self._errors(digest):
            obstore.put(self._store, _key(digest), path, chunk_size=PIECE, max_concurrency=CONCURRENCY)

    def fetch(self, digest: str, path: Path) -> None:
        """Download a blob, and check it against its digest."""
        hasher = Hasher()
        chunks = self.read(digest)
        with typed(path.parent):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    hasher.update(chunk)
                    with typed(path.parent):
                        file.write(chunk)
                with typed(path.parent):
                    file.flush()
            if hasher.digest != digest:
                raise StorageDamagedError(
                    f"{self._place}/{_key(digest)} has other bytes than were stored",
                    "restore it from a backup",
                    part=PART,
                )
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def read(self, digest: str, start: int = 0, end: int | None = None, size: int = PIECE) -> Iterator[bytes]:
        """See Blobs.read."""
        return start_reading(self._chunks(_key(digest), start, end, max(size, LEAST_PIECE)))

    def _chunks(self, key: str, start: int, end: int | None, size: int) -> Iterator[bytes]:
        with self._errors(key):
            length = obstore.head(self._store, key)["size"]
        yield b""
        end = length if end is None else min(end, length)
        for position in range(start, end, size):
            with self._errors(key):
                chunk = bytes(obstore.get_range(self._store, key, start=position, end=min(position + size, end)))
            yield chunk

    def size(self, digest: str) -> int:
        """See Blobs.size."""
        with self._errors(digest):
            return obstore.head(self._store, _key(digest))["size"]

    def exists(self, digest: str) -> bool:
        """See Blobs.exists."""
        try:
            self.size(digest)
        except NotFoundError:
            return False
        return True

    def delete(self, digest: str) -> None:
        """See Blobs.delete."""
        with suppress(NotFoundError), self._errors(digest):
            obstore.delete(self._store, _key(digest))

    def listing(self) -> Iterator[tuple[str, int]]:
        """See Blobs.listing."""
        with self._errors():
            for some in obstore.list(self._store, prefix="sha256"):
                for entry in some:
                    if DIGEST.fullmatch(name := entry["path"].rpartition("/")[2]):
                        yield name, entry["size"]

    def turn(self, upload: str) -> AbstractContextManager[None]:
        """A context that locks nothing, since pieces are objects of their own."""
        return nullcontext()

    def put_part(self, upload: str, name: str, offset: int, data: bytes) -> None:
        """Store a piece as an object of its own."""
        with self._errors(upload):
            obstore.put(self._store, _part(upload, name), data, chunk_size=PIECE, max_concurrency=CONCURRENCY)

    def drop_part(self, upload: str, name: str) -> None:
        """Delete the object of a piece."""
        with suppress(NotFoundError), self._errors(upload):
            obstore.delete(self._store, _part(upload, name))

    def join(self, upload: str, pieces: Sequence[str], size: int, room: Room) -> str:
        """Copy the pieces into a blob. For a moment the store has the bytes twice, and the spool once more."""
        with self.writer(room) as writer:
            for name in pieces:
                for chunk in start_reading(self._chunks(_part(upload, name), 0, None, PIECE)):
                    writer.write(chunk)
            if writer.size != size:
                raise pieces_missing(upload)
            writer.commit()
            return writer.digest

    def drop_parts(self, upload: str) -> None:
        """Delete the objects of an upload."""
        with suppress(NotFoundError), self._errors(upload):
            for some in obstore.list(self._store, prefix=f"parts/{checked_name(upload)}"):
                obstore.delete(self._store, [entry["path"] for entry in some])

    def uploads(self) -> Iterator[str]:
        """Ids of uploads that have objects."""
        with self._errors():
            found = obstore.list_with_delimiter(self._store, prefix="parts")
            yield from (path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

    def scratch(self) -> Iterator[str]:
        """Names of the files in the spool."""
        return names(self.spool)

    def drop_scratch(self, id: str) -> None:
        """Remove a file in the spool."""
        drop(self.spool / checked_name(id))

    def probe(self) -> None:
        """Put and delete an object."""
        key = f"probe/{secrets.token_hex(16)}"
        with self._errors():
            obstore.put(self._store, key, b"probe")
            obstore.delete(self._store, key)


def _key(digest: str) -> str:
    return f"sha256/{checked(digest)}"


def _part(upload: str, name: str) -> str:
    return f"parts/{checked_name(upload)}/{checked_name(name)}"
