"""/v1/conversions, evaluations, rankings, searches, sweeps and jobs: accepted at once, then watched."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import StringConstraints

from graphpass.errors import OptionError
from graphpass.options.rules import require_images, require_options
from graphpass.options.table import SEVERAL, is_default
from service.api.context import Service, ServiceDependency, Tenant, problems
from service.api.objects import object_of
from service.api.pages import After, Limit, next_link
from service.api.requests import (
    ConversionRequest,
    EvaluationRequest,
    JobRequest,
    RankingRequest,
    SearchRequest,
    SweepRequest,
    request_json,
)
from service.api.responses import COLLECTIONS, CONVERTING, JobAnswer, JobPage, job_answer
from service.api.strictness import StrictRoute
from service.errors import StorageError, StorageUnavailableError
from service.jobs.dispatch import queue_of
from service.jobs.engine import GPU
from service.jobs.guard import workers_on
from service.problems import ProblemError, not_found
from service.storage.accounts import settle
from service.storage.job_rows import PREFIXES
from service.storage.records import FINISHED, JobKind, JobRecord, JobState

Key = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")] | None,
    Header(
        alias="Idempotency-Key",
        description="Sent again with the same key and body, a request answers the job that it made before.",
    ),
]
States = Annotated[list[JobState] | None, Query(alias="state", description="Only jobs in these states.")]
Kinds = Annotated[JobKind | None, Query(alias="kind", description="Only jobs of this kind.")]
log = logging.getLogger(__name__)
REPORT = 4 << 20  # bytes of a report: most of it is the script of its plots
CHANGED = ("optimal", "da-qcfs")  # methods that change weights: the plan has them once more
ACCEPTING = tuple(
    "not-found not-ready idempotency-conflict media-type invalid-options no-worker queue-quota storage-quota".split()
)
COMMANDS = {
    "conversion": "convert",
    "evaluation": "evaluate",
    "ranking": "inspect",
    "search": "search",
    "sweep": "sweep",
}  # the options of each kind
DATA = ("calibration", "evaluation", "dataset")  # roles of datasets
IMAGE_KINDS = ("images", "tar", "parquet")  # of datasets, as the sandbox describes them (service/sandbox/data.py)
PREFIX = {kind: f"{prefix}_" for kind, prefix in PREFIXES.items()}


def routes(kind: JobKind) -> APIRouter:
    """Listing, getting, cancelling and deleting jobs of one kind."""
    collection = COLLECTIONS[kind]
    router = APIRouter(prefix=f"/v1/{collection}", tags=[collection], route_class=StrictRoute)

    @router.get("", response_model=JobPage, summary=f"List {collection}", responses=problems())
    def list_them(
        service: ServiceDependency, tenant: Tenant, state: States = None, after: After = None, limit: Limit = 50
    ) -> JobPage:
        page = service.metadata.jobs.list(tenant, kind=kind, states=state or (), after=after, limit=limit)
        link = next_link(f"/v1/{collection}", page.after, limit, state=state)
        return JobPage(items=[job_answer(job) for job in page.rows], next=link)

    @router.get("/{id}", response_model=JobAnswer, summary=f"Get a {kind}", responses=problems("not-found"))
    def get(id: str, service: ServiceDependency, tenant: Tenant) -> JobAnswer:
        return job_answer(job_of(service, tenant, id, kind))

    @router.post(
        "/{id}/cancel",
        status_code=202,
        response_model=JobAnswer,
        summary=f"Cancel a {kind}",
        responses=problems(
            "not-found",
            also={
                202: {"description": "It is cancelled."},
                200: {"model": JobAnswer, "description": "It was finished already, and stays as it is."},
            },
        ),
    )
    def cancel(id: str, response: Response, service: ServiceDependency, tenant: Tenant) -> JobAnswer:
        """It ends at once: its child is killed within a second, nothing is kept. May be repeated."""
        job = job_of(service, tenant, id, kind)
        if job.state not in FINISHED:
            job = _cancel(service, id)
        if job.state != "cancelled":
            response.status_code = 200
        return job_answer(job)

    @router.delete(
        "/{id}",
        status_code=204,
        response_class=Response,
        summary=f"Delete a {kind}",
        responses=problems("not-found", "not-finished", also={204: {"description": "It is deleted."}}),
    )
    def delete(id: str, service: ServiceDependency, tenant: Tenant) -> None:
        """A job that is finished goes with its files; one that is not has to be cancelled first."""
        job = job_of(service, tenant, id, kind)
        if job.state not in FINISHED:
            raise ProblemError(
                "not-finished", f"{id} is {job.state}", f"cancel it first: POST {job_answer(job).links['cancel']}"
            )
        service.metadata.jobs.delete(tenant, id)
        _settle(service, tenant)

    return router


conversions, evaluations = routes("conversion"), routes("evaluation")
rankings, searches, sweeps = routes("ranking"), routes("search"), routes("sweep")
every = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)


def _accepts(kind: JobKind, *more: str) -> dict[str, Any]:
    return {
        "status_code": 202,
        "response_model": JobAnswer,
        "summary": f"Start a {kind}",
        "responses": problems(
            *ACCEPTING,
            *more,
            also={202: {"headers": {"Location": {"description": "Of the job.", "schema": {"type": "string"}}}}},
        ),
    }


@conversions.post("", **_accepts("conversion"))
async def convert(
    asked: ConversionRequest, response: Response, service: ServiceDependency, tenant: Tenant, key: Key = None
) -> JobAnswer:
    """Convert a network; evaluate it afterwards if `evaluation` names a dataset."""
    names = {"model": asked.model, "calibration": asked.calibration, "evaluation": asked.evaluation}
    return await asyncio.to_thread(_accept, service, tenant, "conversion", asked, names, key, response)


@evaluations.post("", **_accepts("evaluation"))
async def evaluate(
    asked: EvaluationRequest, response: Response, service: ServiceDependency, tenant: Tenant, key: Key = None
) -> JobAnswer:
    """Compare a converted network with its origin on labelled data."""
    names = {"ann": asked.ann, "snn": asked.snn, "dataset": asked.dataset}
    return await asyncio.to_thread(_accept, service, tenant, "evaluation", asked, names, key, response)


@sweeps.post("", **_accepts("sweep", "invalid-options"))
async def sweep(
    asked: SweepRequest, response: Response, service: ServiceDependency, tenant: Tenant, key: Key = None
) -> JobAnswer:
    """Convert and evaluate for many T, codings and methods."""
    options, most = asked.options, service.settings.max_rows
    if (rows := len(options.time_steps) * len(options.coding) * len(options.method)) > most:
        what, remedy = (
            f"{rows} conversions in one sweep; at most {most} are taken",
            "ask for fewer, or for several sweeps",
        )
        raise ProblemError("invalid-options", what, remedy, where="options")
    names = {"model": asked.model, "calibration": asked.calibration, "dataset": asked.dataset}
    return await asyncio.to_thread(_accept, service, tenant, "sweep", asked, names, key, response)


@rankings.post("", **_accepts("ranking"))
async def rank(
    asked: RankingRequest, response: Response, service: ServiceDependency, tenant: Tenant, key: Key = None
) -> JobAnswer:
    """Rank the sites of a network by what they cost, and name those to leave analogue first."""
    names = {"model": asked.model, "calibration": asked.calibration, "evaluation": asked.evaluation}
    return await asyncio.to_thread(_accept, service, tenant, "ranking", asked, names, key, response)


@searches.post("", **_accepts("search"))
async def search(
    asked: SearchRequest, response: Response, service: ServiceDependency, tenant: Tenant, key: Key = None
) -> JobAnswer:
    """Find the cheapest network that loses at most so much, and convert it."""
    names = {"model": asked.model, "calibration": asked.calibration, "dataset": asked.dataset}
    return await asyncio.to_thread(_accept, service, tenant, "search", asked, names, key, response)


@every.get("", response_model=JobPage, summary="List all jobs", responses=problems())
def list_all(
    service: ServiceDependency,
    tenant: Tenant,
    kind: Kinds = None,
    state: States = None,
    after: After = None,
    limit: Limit = 50,
) -> JobPage:
    """Jobs of every kind, newest first."""
    page = service.metadata.jobs.list(tenant, kind=kind, states=state or (), after=after, limit=limit)
    link = next_link("/v1/jobs", page.after, limit, kind=kind, state=state)
    return JobPage(items=[job_answer(job) for job in page.rows], next=link)


def job_of(service: Service, tenant: str, id: str, kind: JobKind) -> JobRecord:
    """The tenant's job of this kind. Problem: not-found."""
    if not id.startswith(PREFIX[kind]):
        raise not_found(f"{kind} {id[:64]}")
    return service.metadata.jobs.get(tenant, id)


