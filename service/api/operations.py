"""What operators ask: alive, ready, metrics; and what a problem's type means."""

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from graphpass.options.table import OPTIONS
from service.api.context import PROBLEM_SCHEMA, ServiceDependency
from service.errors import StorageError
from service.problems import PROBLEM_JSON, PROBLEMS, not_found

router = APIRouter(tags=["operations"])
PATIENCE = 5.0
log = logging.getLogger(__name__)


class Readiness(BaseModel):
    """Whether each part answers."""

    ready: bool
    checks: dict[str, str]


class ProblemType(BaseModel):
    """What a problem's `type` means."""

    type: str
    title: str
    status: int
    when: str


class OptionName(BaseModel):
    """One of the values that an option has names for."""

    name: str
    title: str
    meaning: str


class OptionAnswer(BaseModel):
    """What an option decides, what holds where none is given, and what it may be.

    usual: the default where the network does not say; several: of a sweep. least, most: the ends of a number.
    """

    help: str
    default: bool | int | float | str | None
    usual: int | None
    several: list[int | str]
    names: list[OptionName]
    least: int | None
    most: int | None


@router.get("/v1/options", response_model=dict[str, OptionAnswer], summary="Options: names, help, defaults, limits")
async def options() -> dict[str, OptionAnswer]:
    """By name. Needs no key."""
    return {
        name: OptionAnswer(
            help=known.help,
            default=known.default,
            usual=known.usual,
            several=list(known.several),
            names=[OptionName(name=each, title=title, meaning=text) for each, (title, text) in known.names.items()],
            least=known.least,
            most=known.most,
        )
        for name, known in OPTIONS.items()
    }


@router.get("/livez", response_class=PlainTextResponse, summary="Is the process alive?")
async def livez() -> str:
    """Always, while it answers."""
    return "ok\n"


@router.get(
    "/readyz",
    response_model=Readiness,
    summary="Can it take work?",
    responses={503: {"model": Readiness, "description": "A part does not answer."}},
)
async def readyz(service: ServiceDependency) -> Response:
    """Writes to the database and the store, and asks the engine of jobs."""
    parts: dict[str, Callable[[], object]] = {
        "database": service.metadata.probe,
        "store": service.blobs.probe,
        "engine": service.dispatcher.ping,
    }
    checks = dict(zip(parts, await asyncio.gather(*(_check(part) for part in parts.values())), strict=True))
    ready = all(check == "ok" for check in checks.values())
    return JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse, summary="Metrics for Prometheus")
def metrics(service: ServiceDependency) -> Response:
    """Requests, queues, jobs, sandbox and storage."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/problems/{slug}",
    response_model=ProblemType,
    summary="What a problem's type means",
    responses={404: {"description": "There is no such type.", "content": {PROBLEM_JSON: PROBLEM_SCHEMA}}},
)
def problem(slug: Annotated[str, Path(max_length=64)]) -> ProblemType:
    """The `type` of every problem document leads here."""
    kind = PROBLEMS.get(slug)
    if kind is None:
        raise not_found(f"problem {slug}")
    return ProblemType(type=f"/problems/{slug}", title=kind.title, status=kind.status, when=kind.when)


async def _check(part: Callable[[], object]) -> str:
    try:
        await asyncio.wait_for(asyncio.to_thread(part), PATIENCE)
    except TimeoutError:
        return f"no answer in {PATIENCE:g} s"
    except Exception as error:
        log.warning("not ready: %s", error)
        return error.public[0] if isinstance(error, StorageError) else type(error).__name__
    return "ok"
