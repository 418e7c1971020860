"""HTTP with a service: problem documents as errors of graphpass, and patience with lost connections and restarts."""

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from graphpass.errors import (
    CalibrationError,
    CoverageError,
    DataError,
    GoalError,
    GraphpassError,
    ModelError,
    OptionError,
    PlanError,
    RemoteError,
    UnreachableError,
    UnsupportedModelError,
    VerificationError,
)

try:
    import httpx
except ImportError as error:
    raise OptionError("httpx is not installed, and the client needs it", "pip install 'graphpass[client]'") from error

TIMEOUT = httpx.Timeout(
    150.0, connect=10.0
)  # seconds without a byte: an upload may have to wait until the service examines it
CHECK_ADDRESS = "check that this is its address, and that it is as new as this graphpass"
LONGEST_PAUSE = 8.0  # seconds between attempts
ERRORS: Mapping[str, type[GraphpassError]] = {  # problems that are the same errors as on this machine
    "invalid-request": OptionError,
    "invalid-options": OptionError,
    "invalid-model": ModelError,
    "unsupported-model": UnsupportedModelError,
    "invalid-data": DataError,
    "calibration": CalibrationError,
    "plan": PlanError,
    "verification": VerificationError,
    "coverage": CoverageError,
    "goal": GoalError,
}
HTTP_PORTS = range(1, 2**16)
CROWDED = "too-many-at-once"  # the key has as many requests at once as it may have
PASSING = frozenset({"unavailable", "rate-limited", "slow-request", CROWDED})  # it may succeed if it is sent again


class PassingError(RemoteError):
    """A service that cannot answer now. retry_after: seconds."""

    retry_after = 0.0


def error_of(problem: Mapping[str, Any]) -> GraphpassError:
    """The exception for a problem document, or for the error of a failed job."""
    slug = str(problem.get("type", "")).rpartition("/")[2]
    what = str(problem.get("detail") or problem.get("what") or "the service failed")
    remedy = str(problem.get("remedy") or "")
    if slug in ERRORS:
        return ERRORS[slug](what, remedy)
    kind = PassingError if slug in PASSING else RemoteError
    return kind(what, remedy, slug, str(problem.get("where") or ""))


def address_of(url: str) -> str:
    """The address of a service, without a slash at its end. Raises OptionError for what can be none."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        found = httpx.URL()
    plain = not (found.userinfo or found.query or found.fragment or "%" in found.host)
    known = found.scheme in ("http", "https") and found.host and (found.port is None or found.port in HTTP_PORTS)
    if not (plain and known):
        raise OptionError(f"{url!r} is not the address of a service", "write it as http://127.0.0.1:8000")
    return str(found).rstrip("/")


def document(answer: httpx.Response, *names: str) -> Any:
    """The JSON of an answer; with names, an object that has them. Raises RemoteError where the answer is another."""
    try:
        found = answer.json()
    except (ValueError, RecursionError) as error:
        raise _strange(answer) from error
    if names and not (isinstance(found, dict) and found.keys() >= set(names)):
        raise _strange(answer)
    return found


def header(answer: httpx.Response, name: str) -> str:
    """A header of an answer, which has to be there. Raises RemoteError."""
    if name not in answer.headers:
        raise _strange(answer)
    return str(answer.headers[name])


def number(answer: httpx.Response, name: str) -> int:
    """A header that is a whole number. Raises RemoteError."""
    text = header(answer, name)
    if not (text.isascii() and text.isdecimal()):
        raise _strange(answer)
    return int(text)


def _strange(answer: httpx.Response) -> RemoteError:
    return RemoteError(f"{answer.url} does not answer as a service of graphpass does", CHECK_ADDRESS)


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is a success; else the error of its problem document is raised."""
    if answer.is_success:
        return answer
    answer.read()
    try:
        problem = dict(document(answer, "type"))
    except RemoteError:
        problem = {"detail": f"the service answered {answer.status_code}", "type": "", "remedy": CHECK_ADDRESS}
        if answer.status_code in (502, 503, 504):  # a proxy whose service is away
            problem["type"] = "/problems/unavailable"
    error = error_of(problem)
    if isinstance(error, PassingError):
        delay = answer.headers.get("Retry-After", "")
        error.retry_after = float(delay) if delay.isdecimal() else 0.0
    raise error


class Patience:
    """Tries again until something gets through: `for attempt in patience: with attempt: …`.

    Faults that may pass (a lost connection, a restart of the service) are raised only `seconds` after the last success.
    Where the key has too many requests at once, it waits as long as it takes. Other errors are raised at once.
    """

    def __init__(self, url: str, seconds: float):
        self._url, self._seconds = url, seconds
        self._done, self._failures, self._since = False, 0, time.monotonic()

    def succeeded(self) -> None:
        """Report a success: the time starts again."""
        self._failures, self._since = 0, time.monotonic()

    def __iter__(self) -> Iterator["Patience"]:
        while not self._done:
            yield self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if error is None:
            self._done = True
        if not isinstance(error, httpx.TransportError | PassingError):
            return False
        if isinstance(error, PassingError) and error.slug == CROWDED:
            self.succeeded()
        self._failures += 1
        pause = min(0.25 * 2**self._failures, LONGEST_PAUSE)
        if isinstance(error, PassingError):
            pause = max(pause, error.retry_after)
        if time.monotonic() - self._since + pause > self._seconds:
            if isinstance(error, PassingError):
                return False
            raise UnreachableError(
                f"{self._url} does not answer ({error or type(error).__name__})", "check the address and the network"
            ) from error
        time.sleep(pause)
        return True


class Connection:
    """Requests to one service with one key. patience: seconds, see Patience."""

    def __init__(self, url: str, key: str, patience: float):
        self.url, self._seconds = url, patience
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT)

    def patience(self) -> Patience:
        """A new Patience."""
        return Patience(self.url, self._seconds)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request, repeated with the same idempotency key while the service is away."""
        headers = dict(more.pop("headers", {}))
        if method == "POST" and "json" in more:
            headers["Idempotency-Key"] = uuid4().hex
        for attempt in self.patience():
            with attempt:
                return checked(self.http.request(method, path, headers=headers, **more))
        raise AssertionError("patience ends with an answer or an error")

    def read(self, method: str, path: str, *names: str, **more: Any) -> Any:
        """The JSON of an answer, as `document`. more: as of `ask`."""
        return document(self.ask(method, path, **more), *names)

    def remove(self, path: str) -> None:
        """DELETE. Not found is a success after an attempt whose answer was lost, since that may have deleted it."""
        lost = False
        for attempt in self.patience():
            with attempt:
                try:
                    checked(self.http.delete(path))
                except RemoteError as error:
                    if not (lost and error.slug == "not-found"):
                        raise
                except httpx.TransportError:
                    lost = True
                    raise
