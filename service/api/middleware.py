"""Between uvicorn and the routes: ids, logs, metrics, headers, HEAD, and the end of calls whose key was revoked."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.callers import Caller, Callers
from service.api.calls import Call, Calls
from service.api.context import unauthorized
from service.api.error_handlers import problem_body, problem_of, problem_response
from service.api.turns import Slowness, Turns
from service.errors import RateError
from service.logs import request_id
from service.metrics import ProcessMetrics
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
Headers = list[tuple[bytes, bytes]]
UPLOAD = re.compile(r"/v1/uploads/[^/]+")
STREAMED = ("/v1/models", "/v1/datasets", "/v1/uploads")  # whose routes count the bytes themselves
SMALL = 2**16  # bytes of any other body
REFUSED = (401, 429)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LONGEST_PATH = 200  # characters in a line of the log
QUIET = ("/livez", "/readyz", "/metrics")
log = logging.getLogger("service.requests")


class ServiceMiddleware:
    """ASGI middleware around everything: nothing leaves the process without it."""

    def __init__(
        self, app: ASGIApp, metrics: ProcessMetrics, callers: Callers, calls: Calls, turns: Turns, slowness: Slowness
    ):
        self._app, self._metrics, self._callers, self._calls = app, metrics, callers, calls
        self._turns, self._slowness = turns, slowness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id, began = secrets.token_hex(8), time.monotonic()
        token = request_id.set(id)
        scope.setdefault("state", {})["request_id"] = id
        inner = _as_get(scope) if scope["method"] == "HEAD" else scope
        answer = Answer(scope, inner, send, id, self._metrics, self._slowness)
        try:
            asking = scope["state"]["caller"] = answer.caller = self._callers.of(scope)
            self._callers.count(scope, asking)
            if not asking.is_counted(scope):
                await self._slowness.count(scope)
            answer.end_turn = scope["state"]["end_turn"] = await self._turns.take(scope, asking.name)
            _require_plain(scope)
            if not scope["path"].startswith(STREAMED):
                receive = _limited(scope, receive)
            await self._app(inner, receive, answer.send)
        except Exception as error:
            if not isinstance(error, ProblemError | RateError):
                log.exception("%s %s failed", scope["method"], scope["path"][:LONGEST_PATH])
            if answer.status:
                raise
            await problem_response(problem_of(error), id)(inner, receive, answer.send)
        except asyncio.CancelledError:
            if not _was_revoked(scope):
                raise
            await self._refuse_revoked(scope, inner, receive, answer)
        finally:
            answer.end_turn()
            call: Call | None = scope["state"].get("call")
            if call is not None:
                self._calls.end(call)
            _log(scope, answer.status, began, call)
            request_id.reset(token)

    async def _refuse_revoked(self, scope: Scope, inner: Scope, receive: Receive, answer: "Answer") -> None:
        """Answer that the key was revoked; where an answer has begun already, cut the connection."""
        if task := asyncio.current_task():
            task.uncancel()
        if not answer.status:
            problem = unauthorized("this key was revoked meanwhile")
            await problem_response(problem, scope["state"]["request_id"])(inner, receive, answer.send)
        elif connection := scope["state"].get("connection"):
            connection.abort()


class Answer:
    """Sends one answer: always with our headers, without a body to HEAD, and every error as a problem document."""

    def __init__(self, scope: Scope, inner: Scope, send: Send, id: str, metrics: ProcessMetrics, slowness: Slowness):
        self.status = 0
        self.caller: Caller | None = None
        self.end_turn: Callable[[], None] = lambda: None  # gives the turn to the next one; may be called again
        self._scope, self._inner, self._send, self._id = scope, inner, send, id
        self._metrics, self._slowness = metrics, slowness
        self._began, self._complete = time.monotonic(), False

    async def send(self, message: Message) -> None:
        """Send one message of ASGI."""
        if self._complete:
            return
        if message["type"] != "http.response.start":
            await self._send(message)
            return
        self.status = message["status"]
        self.end_turn()
        if self.status in REFUSED and self.caller is not None and self.caller.sends_key:
            await self._slowness.count(self._scope)
        method, route = _method(self._scope), _route(self._inner)
        self._metrics.requests.labels(method, route, str(self.status)).inc()
        self._metrics.request_seconds.labels(method, route).observe(time.monotonic() - self._began)
        headers, body = list(message.get("headers", [])), b""
        if self.status >= 400 and dict(headers).get(b"content-type", b"").startswith(b"text/plain"):
            self._complete = True
            headers, body = self._as_problem(headers)
        await self._send({**message, "headers": self._with_ours(headers)})
        if self._complete or self._scope["method"] == "HEAD":
            self._complete = True
            await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _as_problem(self, headers: Headers) -> tuple[Headers, bytes]:
        """The problem of an error that Starlette sends as plain text, such as one of a Range of the page's files."""
        problem = problem_of(HTTPException(self.status, HTTPStatus(self.status).phrase))
        body = problem_body(problem, self._id)
        kept = [(name, value) for name, value in headers if name not in (b"content-type", b"content-length")]
        length = str(len(body)).encode()
        return [*kept, (b"content-type", PROBLEM_JSON.encode()), (b"content-length", length)], body

    def _with_ours(self, headers: Headers) -> Headers:
        have = {name.lower() for name, _ in headers}
        ours = {**HEADERS, "x-request-id": self._id}
        if self._scope["path"].startswith("/v1/"):
            ours["cache-control"] = "no-store"
        if self._scope["path"].startswith("/v1/uploads"):
            ours["tus-resumable"] = "1.0.0"
        return headers + [(name.encode(), value.encode()) for name, value in ours.items() if name.encode() not in have]


