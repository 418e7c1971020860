"""What routes work with, and who is asking."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.api.answers import Problem
from service.auth import RateLimit, authenticate
from service.jobs.dispatch import Dispatcher
from service.jobs.places import Places
from service.jobs.queues import Queues
from service.metrics import Metrics
from service.problems import PROBLEM_JSON, PROBLEMS, ProblemError
from service.settings import Settings
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata

PROBLEM_SCHEMA = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
_bearer = HTTPBearer(auto_error=False, bearerFormat="gp_…", description="A key of `graphpass keys create`.")


@dataclass(frozen=True)
class Service:
    """Everything behind the routes of one process."""

    settings: Settings
    metadata: Metadata
    blobs: Blobs
    dispatcher: Dispatcher
    queues: Queues
    rate: RateLimit
    metrics: Metrics
    places: Places

    def expiry(self) -> datetime | None:
        """When a job that finishes now goes; None for never."""
        return self.settings.result_expiry(datetime.now(UTC))


def service_of(request: Request) -> Service:
    """The process's service."""
    found: Service = request.app.state.service
    return found


def tenant_of(
    service: Annotated[Service, Depends(service_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """Whose key it is. Problems: unauthorized, rate-limited."""
    key = authenticate(service.metadata, credentials.credentials) if credentials else None
    if key is None:
        raise ProblemError(
            "unauthorized",
            "no key was sent" if credentials is None else "this key is unknown or revoked",
            "send `Authorization: Bearer KEY`; `graphpass keys create TENANT` makes a key",
            headers={"WWW-Authenticate": 'Bearer realm="graphpass"'},
        )
    service.rate.take(key.id)
    return key.tenant


With = Annotated[Service, Depends(service_of)]
Tenant = Annotated[str, Depends(tenant_of)]


def problems(*slugs: str, also: Mapping[int | str, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """What a route may answer, for OpenAPI; every route may answer 401, 422, 429, 500 and 503. `also`: successes."""
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


EVERYWHERE = ("malformed-request", "unauthorized", "invalid-request", "rate-limited", "internal", "unavailable")
