"""What the routes answer: pydantic models with an example each. Times are UTC; digests are SHA-256 in hex."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.api.requests import CALIBRATION, CONVERSION, EVALUATION, MODEL, UPLOAD
from service.problems import PROBLEMS
from service.storage.records import FINISHED, JobKind, JobRecord, JobState, StoredObject, Upload

CONVERTING: tuple[JobKind, ...] = ("conversion", "search")  # kinds of jobs that make a network
COLLECTIONS: Mapping[str, str] = {
    "model": "models",
    "dataset": "datasets",
    "conversion": "conversions",
    "evaluation": "evaluations",
    "ranking": "rankings",
    "search": "searches",
    "sweep": "sweeps",
}
FILES: Mapping[str, tuple[str, str]] = {  # file of a job: its link, and the last part of its route
    "snn.onnx": ("artifact", "artifact"),
    "plan.json": ("plan", "plan"),
    "plan.npz": ("plan_arrays", "plan/arrays"),
    "result.json": ("result", "result"),
    "report.html": ("report", "report"),
    "report.json": ("report_json", "report?format=json"),
    "pictures.json": ("pictures", "pictures"),
}
_DIGEST = "239d9627a1c0c66f3c0d1d4d6a4a0e5b8f0f0c5cf5bb0a3ffb7a1d8a0d1c2b3a"
_CREATED, _EXPIRES = "2026-11-25T10:20:30Z", "2026-12-02T10:20:30Z"


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class ObjectAnswer(BaseModel):
    """A model or a dataset: immutable, and the tenant's own."""

    model_config = _example(
        {
            "id": MODEL,
            "kind": "model",
            "name": "fashion_mnist.onnx",
            "size": 1234567,
            "sha256": _DIGEST,
            "created": _CREATED,
            "expires": _EXPIRES,
            "description": {
                "inputs": [{"name": "images", "dtype": "float32", "shape": ["batch", 1, 28, 28]}],
                "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", 10]}],
                "opset": 21,
                "nodes": 12,
                "parameters": 421642,
                "sites": [{"name": "relu1", "kind": "relu", "axis": 1, "layers": ["conv2"]}],
                "left": [{"node": "conv1", "op": "Conv", "reason": "its input is the network's own analogue input"}],
                "spiking_layers": 3,
                "weight_layers": 4,
            },
            "url": f"/v1/models/{MODEL}",
            "links": {"self": f"/v1/models/{MODEL}", "description": f"/v1/models/{MODEL}/description"},
        }
    )
    id: str
    kind: Literal["model", "dataset"]
    name: str
    size: Annotated[int, Field(description="Bytes.")]
    sha256: str
    created: datetime
    expires: Annotated[datetime | None, Field(description="When it is deleted by itself; null: never.")]
    description: Annotated[
        dict[str, Any],
        Field(
            description="Model: inputs, outputs, opset, nodes, parameters, sites found and what would not convert. "
            "Dataset: samples, arrays, whether there are labels. Where texts or lists are long, a summary: `omitted` "
            "counts what is left out of which, and the link `description` has it."
        ),
    ]
    url: str
    links: Annotated[dict[str, str], Field(description="Itself, and its whole description.")]


class ErrorAnswer(BaseModel):
    """Why a job failed."""

    model_config = _example(
        {
            "type": "/problems/coverage",
            "title": "A site could not be converted",
            "what": "site /act/Tanh feeds conv2 but cannot be converted",
            "remedy": "exclude it, or allow a partial conversion",
            "where": "/act/Tanh",
        }
    )
    type: Annotated[str, Field(description="The `type` of a problem document.")]
    title: str
    what: str
    remedy: str
    where: Annotated[str, Field(description="The failing node, file or field; empty where unknown.")]


class JobAnswer(BaseModel):
    """A job: what was asked, where it stands, and what came of it."""

    model_config = _example(
        {
            "id": CONVERSION,
            "kind": "conversion",
            "state": "succeeded",
            "created": _CREATED,
            "started": _CREATED,
            "finished": _CREATED,
            "expires": _EXPIRES,
            "request": {"model": MODEL, "calibration": CALIBRATION, "options": {"time_steps": 4}},
            "error": None,
            "result": {"sites": ["relu1"], "time_steps": 4, "levels": 5, "evaluation": {"ann": {"top1": 0.92}}},
            "artifacts": {"snn.onnx": _DIGEST, "plan.json": _DIGEST},
            "links": {
                "self": f"/v1/conversions/{CONVERSION}",
                "events": f"/v1/conversions/{CONVERSION}/events",
                "artifact": f"/v1/conversions/{CONVERSION}/artifact",
                "plan": f"/v1/conversions/{CONVERSION}/plan",
            },
        }
    )
    id: str
    kind: JobKind
    state: JobState
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: Annotated[datetime | None, Field(description="When the job and its files are deleted; null: never.")]
    request: Annotated[dict[str, Any], Field(description="As it was sent, with all defaults written out.")]
    error: ErrorAnswer | None
    result: Annotated[
        dict[str, Any] | None,
        Field(
            description="Figures; `evaluation`, `rows` and a ranking are as in docs/formats.md. Where lists are long, "
            "a summary: `omitted`, here or in `evaluation`, counts what is left out of which; the links `result` and "
            "`report_json` have it."
        ),
    ]
    artifacts: Annotated[dict[str, str], Field(description="SHA-256 of every file the job made.")]
    links: Annotated[dict[str, str], Field(description="Where its events, files and reports are, and what cancels it.")]


