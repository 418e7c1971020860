"""Turns every error into a problem document."""

import json
import logging
import re
from math import ceil

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import (
    IdempotencyError,
    NotFoundError,
    OffsetError,
    QuotaError,
    RateError,
    ServiceError,
    ShortageError,
    StateError,
    StorageError,
    TextError,
)
from service.problems import PROBLEM_JSON, ProblemError
from service.sandbox.bounds import NAME, TEXT, shortened
from service.shortage import short_of

MOST_ERRORS = 20  # fields that are named
OTHER = {
    400: "malformed-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "media-type",
    416: "range",
    422: "invalid-request",
}
log = logging.getLogger(__name__)


def _methods(app: FastAPI, path: str) -> str:
    """All methods of a path, for the header Allow: the router names only those of the first route that fits."""
    for pattern, operations in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(pattern)), path):
            methods = {method.upper() for method in operations}
            return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return "GET, HEAD"


def install(app: FastAPI) -> None:
    """Have the app answer every error with a problem document."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            error.headers = {"Allow": _methods(app, request.url.path)}
        return problem_response(problem_of(error), request.scope.get("state", {}).get("request_id", ""))

    for kind in (ProblemError, ServiceError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def problem_response(problem: ProblemError, id: str) -> Response:
    """The answer for a problem."""
    return Response(problem_body(problem, id), problem.status, problem.headers, PROBLEM_JSON)


def problem_body(problem: ProblemError, id: str) -> bytes:
    return json.dumps(problem.document(id), ensure_ascii=False).encode("utf-8", "replace")


def problem_of(error: Exception) -> ProblemError:
    """The problem that an error becomes. An error that is unknown here is a fault of the service."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ServiceError):
        return _of_service(error)
    if isinstance(error, RequestValidationError | ValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        slug = OTHER.get(error.status_code, "internal" if error.status_code >= 500 else "malformed-request")
        return ProblemError(slug, str(error.detail), headers=dict(error.headers or {}))
    if short := short_of(error):
        return _of_service(ShortageError(f"the machine is short of {short}", "try again later"))
    return ProblemError(
        "internal",
        "the service failed to answer this",
        "try again; if it fails again, tell the operator the request_id",
    )


def _of_service(error: ServiceError) -> ProblemError:
    what, remedy = error.what, error.remedy
    match error:
        case NotFoundError():
            return ProblemError("not-found", what, remedy)
        case IdempotencyError():
            return ProblemError("idempotency-conflict", what, remedy, where="Idempotency-Key")
        case OffsetError():
            return ProblemError("upload-offset", what, remedy, headers={"Upload-Offset": str(error.offset)})
        case StateError():
            return ProblemError("not-finished", what, remedy)
        case QuotaError():
            return ProblemError("queue-quota" if error.quota == "queued" else "storage-quota", what, remedy)
        case RateError():
            headers = {"Retry-After": str(ceil(error.retry_after))}
            return ProblemError("rate-limited", what, remedy, headers=headers)
        case TextError():
            return ProblemError("invalid-request", what, remedy)
        case StorageError():
            log.error("storage: %s", error)
            return ProblemError("unavailable", *error.public, headers={"Retry-After": "5"})
        case ShortageError():
            log.error("not available: %s", error)
            return ProblemError("unavailable", what, remedy or "try again later", headers={"Retry-After": "5"})
        case _:
            return ProblemError("internal", "the service failed to answer this")


def _of_validation(error: RequestValidationError | ValidationError) -> ProblemError:
    found = []
    for each in error.errors()[:MOST_ERRORS]:
        place = [str(part) for part in each["loc"]]
        where = shortened(".".join(place[1:] if place[:1] == ["body"] else place), NAME)
        found.append({"where": where, "what": shortened(each["msg"].removeprefix("Value error, "), TEXT)})
    first = found[0]
    return ProblemError(
        "invalid-request",
        f"{first['where']}: {first['what']}" if first["where"] else first["what"],
        f"see `errors` for every field (the first {MOST_ERRORS}), and /openapi.json for what is accepted",
        where=first["where"],
        errors=found,
    )
