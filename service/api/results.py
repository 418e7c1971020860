"""The files of a job: ranges, entity tags and names; the HTML report of a user's job is served without any rights."""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from service.api.conditions import Conditions, is_unchanged, parts_of
from service.api.context import Service, ServiceDependency, Tenant, problems
from service.api.jobs import job_of
from service.api.reading import PIECE, blob_stream, in_turn
from service.api.responses import COLLECTIONS, CONVERTING
from service.api.strictness import StrictRoute
from service.errors import NotFoundError
from service.problems import ProblemError
from service.storage.records import FINISHED, JobKind, JobRecord

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
    """The conditions and ranges of a request for a file."""
    listed = {
        name: ",".join(lines) for name in ("If-Match", "If-None-Match") if (lines := request.headers.getlist(name))
    }
    return Conditions(listed.get("If-Match"), listed.get("If-None-Match"), ranges, if_range)


Asked = Annotated[Conditions, Depends(conditions)]
Format = Annotated[Literal["html", "json"], Query(description="html: self-contained, with plots; json: the figures.")]


def routes(kind: JobKind) -> APIRouter:
    """The files of jobs of one kind."""
    router = APIRouter(prefix=f"/v1/{COLLECTIONS[kind]}", tags=[COLLECTIONS[kind]], route_class=StrictRoute)

    if kind in CONVERTING:

        @router.get("/{id}/artifact", summary="Download the converted network", **_answers(BINARY))
        async def artifact(
            request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked
        ) -> Response:
            """An ONNX file for a standard onnxruntime. Ranges and entity tags resume a download."""
            return await _file(request, service, RequestedFile(tenant, id, kind, "snn.onnx", BINARY), asked, _snn_name)

        @router.get("/{id}/plan", summary="Download the plan", **_answers(JSON))
        async def plan(request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked) -> Response:
            """What calibration decided, as in docs/formats.md; `graphpass convert --plan` applies it again."""
            return await _file(request, service, RequestedFile(tenant, id, kind, "plan.json", JSON), asked)

        @router.get("/{id}/result", summary="Get the whole result", **_answers(JSON))
        async def result(
            request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked
        ) -> Response:
            """All that `result` is a summary of, but for `evaluation`; there is one where something was left out."""
            return await _file(request, service, RequestedFile(tenant, id, kind, "result.json", JSON), asked)

        @router.get("/{id}/plan/arrays", summary="Download the plan's weights", **_answers(BINARY))
        async def plan_arrays(
            request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked
        ) -> Response:
            """The .npz that belongs beside the plan; there is none where calibration changed no weights."""
            return await _file(request, service, RequestedFile(tenant, id, kind, "plan.npz", BINARY), asked)

    @router.get("/{id}/report", summary="Get the report", **_answers(HTML, JSON))
    async def report(
        request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked, format: Format = "html"
    ) -> Response:
        """Accuracy, spikes, operations and energy, or a ranking; a conversion has one if it was asked to evaluate."""
        if format == "json":
            return await _file(request, service, RequestedFile(tenant, id, kind, "report.json", JSON), asked)
        found = await _file(request, service, RequestedFile(tenant, id, kind, "report.html", HTML, "inline"), asked)
        found.headers["Content-Security-Policy"] = REPORT_POLICY
        return found

    @router.get("/{id}/pictures", summary="Get the pictures", **_answers(JSON))
    async def pictures(request: Request, id: str, service: ServiceDependency, tenant: Tenant, asked: Asked) -> Response:
        """The pictures of the report, as plotly takes them: see docs/formats.md."""
        return await _file(request, service, RequestedFile(tenant, id, kind, "pictures.json", JSON), asked)

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


@dataclass(frozen=True)
class RequestedFile:
    """A file of a job, and how it is to be shown."""

    tenant: str
    id: str
    kind: JobKind
    file: str
    media: str
    place: Literal["attachment", "inline"] = "attachment"


@dataclass(frozen=True)
class ByteRanges:
    """size: of the file, in bytes.

    parts: which bytes are asked for, None for all. content: those bytes, if they are few.
    """

    size: int
    parts: Sequence[tuple[int, int]] | None
    content: bytes | None

    @property
    def spans(self) -> Sequence[tuple[int, int]]:
        """Bytes [start, end) that are sent."""
        return self.parts or [(0, self.size)]


