"""/v1/models and /v1/datasets: raw bodies, streamed and hashed; what they hold is found out in the sandbox."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import StringConstraints

from graphpass.wording import counted
from service.api.context import Service, ServiceDependency, Tenant, problems
from service.api.intake import create_from_body, create_from_upload, file_name, read_small
from service.api.pages import After, Limit, next_link
from service.api.reading import blob_stream, in_turn
from service.api.requests import FromUpload
from service.api.responses import COLLECTIONS, ObjectAnswer, ObjectPage, object_answer
from service.api.strictness import StrictRoute, read_json
from service.problems import ProblemError, not_found
from service.storage.accounts import settle
from service.storage.records import ObjectKind, StoredObject
from service.storage.uploads import complete

MEDIA = "application/octet-stream"
PREFIX = {"model": "mod_", "dataset": "dat_"}
BODIES = (MEDIA, "application/zip", "application/x-npz", "application/onnx", "application/x-onnx")
DEFAULT_NAME = {"model": "model.onnx", "dataset": "data.npz"}
TAKES = {
    "model": "An `.onnx` file, or a `.zip` of one `.onnx` and its external data",
    "dataset": "An `.npz`, `.npy`, a `.zip` of `.npz` shards or of images by class, or a `.tar` or `.parquet` of them",
}
Name = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=200)] | None,
    Query(description="What to call it; shown in lists, messages and reports."),
]


def routes(kind: ObjectKind) -> APIRouter:
    """The routes of one kind of object."""
    collection = COLLECTIONS[kind]
    router = APIRouter(prefix=f"/v1/{collection}", tags=[collection], route_class=StrictRoute)

    @router.post(
        "",
        status_code=201,
        response_model=ObjectAnswer,
        summary=f"Upload a {kind}",
        description=f"{TAKES[kind]}, as the raw body; or the JSON of a finished resumable upload. A {kind} that is "
        "there already is answered as it is (200).",
        responses=problems(
                "not-found", "upload-incomplete", "too-large", "media-type", "storage-quota", "unsupported-model",
                f"invalid-{'data' if kind == 'dataset' else 'model'}", "memory-limit", "time-limit", "crashed",
             also={200: {"model": ObjectAnswer, "description": "It was there already."}}),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    MEDIA: {"schema": {"type": "string", "format": "binary"}},
                    "application/json": {"schema": FromUpload.model_json_schema()},
                },
            }
        },
    )  # fmt: skip
    async def create(
        request: Request, response: Response, service: ServiceDependency, tenant: Tenant, name: Name = None
    ) -> ObjectAnswer:
        media = request.headers.get("content-type", MEDIA).partition(";")[0].strip().lower()
        if media == "application/json":
            found, fresh = await _from_upload(request, service, tenant, kind, name)
        elif media in BODIES:
            called = file_name(name, DEFAULT_NAME[kind])
            found, fresh = await create_from_body(request, service, tenant, kind, called)
        else:
            raise ProblemError(
                "media-type", f"a {kind} does not come as {media}", f"send it as {MEDIA}", where="Content-Type"
            )
        if not fresh:
            response.status_code = 200
        response.headers["Location"] = f"/v1/{collection}/{found.id}"
        return object_answer(found)

    @router.get("", response_model=ObjectPage, summary=f"List {collection}", responses=problems())
    def list_them(service: ServiceDependency, tenant: Tenant, after: After = None, limit: Limit = 50) -> ObjectPage:
        page = service.metadata.objects.list(tenant, kind=kind, after=after, limit=limit)
        return ObjectPage(
            items=[object_answer(found) for found in page.rows], next=next_link(f"/v1/{collection}", page.after, limit)
        )

    @router.get("/{id}", response_model=ObjectAnswer, summary=f"Get a {kind}", responses=problems("not-found"))
    def get(id: str, service: ServiceDependency, tenant: Tenant) -> ObjectAnswer:
        return object_answer(object_of(service, tenant, id, kind))

    @router.get(
        "/{id}/description",
        response_class=JSONResponse,
        summary=f"Get the whole description of a {kind}",
        responses=problems("not-found"),
    )
    async def description(request: Request, id: str, service: ServiceDependency, tenant: Tenant) -> Response:
        """All that `description` is a summary of, as far as it fits into 16 MiB."""
        found = await run_in_threadpool(object_of, service, tenant, id, kind)
        digest = found.whole_description
        if digest is None:
            return JSONResponse(dict(found.description))
        request.state.end_turn()  # the store has its own turns
        size = await in_turn(service, service.blobs.size, digest)
        content = await blob_stream(service, tenant, digest, [(b"", 0, size)])
        return StreamingResponse(content, headers={"Content-Length": str(size)}, media_type="application/json")

    @router.delete("/{id}", status_code=204, summary=f"Delete a {kind}", responses=problems("not-found"))
    def delete(id: str, service: ServiceDependency, tenant: Tenant) -> None:
        """Jobs that were accepted before go on with it."""
        object_of(service, tenant, id, kind)
        service.metadata.objects.delete(tenant, id)
        settle(service.metadata, service.blobs, tenant)

    return router


def object_of(service: Service, tenant: str, id: str, kind: ObjectKind) -> StoredObject:
    """The tenant's object of this kind. Problem: not-found."""
    found = service.metadata.objects.get(tenant, id) if id.startswith(PREFIX[kind]) else None
    if found is None or found.kind != kind:
        raise not_found(f"{kind} {id[:64]}")
    return found


async def _from_upload(
    request: Request, service: Service, tenant: str, kind: ObjectKind, name: str | None
) -> tuple[StoredObject, bool]:
    asked = FromUpload.model_validate(read_json(await read_small(request)))
    upload = await asyncio.to_thread(service.metadata.uploads.get, tenant, asked.upload)
    if upload.kind != kind:
        raise ProblemError("invalid-request", f"upload {upload.id} is a {upload.kind}, not a {kind}", where="upload")
    if upload.sha256 is None and upload.offset == upload.length:  # its last PATCH is at that, or was cut off
        upload = await asyncio.to_thread(complete, service.metadata, service.blobs, tenant, upload.id)
    if upload.sha256 is None:
        raise ProblemError(
            "upload-incomplete",
            f"it has {upload.offset} of its {counted(upload.length, 'byte')}",
            "send the rest",
            where="upload",
        )
    called = file_name(asked.name or name or upload.name, DEFAULT_NAME[kind])
    return await create_from_upload(request, service, tenant, kind, called, upload.sha256, upload.id)
