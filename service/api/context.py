"""What routes work with, and who is asking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.callers import Caller
from service.api.calls import Calls
from service.api.responses import Problem
from service.auth import RateLimit, authenticate
from service.jobs.dispatch import Dispatcher
from service.jobs.places import Places
from service.jobs.queues import Queues
from service.jobs.rooms import Rooms
from service.metrics import ProcessMetrics
from service.problems import PROBLEM_JSON, PROBLEMS, ProblemError
from service.settings import Settings
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata
from service.storage.records import Key

PROBLEM_SCHEMA = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
_bearer = HTTPBearer(auto_error=False, bearerFormat="gp_…", description="A key of `graphpass keys create`.")


@dataclass(frozen=True)
class Service:
    """All parts of one process that its routes use."""

    settings: Settings
    metadata: Metadata
    blobs: Blobs
    dispatcher: Dispatcher
    queues: Queues
    rate: RateLimit
    metrics: ProcessMetrics
    places: Places
    rooms: Rooms
    calls: Calls
    reading: CapacityLimiter  # threads that read from the store for downloads
    pieces: CapacityLimiter  # threads that have a piece of a resumable upload in memory, on its way to the store

    def expiry(self) -> datetime | None:
        """When a job that finishes now expires; None for never."""
        return self.settings.result_expiry(datetime.now(UTC))


async def service_of(request: Request) -> Service:
    """The service of this process. It is async because FastAPI runs any other dependency in a thread."""
    found: Service = request.app.state.service
    return found


async def key_of(
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Key:
    """The caller's key. Problems: unauthorized, rate-limited."""
    if credentials is None:
        raise unauthorized("no key was sent")
    caller: Caller = request.state.caller
    key = caller.key
    if not caller.is_known:
        key = await run_in_threadpool(authenticate, service.metadata, credentials.credentials)
        if key is not None:
            service.rate.take(key.id)
    if key is None:
        raise unauthorized("this key is unknown or revoked")
    return key


async def tenant_of(
    request: Request, service: Annotated[Service, Depends(service_of)], key: Annotated[Key, Depends(key_of)]
) -> str:
    """The tenant of the key.

    The request counts as one of the tenant's until it is answered. Problem: too-many-at-once.
    """
    request.state.call = service.calls.begin(key, "request")
    return key.tenant


async def watcher_of(
    request: Request, service: Annotated[Service, Depends(service_of)], key: Annotated[Key, Depends(key_of)]
) -> str:
    """The tenant of the key, for an event stream, which counts as one of its key. Problem: too-many-at-once."""
    request.state.call = service.calls.begin(key, "stream")
    return key.tenant


def unauthorized(what: str) -> ProblemError:
    """The problem of a caller who has no valid key."""
    return ProblemError(
        "unauthorized",
        what,
        "send `Authorization: Bearer KEY`; `graphpass keys create TENANT` makes a key",
        headers={"WWW-Authenticate": 'Bearer realm="graphpass"'},
    )


ServiceDependency = Annotated[Service, Depends(service_of)]
Tenant = Annotated[str, Depends(tenant_of)]
Watcher = Annotated[str, Depends(watcher_of)]


def problems(*slugs: str, also: Mapping[int | str, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """What a route may answer, for OpenAPI: these problems, those of EVERYWHERE, and successes (`also`)."""
    found: dict[int | str, list[str]] = {}
    for slug in (*slugs, *EVERYWHERE):
        found.setdefault(PROBLEMS[slug].status, []).append(slug)
    failures: dict[int | str, dict[str, Any]] = {
        status: {
            "description": "; ".join(f"`{slug}`: {PROBLEMS[slug].when}" for slug in dict.fromkeys(named)),
            "content": {PROBLEM_JSON: PROBLEM_SCHEMA},
        }
        for status, named in sorted(found.items(), key=lambda entry: int(entry[0]))
    }
    return {**(also or {}), **failures}


EVERYWHERE = (
    "malformed-request", "slow-request", "unauthorized", "invalid-request", "rate-limited", "too-many-at-once",
    "internal", "unavailable",
)  # fmt: skip
