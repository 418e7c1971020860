"""Between uvicorn and the routes: ids, logs, metrics, headers; and every error as a problem document."""

import json
import logging
import re
import secrets
import time
from collections.abc import Mapping
from math import ceil

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    IdempotencyError,
    NotFoundError,
    OffsetError,
    QuotaError,
    RateError,
    ServiceError,
    StateError,
    StorageError,
    TextError,
)
from service.logs import request_id
from service.metrics import Metrics
from service.problems import PROBLEM_JSON, ProblemError, too_large

# The page loads scripts and styles from here alone; plots set styles; reports are shown in frames without rights.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
HEADERS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "content-security-policy": PAGE_POLICY,
}
OTHER = {
    400: "malformed-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "media-type",
    422: "invalid-request",
}
STREAMED = ("/v1/models", "/v1/datasets", "/v1/uploads")  # whose routes count the bytes themselves
SMALL = 2**16  # bytes of any other body
QUIET = ("/livez", "/readyz", "/metrics")
log = logging.getLogger("service.requests")


class Around:
    """ASGI middleware around everything: nothing leaves the process without it."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id, began, status = secrets.token_hex(8), time.monotonic(), 0
        token = request_id.set(id)
        scope.setdefault("state", {})["request_id"] = id

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": self._headers(scope, message, id)}
                route = _route(scope)
                self._metrics.requests.labels(scope["method"], route, str(status)).inc()
                self._metrics.request_seconds.labels(scope["method"], route).observe(time.monotonic() - began)
            await send(message)

        try:
            if not scope["path"].startswith(STREAMED):
                receive = _limited(scope, receive)
            await self._app(scope, receive, sending)
        except Exception as error:
            if not isinstance(error, ProblemError):
                log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            await problem_response(_of(error), id)(scope, receive, sending)
        finally:
            level = logging.DEBUG if scope["path"] in QUIET else logging.INFO
            took = round(time.monotonic() - began, 4)
            log.log(
                level, "%s %s %s", scope["method"], scope["path"], status, extra={"status": status, "seconds": took}
            )
            request_id.reset(token)

    def _headers(self, scope: Scope, message: Message, id: str) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
        have = {name.lower() for name, _ in headers}
        ours = {**HEADERS, "x-request-id": id}
        if scope["path"].startswith("/v1/"):
            ours["cache-control"] = "no-store"
        if scope["path"].startswith("/v1/uploads"):
            ours["tus-resumable"] = "1.0.0"
        headers += [(name.encode(), value.encode()) for name, value in ours.items() if name.encode() not in have]
        return headers


def _limited(scope: Scope, receive: Receive) -> Receive:
    """The body of a request, up to SMALL bytes. Problem: too-large."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > SMALL:
            raise too_large(SMALL)
    taken = 0

    async def receiving() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > SMALL:
            raise HTTPException(413, f"at most {SMALL:,} bytes are taken here", {"Connection": "close"})
        return message

    return receiving


def _methods(app: FastAPI, path: str) -> str:
    """All methods of a path: a router knows those of the first route alone."""
    for pattern, operations in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(pattern)), path):
            return ", ".join(sorted(method.upper() for method in operations))
    return "GET"


def install(app: FastAPI) -> None:
    """Every error becomes a problem document."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            error.headers = {"Allow": _methods(app, request.url.path)}
        return problem_response(_of(error), request.scope.get("state", {}).get("request_id", ""))

    for kind in (ProblemError, ServiceError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def problem_response(problem: ProblemError, id: str) -> Response:
    """The answer for a problem."""
    body = json.dumps(problem.document(id), ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, problem.status, problem.headers, PROBLEM_JSON)


def _of(error: Exception) -> ProblemError:
    """Which problem an error is. What is not known here is a fault of ours."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ServiceError):
        return _of_service(error)
    if isinstance(error, RequestValidationError | ValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        slug = OTHER.get(error.status_code, "internal" if error.status_code >= 500 else "malformed-request")
        return ProblemError(slug, str(error.detail), headers=dict(error.headers or {}))
    return ProblemError(
        "internal", "the service failed to answer this", "try again; if it stays, tell the operator the request_id"
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
            return ProblemError("not-ready", what, remedy)
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
        case _:
            return ProblemError("internal", "the service failed to answer this")


def _of_validation(error: RequestValidationError | ValidationError) -> ProblemError:
    found = []
    for each in error.errors():
        place = [str(part) for part in each["loc"]]
        found.append({"where": ".".join(place[1:] if place[:1] == ["body"] else place), "what": each["msg"]})
    first = found[0]
    return ProblemError(
        "invalid-request",
        f"{first['where']}: {first['what']}" if first["where"] else first["what"],
        "see `errors` for every field, and /openapi.json for what is taken",
        where=first["where"],
        errors=found,
    )


def _route(scope: Scope) -> str:
    """The pattern of the path, so that ids make no labels."""
    route = scope.get("route")
    return str(getattr(route, "path", "")) or "other"
