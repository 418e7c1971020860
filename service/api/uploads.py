"""/v1/uploads: the core of tus 1.0 with creation, expiration and termination. What has arrived stays."""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.requests import ClientDisconnect

from service.api.context import Service, ServiceDependency, Tenant, problems
from service.api.intake import CHUNK, file_name
from service.api.responses import UploadAnswer, upload_answer
from service.api.strictness import Digits, StrictRoute
from service.problems import ProblemError, ended_early, too_large
from service.storage.records import ObjectKind, Upload
from service.storage.scratch import Spool
from service.storage.uploads import PIECE, append, complete, discard

VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,termination"
PATCH_MEDIA = "application/offset+octet-stream"
router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=StrictRoute)
KINDS: Mapping[str, ObjectKind] = {
    ".onnx": "model",
    ".npz": "dataset",
    ".npy": "dataset",
    ".tar": "dataset",
    ".parquet": "dataset",
}


async def speaks_tus(
    version: Annotated[str, Header(alias="Tus-Resumable", json_schema_extra={"enum": [VERSION]})],
) -> None:
    """Refuse another version of tus. Problem: tus-version."""
    if version != VERSION:
        raise ProblemError(
            "tus-version",
            f"Tus-Resumable is {version[:20]}",
            f"send Tus-Resumable: {VERSION}",
            where="Tus-Resumable",
            headers={"Tus-Version": VERSION},
        )


Count = Annotated[int, Digits, Header(ge=0, le=2**53)]