def _as_get(scope: Scope) -> Scope:
    """The GET whose head answers a HEAD (RFC 9110, 9.3.2); ranges are for GET alone. tus has a HEAD of its own."""
    if UPLOAD.fullmatch(scope["path"]):
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
    return {**scope, "method": "GET", "headers": headers}


def _was_revoked(scope: Scope) -> bool:
    call: Call | None = scope["state"].get("call")
    return call is not None and call.revoked


def _log(scope: Scope, status: int, began: float, call: Call | None) -> None:
    """Log the request in one line. Refused requests of one caller count as repeats of one line."""
    level = logging.DEBUG if scope["path"] in QUIET else logging.INFO
    client = scope["client"][0] if scope.get("client") else ""
    tenant = call.key.tenant if call else None
    alike = f"{status} {tenant or client}" if status >= 400 else None
    extra = {"status": status, "seconds": round(time.monotonic() - began, 4), "client": client, "tenant": tenant}
    path = scope["path"][:LONGEST_PATH]
    log.log(level, "%s %s %s", scope["method"][:20], path, status, extra={**extra, "repeats": alike})


def _require_plain(scope: Scope) -> None:
    """Problem: media-type, for a body that is compressed: its bytes would be taken for those of the file."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            coding = value.decode("latin1")[:LONGEST_PATH]
            raise ProblemError(
                "media-type", f"a body in {coding} is not read here", "send it as it is", where="Content-Encoding"
            )


def _limited(scope: Scope, receive: Receive) -> Receive:
    """`receive` for a body of at most SMALL bytes. Problem: too-large."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > SMALL:
            raise too_large(SMALL)
    taken = 0

    async def receive_within() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > SMALL:
            raise HTTPException(413, f"at most {SMALL:,} bytes are accepted here")
        return message

    return receive_within


def _method(scope: Scope) -> str:
    """The method for metrics; unknown ones are `other`, so that callers cannot add labels."""
    return scope["method"] if scope["method"] in METHODS else "other"


def _route(scope: Scope) -> str:
    """The route for metrics: the pattern of the path, so that ids add no labels."""
    route = scope.get("route")
    return str(getattr(route, "path", "")) or "other"
