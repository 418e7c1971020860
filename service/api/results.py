"""The files of a job: ranges, entity tags and names; the HTML report of a user's job is served without any rights."""

import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from service.api.conditions import Conditions, is_unchanged, parts_of
from service.api.context import Service, ServiceDependency, Tenant, problems
from service.api.jobs import job_of
from service.api.reading import in_turn, reading
from service.api.responses import COLLECTIONS, JobKind
from service.errors import NotFoundError
from service.problems import ProblemError
from service.storage.records import FINISHED, Job

P = ParamSpec("P")
R = TypeVar("R")
BINARY, JSON, HTML = "application/octet-stream", "application/json", "text/html; charset=utf-8"
# The report runs its own inline plots and nothing else: an origin of its own, no network, no forms, no top window.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; frame-ancestors 'self'"
)


async def conditions(
    request: Request,
    match: Annotated[str | None, Header(alias="If-Match", description="Entity tags, compared strongly.")] = None,
    none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="Entity tags, compared weakly.")
    ] = None,
    ranges: Annotated[str | None, Header(alias="Range", description="Bytes, as `bytes=0-99` or `bytes=-1`.")] = None,
    if_range: Annotated[str | None, Header(alias="If-Range", description="Ranges of this entity tag alone.")] = None,
) -> Conditions:
    """What a request for a file asks besides it."""
    listed = {
        name: ",".join(lines) for name in ("If-Match", "If-None-Match") if (lines := request.headers.getlist(name))
    }
    return Conditions(listed.get("If-Match"), listed.get("If-None-Match"), ranges, if_range)


Asked = Annotated[Conditions, Depends(conditions)]
Format = Annotated[Literal["html", "json"], Query(description="html: self-contained, with plots; json: the figures.")]


def routes(kind: JobKind) -> APIRouter:
    """The files of jobs of one kind."""
    router = APIRouter(prefix=f"/v1/{COLLECTIONS[kind]}", tags=[COLLECTIONS[kind]])

    if kind == "conversion":

        @router.get("/{id}/artifact", summary="Download the converted network", **_answers(BINARY))
        async def artifact(
            request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked
        ) -> Response:
            """An ONNX file for any onnxruntime. Ranges and entity tags resume a download."""
            job = await run_in_threadpool(job_of, service, tenant, id, kind)
            name = await run_in_threadpool(_snn_name, service, job)
            return await _file(request, service, job, "snn.onnx", BINARY, asked, name=name)

        @router.get("/{id}/plan", summary="Download the plan", **_answers(JSON))
        async def plan(request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked) -> Response:
            """What calibration decided, as in docs/formats.md; `graphpass convert --plan` applies it again."""
            job = await run_in_threadpool(job_of, service, tenant, id, kind)
            return await _file(request, service, job, "plan.json", JSON, asked)

        @router.get("/{id}/result", summary="Get the whole result", **_answers(JSON))
        async def result(
            request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked
        ) -> Response:
            """All that `result` is a summary of, but for `evaluation`; there is one where something was left out."""
            job = await run_in_threadpool(job_of, service, tenant, id, kind)
            return await _file(request, service, job, "result.json", JSON, asked)

        @router.get("/{id}/plan/arrays", summary="Download the plan's weights", **_answers(BINARY))
        async def plan_arrays(
            request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked
        ) -> Response:
            """The .npz that belongs beside the plan; there is none where calibration changed no weights."""
            job = await run_in_threadpool(job_of, service, tenant, id, kind)
            return await _file(request, service, job, "plan.npz", BINARY, asked)

    @router.get("/{id}/report", summary="Get the report", **_answers(HTML, JSON))
    async def report(
        request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked, format: Format = "html"
    ) -> Response:
        """Accuracy, spikes, operations and energy; a conversion has one if it was asked to evaluate."""
        job = await run_in_threadpool(job_of, service, tenant, id, kind)
        if format == "json":
            return await _file(request, service, job, "report.json", JSON, asked)
        found = await _file(request, service, job, "report.html", HTML, asked, place="inline")
        found.headers["Content-Security-Policy"] = REPORT_POLICY
        return found

    return router


def _answers(*media: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {each.partition(";")[0]: ({} if each == JSON else binary) for each in media}
    return {
        "response_class": Response,
        "responses": problems(
            "not-found",
            "not-ready",
            "precondition",
            "range",
            also={
                200: {"description": "All of it.", "content": content},
                206: {
                    "description": "The range, or several.",
                    "content": {**content, "multipart/byteranges": binary},
                },
                304: {"description": "It has not changed."},
            },
        ),
    }


async def _file(
    request: Request,
    service: Service,
    job: Job,
    file: str,
    media: str,
    asked: Conditions,
    *,
    name: str | None = None,
    place: Literal["attachment", "inline"] = "attachment",
) -> Response:
    """One file of a job. Problems: not-ready, precondition, range."""
    digest = job.artifacts.get(file)
    if digest is None:
        remedy = "wait until it has succeeded" if job.state not in FINISHED else "ask for one that it made: see `links`"
        raise ProblemError("not-ready", f"{job.id} is {job.state} and has no {file}", remedy)
    tag = f'"{digest}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'{place}; filename="{name or f"{job.id}-{file}"}"',
    }
    if is_unchanged(asked, tag):
        return Response(status_code=304, headers=headers)
    request.state.end_turn()  # the store has its own turns
    size = await in_turn(service, service.blobs.size, digest)
    parts = parts_of(asked, tag, size)
    several = parts is not None and len(parts) > 1
    boundary = secrets.token_hex(16)
    pieces: list[tuple[bytes, int, int]] = [(b"", *part) for part in parts or [(0, size)]]
    if several:
        pieces = [(_head(boundary, media, start, end, size), start, end) for _, start, end in pieces]
        pieces.append((f"\r\n--{boundary}--\r\n".encode(), 0, 0))
        media = f"multipart/byteranges; boundary={boundary}"
    elif parts:
        headers["Content-Range"] = f"bytes {pieces[0][1]}-{pieces[0][2] - 1}/{size}"
    headers["Content-Length"] = str(sum(len(head) + end - start for head, start, end in pieces))
    content = await reading(service, job.tenant, digest, pieces)
    return StreamingResponse(content, status_code=206 if parts else 200, headers=headers, media_type=media)


def _head(boundary: str, media: str, start: int, end: int, size: int) -> bytes:
    """The head of one of several ranges in one answer (RFC 9110, 14.6)."""
    lines = ["", f"--{boundary}", f"Content-Type: {media}", f"Content-Range: bytes {start}-{end - 1}/{size}", "", ""]
    return "\r\n".join(lines).encode()


def _snn_name(service: Service, job: Job) -> str:
    """`net.onnx` converted at T = 4 becomes `net-snn-T4.onnx`."""
    try:
        source = service.metadata.objects.get(job.tenant, job.request["model"]).name
    except NotFoundError:  # deleted meanwhile
        source = "model.onnx"
    stem = source.rpartition(".")[0] or "model"
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", stem)
    result: Mapping[str, object] = job.result or {}
    return f"{plain}-snn-T{result['time_steps']}.onnx" if "time_steps" in result else f"{plain}-snn.onnx"