@router.options("", status_code=204, summary="What the server can do")
def can(service: ServiceDependency) -> Response:
    """Versions, extensions and the largest upload; needs no key."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(int(service.settings.max_upload_bytes)),
        },
    )


@router.post(
    "",
    status_code=201,
    summary="Begin a resumable upload",
    response_class=Response,
    dependencies=[Depends(speaks_tus)],
    responses=problems(
        "tus-version", "too-large", "storage-quota", also={201: {"description": "Its address is in Location."}}
    ),
)
def create(
    service: ServiceDependency,
    tenant: Tenant,
    length: Annotated[int, Digits, Header(alias="Upload-Length", ge=1, le=2**53)],
    metadata: Annotated[
        str, Header(alias="Upload-Metadata", max_length=4096, description="`filename` and `kind` (model or dataset).")
    ] = "",
) -> Response:
    """tus 1.0. The kind may be left out where the file name tells it (.onnx, .npz, .npy, .tar, .parquet)."""
    if length > service.settings.max_upload_bytes:
        raise too_large(int(service.settings.max_upload_bytes))
    given = _metadata(metadata)
    name = file_name(given.get("filename") or given.get("name"), "upload")
    kind = given.get("kind") or KINDS.get(name[name.rfind(".") :].lower() if "." in name else "")
    if kind not in ("model", "dataset"):
        raise ProblemError(
            "invalid-request",
            "the request does not say whether this is a model or a dataset",
            "add `kind` to Upload-Metadata: model or dataset, in base64",
            where="Upload-Metadata",
        )
    settings = service.settings
    upload = service.metadata.uploads.create(
        tenant,
        "model" if kind == "model" else "dataset",
        name=name,
        length=length,
        metadata=given,
        expires=settings.unfinished_expiry(datetime.now(UTC)),
        quota=settings.quota,
    )
    return Response(status_code=201, headers={"Location": f"/v1/uploads/{upload.id}", **_headers(upload)})


@router.head(
    "/{id}",
    summary="Where it stands",
    response_class=Response,
    dependencies=[Depends(speaks_tus)],
    responses=problems("not-found", "tus-version"),
)
def offset(id: str, service: ServiceDependency, tenant: Tenant) -> Response:
    """Upload-Offset says how many bytes are stored safely."""
    upload = service.metadata.uploads.get(tenant, id)
    headers = {"Upload-Length": str(upload.length), "Cache-Control": "no-store", **_headers(upload)}
    return Response(status_code=200, headers=headers)


@router.get("/{id}", response_model=UploadAnswer, summary="Get an upload", responses=problems("not-found"))
def get(id: str, service: ServiceDependency, tenant: Tenant) -> UploadAnswer:
    """The upload, and how many of its bytes have arrived, as JSON."""
    return upload_answer(service.metadata.uploads.get(tenant, id))


@router.patch(
    "/{id}",
    status_code=204,
    summary="Send bytes",
    response_class=Response,
    dependencies=[Depends(speaks_tus)],
    responses=problems(
        "not-found",
        "tus-version",
        "upload-offset",
        "media-type",
        "too-large",
        "storage-quota",
        also={204: {"description": "Upload-Offset tells where to go on."}},
    ),
    openapi_extra={"requestBody": {"content": {PATCH_MEDIA: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def send(
    request: Request,
    id: str,
    service: ServiceDependency,
    tenant: Tenant,
    offset: Annotated[Count, Header(alias="Upload-Offset", description="Where these bytes belong.")],
) -> Response:
    """The bytes from Upload-Offset on; what arrives before the connection breaks is kept."""
    upload = await asyncio.to_thread(service.metadata.uploads.get, tenant, id)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PATCH_MEDIA:
        raise ProblemError(
            "media-type", "this is not a piece of an upload", f"send {PATCH_MEDIA}", where="Content-Type"
        )
    if offset != upload.offset:
        raise _elsewhere(upload)
    upload = await _receive(request, service, tenant, upload)
    if upload.offset == upload.length and upload.sha256 is None:
        upload = await asyncio.to_thread(complete, service.metadata, service.blobs, tenant, id)
    return Response(status_code=204, headers=_headers(upload))


@router.delete(
    "/{id}",
    status_code=204,
    summary="Give an upload up",
    response_class=Response,
    dependencies=[Depends(speaks_tus)],
    responses=problems("not-found", "tus-version"),
)
def give_up(id: str, service: ServiceDependency, tenant: Tenant) -> Response:
    """Its bytes go; a model or dataset that was made of it stays."""
    discard(service.metadata, service.blobs, tenant, id)
    return Response(status_code=204)


async def _receive(request: Request, service: Service, tenant: str, upload: Upload) -> Upload:
    """Store the body piece by piece. Bytes that do not fill a piece wait on disk: a body that stalls takes no memory.

    What has arrived when the client goes away is stored as well.
    """
    held = bytearray()
    with Spool(service.settings.data_dir / "scratch") as spool:

        async def spill() -> None:
            data = bytes(held)
            held.clear()
            await asyncio.to_thread(spool.write, data)

        async def store() -> None:
            nonlocal upload
            await spill()
            if spool.size:
                upload = await to_thread.run_sync(
                    lambda: append(service.metadata, service.blobs, tenant, upload.id, upload.offset, spool.take()),
                    limiter=service.pieces,
                )

        try:
            async for part in request.stream():
                if upload.offset + spool.size + len(held) + len(part) > upload.length:
                    raise too_large(upload.length)
                held += part
                if len(held) >= CHUNK:
                    await spill()
                if spool.size >= PIECE:
                    await store()
        except ClientDisconnect:
            await asyncio.shield(store())
            raise ended_early("ask for the offset of the upload, and continue") from None
        await store()
    return upload


def _headers(upload: Upload) -> dict[str, str]:
    found = {"Upload-Offset": str(upload.offset)}
    if upload.expires:
        found["Upload-Expires"] = format_datetime(upload.expires.astimezone(UTC), usegmt=True)
    return found


def _elsewhere(upload: Upload) -> ProblemError:
    return ProblemError(
        "upload-offset",
        f"the offset of the upload is {upload.offset}",
        "send the bytes from there",
        where="Upload-Offset",
        headers={"Upload-Offset": str(upload.offset)},
    )


def _metadata(text: str) -> dict[str, str]:
    """Read Upload-Metadata, as `key base64,key base64`. Problem: invalid-request."""
    found = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        key, _, value = pair.partition(" ")
        if key in found:
            raise ProblemError(
                "invalid-request", f"{key[:50]!r} appears twice", "give it once", where="Upload-Metadata"
            )
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise ProblemError(
                "invalid-request", f"the value of {key[:50]!r} is not base64 of UTF-8", where="Upload-Metadata"
            ) from None
    return found