def _accept(
    service: Service,
    tenant: str,
    kind: JobKind,
    asked: JobRequest,
    names: Mapping[str, str | None],
    key: str | None,
    response: Response,
) -> JobAnswer:
    """Store the job, then send it to its queue: if this process dies in between, housekeeping sends it."""
    request, jobs = request_json(asked), service.metadata.jobs
    job, fresh = jobs.repeated(tenant, kind, request=request, idempotency_key=key), False
    if job is None:  # inputs of a repeated request may be gone
        _require_options(service, tenant, COMMANDS[kind], asked, names)
        _require_worker(service, queue_of(request))
        inputs = dict(_input(service, tenant, role, id) for role, id in names.items() if id is not None)
        job, fresh = jobs.create(
            tenant,
            kind,
            request=request,
            inputs=inputs,
            idempotency_key=key,
            reserved=_room(service, tenant, asked),
            quota=service.settings.quota,
        )
    if fresh or job.state == "queued":
        try:
            service.dispatcher.send(job)
            service.places.wake()
        except StorageUnavailableError as error:  # it is stored: housekeeping sends it
            log.warning("job %s is not sent yet: %s", job.id, error)
    response.headers["Location"] = f"/v1/{COLLECTIONS[kind]}/{job.id}"
    return job_answer(job)