class UploadAnswer(BaseModel):
    """A resumable upload (tus 1.0)."""

    model_config = _example(
        {
            "id": UPLOAD,
            "kind": "dataset",
            "name": "test.npz",
            "length": 1073741824,
            "offset": 1073741824,
            "sha256": _DIGEST,
            "created": _CREATED,
            "expires": _EXPIRES,
            "url": f"/v1/uploads/{UPLOAD}",
        }
    )
    id: str
    kind: Literal["model", "dataset"]
    name: str
    length: int
    offset: Annotated[int, Field(description="Bytes that are safely there.")]
    sha256: Annotated[str | None, Field(description="Of all bytes; null until the upload is complete.")]
    created: datetime
    expires: datetime | None
    url: str


class ObjectPage(BaseModel):
    """Newest first. `next` is the link of the next page, null at the end."""

    model_config = _example({"items": [], "next": None})
    items: list[ObjectAnswer]
    next: str | None


class JobPage(BaseModel):
    """Newest first. `next` is the link of the next page, null at the end."""

    model_config = _example({"items": [], "next": f"/v1/jobs?after={CONVERSION}&limit=50"})
    items: list[JobAnswer]
    next: str | None


class ExampleAnswer(BaseModel):
    """The built-in example, as models and datasets of the caller."""

    model_config = _example({"model": MODEL, "calibration": CALIBRATION, "evaluation": EVALUATION})
    model: str
    calibration: str
    evaluation: str


class Problem(BaseModel):
    """RFC 9457 problem document."""

    model_config = _example(
        {
            "type": "/problems/not-found",
            "title": "There is no such object",
            "status": 404,
            "detail": f"there is no model {MODEL}",
            "remedy": "list the objects, or check the id",
        }
    )
    type: str
    title: str
    status: int
    detail: str
    remedy: Annotated[str, Field(description="What to do about it.")] = ""
    where: Annotated[str, Field(description="The failing field, node or file.")] = ""
    errors: Annotated[list[dict[str, Any]], Field(description="Every field that does not fit.")] = []
    request_id: Annotated[str, Field(description="What the log knows the request by.")] = ""


def object_answer(found: StoredObject) -> ObjectAnswer:
    """The answer for a stored object."""
    here = f"/v1/{COLLECTIONS[found.kind]}/{found.id}"
    return ObjectAnswer(
        id=found.id,
        kind=found.kind,
        name=found.name,
        size=found.size,
        sha256=found.digest,
        created=found.created,
        expires=found.expires,
        description=dict(found.description),
        url=here,
        links={"self": here, "description": f"{here}/description"},
    )


def upload_answer(found: Upload) -> UploadAnswer:
    """The answer for a resumable upload."""
    return UploadAnswer(
        id=found.id,
        kind=found.kind,
        name=found.name,
        length=found.length,
        offset=found.offset,
        sha256=found.sha256,
        created=found.created,
        expires=found.expires,
        url=f"/v1/uploads/{found.id}",
    )


def job_answer(found: JobRecord) -> JobAnswer:
    """The answer for a job."""
    here = f"/v1/{COLLECTIONS[found.kind]}/{found.id}"
    links = {"self": here, "events": f"{here}/events"}
    if found.state not in FINISHED:
        links["cancel"] = f"{here}/cancel"
    links |= {link: f"{here}/{route}" for name, (link, route) in FILES.items() if name in found.artifacts}
    return JobAnswer(
        id=found.id,
        kind=found.kind,
        state=found.state,
        created=found.created,
        started=found.started,
        finished=found.finished,
        expires=found.expires,
        request=dict(found.request),
        error=_error_answer(found.error),
        result=dict(found.result) if found.result is not None else None,
        artifacts=dict(found.artifacts),
        links=links,
    )


def _error_answer(error: Mapping[str, Any] | None) -> ErrorAnswer | None:
    if error is None:
        return None
    return ErrorAnswer(
        type=f"/problems/{error['type']}",
        title=PROBLEMS[error["type"]].title,
        what=error["what"],
        remedy=error.get("remedy", ""),
        where=error.get("where", ""),
    )
