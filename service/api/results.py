"""The files of a job: ranges, entity tags and names; the HTML report of a user's job is served without any rights."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from service.api.answers import COLLECTIONS, JobKind
from service.api.context import Service, Tenant, With, problems
from service.api.jobs import job_of
from service.api.reading import kept
from service.errors import NotFoundError
from service.problems import ProblemError
from service.storage.records import FINISHED, Job

BINARY, JSON, HTML = "application/octet-stream", "application/json", "text/html; charset=utf-8"
# The report runs its own inline plots and nothing else: an origin of its own, no network, no forms, no top window.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; frame-ancestors 'self'"
)
RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
Range = Annotated[str | None, Header(alias="Range", description="One range of bytes, as `bytes=0-99`.")]
IfRange = Annotated[str | None, Header(alias="If-Range")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match")]
Format = Annotated[Literal["html", "json"], Query(description="html: self-contained, with plots; json: the figures.")]


def routes(kind: JobKind) -> APIRouter:
    """The files of jobs of one kind."""
    router = APIRouter(prefix=f"/v1/{COLLECTIONS[kind]}", tags=[COLLECTIONS[kind]])

    if kind == "conversion":

        @router.get("/{id}/artifact", summary="Download the converted network", **_answers(BINARY))
        def artifact(
            id: str,
            service: With,
            tenant: Tenant,
            wanted: Range = None,
            if_range: IfRange = None,
            if_none_match: IfNoneMatch = None,
        ) -> Response:
            """An ONNX file for any onnxruntime. Ranges and entity tags resume a download."""
            job = job_of(service, tenant, id, kind)
            return _file(
                service, job, "snn.onnx", BINARY, wanted, if_range, if_none_match, name=_snn_name(service, job)
            )

        @router.get("/{id}/plan", summary="Download the plan", **_answers(JSON))
        def plan(id: str, service: With, tenant: Tenant, if_none_match: IfNoneMatch = None) -> Response:
            """What calibration decided, as in docs/formats.md; `graphpass convert --plan` applies it again."""
            return _file(service, job_of(service, tenant, id, kind), "plan.json", JSON, if_none_match=if_none_match)

        @router.get("/{id}/result", summary="Get the whole result", **_answers(JSON))
        def result(id: str, service: With, tenant: Tenant, if_none_match: IfNoneMatch = None) -> Response:
            """All that `result` is a summary of, but for `evaluation`; there is one where something was left out."""
            return _file(service, job_of(service, tenant, id, kind), "result.json", JSON, if_none_match=if_none_match)

        @router.get("/{id}/plan/arrays", summary="Download the plan's weights", **_answers(BINARY))
        def plan_arrays(id: str, service: With, tenant: Tenant, if_none_match: IfNoneMatch = None) -> Response:
            """The .npz that belongs beside the plan; there is none where calibration changed no weights."""
            return _file(service, job_of(service, tenant, id, kind), "plan.npz", BINARY, if_none_match=if_none_match)

    @router.get("/{id}/report", summary="Get the report", **_answers(HTML, JSON))
    def report(
        id: str, service: With, tenant: Tenant, format: Format = "html", if_none_match: IfNoneMatch = None
    ) -> Response:
        """Accuracy, spikes, operations and energy; a conversion has one if it was asked to evaluate."""
        job = job_of(service, tenant, id, kind)
        if format == "json":
            return _file(service, job, "report.json", JSON, if_none_match=if_none_match)
        found = _file(service, job, "report.html", HTML, if_none_match=if_none_match, show=True)
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
            "range",
            also={
                200: {"description": "All of it.", "content": content},
                206: {"description": "The range.", "content": content},
                304: {"description": "It has not changed."},
            },
        ),
    }


def _file(
    service: Service,
    job: Job,
    file: str,
    media: str,
    wanted: str | None = None,
    if_range: str | None = None,
    if_none_match: str | None = None,
    *,
    name: str | None = None,
    show: bool = False,
) -> Response:
    """One file of a job. Problems: not-ready, range."""
    digest = job.artifacts.get(file)
    if digest is None:
        remedy = "wait until it has succeeded" if job.state not in FINISHED else "ask for one that it made: see `links`"
        raise ProblemError("not-ready", f"{job.id} is {job.state} and has no {file}", remedy)
    tag = f'"{digest}"'
    place = "inline" if show else "attachment"
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'{place}; filename="{name or f"{job.id}-{file}"}"',
    }
    if if_none_match and (if_none_match.strip() == "*" or tag in [each.strip() for each in if_none_match.split(",")]):
        return Response(status_code=304, headers=headers)
    size = service.blobs.size(digest)
    start, end, status = 0, size, 200
    if wanted and (if_range is None or if_range == tag) and (asked := RANGE.match(wanted.strip())):
        start, end = _bounds(asked[1], asked[2], size)
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    content = kept(service, job.tenant, digest, service.blobs.read(digest, start, end))
    return StreamingResponse(content, status_code=status, headers=headers, media_type=media)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Bytes [start, end) of `first-last`; `-n` are the last n. Problem: range."""
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = (max(size - int(last), 0), size) if last else (size, size)
    if start >= end:
        headers = {"Content-Range": f"bytes */{size}"}
        raise ProblemError("range", f"the file has {size:,} bytes", "ask for bytes that are there", headers=headers)
    return start, end


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