def _cancel(service: Service, id: str) -> JobRecord:
    """Cancel a job and return it. Its work ends because its row says so.

    Where the engine does not answer, housekeeping cancels the workflow.
    """
    job = service.metadata.jobs.finish(id, "cancelled", expires=service.expiry())
    if job.state == "cancelled":
        service.metrics.job(job)
        try:
            service.dispatcher.cancel(id)
        except StorageUnavailableError as error:
            log.warning("the engine does not know yet that %s is cancelled: %s", id, error)
        _settle(service, job.tenant)
    return job


def _settle(service: Service, tenant: str) -> None:
    """Remove files that nothing of the tenant refers to. Where the store does not answer, housekeeping does it."""
    with suppress(StorageError):
        settle(service.metadata, service.blobs, tenant)


def _require_options(
    service: Service, tenant: str, command: str, asked: JobRequest, names: Mapping[str, str | None]
) -> None:
    """Refuse an option that would have no effect. One that is given with its default value is always accepted.

    Problems: invalid-options, not-found.
    """
    known = {name: getattr(asked.options, name) for name in type(asked.options).model_fields}
    given = {name: value for name, value in known.items() if value not in (None, []) and not is_default(name, value)}
    try:
        require_options(command, {**names, **given}, several=SEVERAL if command == "sweep" else ())
        kinds = [
            object_of(service, tenant, names[role] or "", "dataset").description for role in DATA if names.get(role)
        ]
        if not given.get("synthetic") and not any(kind.get("kind") in IMAGE_KINDS for kind in kinds):
            require_images(given)
    except OptionError as error:
        where = f"options.{error.option}" if error.option else ""
        raise ProblemError("invalid-options", error.what, error.remedy, where=where) from error


def _room(service: Service, tenant: str, asked: JobRequest) -> int:
    """Bytes to reserve for the files of a job. This is a guess, corrected when the files are written."""
    if not isinstance(asked, ConversionRequest | SearchRequest):
        return REPORT
    size = object_of(service, tenant, asked.model, "model").size
    reports = isinstance(asked, SearchRequest) or asked.evaluation
    return size * (1 + (asked.options.method in CHANGED)) + (REPORT if reports else 0)


def _require_worker(service: Service, queue: str) -> None:
    """Refuse a job for a GPU that would wait for ever. Problem: no-worker."""
    if queue != GPU or GPU in service.settings.queues:
        return
    if not service.metadata.database.is_sqlite and workers_on(GPU, service.metadata.database):
        return
    remedy = "start one, `graphpass worker --queues gpu`, on a machine with a GPU, or leave out `provider`"
    raise ProblemError("no-worker", "no worker listens to the queue gpu", remedy, where="options.provider")


def _input(service: Service, tenant: str, role: str, id: str) -> tuple[str, str]:
    """Where the sandbox finds an input (`role/name`), and its digest. Problems: not-found, not-ready."""
    if kind := next((each for each in CONVERTING if id.startswith(PREFIX[each])), None):
        made = job_of(service, tenant, id, kind)
        if "snn.onnx" not in made.artifacts:
            raise ProblemError("not-ready", f"{id} is {made.state} and has no network", "wait until it has succeeded")
        return f"{role}/snn.onnx", made.artifacts["snn.onnx"]
    found = object_of(service, tenant, id, "model" if id.startswith("mod_") else "dataset")
    return f"{role}/{found.name}", found.digest