@dataclass(frozen=True)
class FoundFile:
    """A file: its blob, and the headers of every answer about it.

    ranges: None where the caller has the file already, or where the store is not a folder of this machine.
    """

    digest: str
    headers: Mapping[str, str]
    is_unchanged: bool
    ranges: ByteRanges | None = None


async def _file(
    request: Request,
    service: Service,
    wanted: RequestedFile,
    asked: Conditions,
    named: Callable[[Service, JobRecord], str] | None = None,
) -> Response:
    """Answer with one file of a job. Problems: not-found, not-ready, precondition, range.

    A small file in a folder takes one change of threads. A remote store has turns of its own, so that requests which
    wait for it keep no others from the database.
    """
    found = await run_in_threadpool(_find, service, wanted, asked, named)
    headers, media = {**found.headers}, wanted.media
    if found.is_unchanged:
        return Response(status_code=304, headers=headers)
    request.state.end_turn()
    ranges = found.ranges
    if ranges is None:
        ranges = await in_turn(service, _ranges, service, found, asked)
    status = 206 if ranges.parts else 200
    if len(ranges.spans) == 1 and ranges.parts:
        start, end = ranges.spans[0]
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{ranges.size}"
    if ranges.content is not None:
        return Response(ranges.content, status, headers, media)
    pieces: list[tuple[bytes, int, int]] = [(b"", *span) for span in ranges.spans]
    if len(pieces) > 1:
        boundary = secrets.token_hex(16)
        pieces = [(_head(boundary, media, *span, ranges.size), *span) for span in ranges.spans]
        pieces.append((f"\r\n--{boundary}--\r\n".encode(), 0, 0))
        media = f"multipart/byteranges; boundary={boundary}"
    headers["Content-Length"] = str(sum(len(head) + end - start for head, start, end in pieces))
    return StreamingResponse(await blob_stream(service, wanted.tenant, found.digest, pieces), status, headers, media)


def _find(
    service: Service, wanted: RequestedFile, asked: Conditions, named: Callable[[Service, JobRecord], str] | None
) -> FoundFile:
    """Find a file; if it is small and in a folder of this machine, read it, too."""
    job = job_of(service, wanted.tenant, wanted.id, wanted.kind)
    digest = job.artifacts.get(wanted.file)
    if digest is None:
        remedy = "wait until it has succeeded" if job.state not in FINISHED else "ask for one that it made: see `links`"
        raise ProblemError("not-ready", f"{job.id} is {job.state} and has no {wanted.file}", remedy)
    tag, name = f'"{digest}"', named(service, job) if named else f"{job.id}-{wanted.file}"
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'{wanted.place}; filename="{name}"',
    }
    found = FoundFile(digest, headers, is_unchanged(asked, tag))
    if found.is_unchanged or not service.blobs.is_folder:
        return found
    return replace(found, ranges=_ranges(service, found, asked))


def _ranges(service: Service, found: FoundFile, asked: Conditions) -> ByteRanges:
    """The ranges of a file that are asked for, and their bytes if these are few. Problem: range."""
    size = service.blobs.size(found.digest)
    ranges = ByteRanges(size, parts_of(asked, found.headers["ETag"], size), None)
    start, end = ranges.spans[0]
    if len(ranges.spans) > 1 or end - start > PIECE:
        return ranges
    return replace(ranges, content=b"".join(service.blobs.read(found.digest, start, end, PIECE)))


def _head(boundary: str, media: str, start: int, end: int, size: int) -> bytes:
    """The head of one of several ranges in one answer (RFC 9110, 14.6)."""
    lines = ["", f"--{boundary}", f"Content-Type: {media}", f"Content-Range: bytes {start}-{end - 1}/{size}", "", ""]
    return "\r\n".join(lines).encode()


def _snn_name(service: Service, job: JobRecord) -> str:
    """`net.onnx` converted at T = 4 becomes `net-snn-T4.onnx`."""
    try:
        source = service.metadata.objects.get(job.tenant, job.request["model"]).name
    except NotFoundError:  # deleted meanwhile
        source = "model.onnx"
    stem = source.rpartition(".")[0] or "model"
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", stem)
    result: Mapping[str, object] = job.result or {}
    return f"{plain}-snn-T{result['time_steps']}.onnx" if "time_steps" in result else f"{plain}-snn.onnx"
