"""Uploads and downloads that continue after a lost connection, without sending again what has arrived."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from graphpass.client.connection import Connection, checked, document, header, number
from graphpass.errors import DataError, RemoteError
from graphpass.files import replacing
from graphpass.progress import Progress

SMALL = 8 * 2**20  # bytes of a file that is sent in one request
PIECE = 32 * 2**20  # bytes of one request of a larger one
CHUNK = 2**18  # bytes between two calls of progress
TUS = {"Tus-Resumable": "1.0.0"}
MOVED = frozenset({"upload-offset", "malformed-request"})  # the service knows how much has arrived


def upload(
    connection: Connection,
    kind: str,
    path: Path,
    progress: Progress,
    resume: str | None,
    name: str | None,
    wanted: Sequence[str],
) -> dict[str, Any]:
    """Send a file and return the service's answer, which has the wanted names. Raises the error that it finds."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
    if path.is_dir():
        raise DataError(f"{path}: is a folder", "pack what it holds in a .zip, as `graphpass --server` does")
    called, collection = name or path.name, f"/v1/{kind}s"
    if size <= SMALL and resume is None:
        for attempt in connection.patience():
            with attempt:
                body = _read(path, 0, size, lambda done: progress("uploading", done, size))
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
                answer = connection.http.post(collection, params={"name": called}, content=body, headers=headers)
                return dict(document(checked(answer), *wanted))
    address = resume or _begin(connection, kind, called, size)
    try:
        _send(connection, address, path, size, progress)
    except BaseException as error:
        error.add_note(f"the upload can go on: resume={address!r}")
        raise
    # No idempotency key is needed: equal bytes are one object.
    finished = {"upload": address.rpartition("/")[2], "name": called}
    return dict(connection.read("POST", collection, *wanted, json=finished))


def download(connection: Connection, address: str, path: Path, digest: str | None, progress: Progress) -> None:
    """Download a file, in parts if connections break, check it, and move it into place in one step."""
    with replacing(path, DataError) as part:
        with part.open("wb") as file:
            tag = ""
            for attempt in connection.patience():
                with attempt:
                    start = file.tell()
                    headers = {"Range": f"bytes={start}-", "If-Range": tag} if start else {}
                    with connection.http.stream("GET", address, headers=headers) as answer:
                        checked(answer)
                        if answer.status_code != 206:
                            file.seek(0)
                            file.truncate()
                        tag = answer.headers.get("ETag", "")
                        total = file.tell() + int(answer.headers.get("Content-Length", 0))
                        for chunk in answer.iter_bytes(CHUNK):
                            file.write(chunk)
                            attempt.succeeded()
                            progress("downloading", file.tell(), total)
        if digest is not None and _sha256(part) != digest:
            raise RemoteError(f"{path}: what arrived is not what was sent", "download it again", "digest")


def _begin(connection: Connection, kind: str, name: str, size: int) -> str:
    named = ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in (("filename", name), ("kind", kind))
    )
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": named}
    return header(connection.ask("POST", "/v1/uploads", headers=headers), "Location")


def _send(connection: Connection, address: str, path: Path, size: int, progress: Progress) -> None:
    """Send the rest of an upload in pieces; after a failure the service is asked how much has arrived."""
    for attempt in connection.patience():
        with attempt:
            offset = _standing(connection, address, path, size)
            while offset < size:
                start, stop = offset, min(offset + PIECE, size)
                body = _read(path, start, stop, lambda done, start=start: progress("uploading", start + done, size))  # type: ignore[misc]
                headers = {
                    **TUS,
                    "Content-Type": "application/offset+octet-stream",
                    "Content-Length": str(stop - start),
                    "Upload-Offset": str(start),
                }
                try:
                    answer = checked(connection.http.patch(address, content=body, headers=headers))
                except RemoteError as error:
                    if error.slug not in MOVED:
                        raise
                    raise httpx.TransportError(str(error)) from error  # treated as a lost connection: ask, and continue
                offset = number(answer, "Upload-Offset")
                attempt.succeeded()


def _standing(connection: Connection, address: str, path: Path, size: int) -> int:
    answer = checked(connection.http.head(address, headers=TUS))
    if number(answer, "Upload-Length") != size:
        raise DataError(f"{path}: not the file that this upload was started with", "upload it again without `resume`")
    return number(answer, "Upload-Offset")


def _read(path: Path, start: int, stop: int, report: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while (here := file.tell()) < stop:
            chunk = file.read(min(CHUNK, stop - here))
            if not chunk:
                raise DataError(f"{path}: became shorter while it was sent", "send it when it is complete")
            yield chunk
            report(file.tell() - start)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
