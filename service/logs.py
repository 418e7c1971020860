"""Logs as one JSON object a line, with the ids of request and job; what repeats is counted."""

import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")
job_id: ContextVar[str] = ContextVar("job_id", default="")
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "repeats"}
_VARYING = re.compile(r"\w*\d\w*")
_KINDS = 10_000  # of lines that are distinguished in one period
_LOUD = ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos")  # they bring handlers of their own


@contextmanager
def job_context(id: str) -> Iterator[None]:
    """A context in which every line of the log names this job."""
    token = job_id.set(id)
    try:
        yield
    finally:
        job_id.reset(token)


class Repeats(logging.Filter):
    """In every period, passes the first `most` lines that are alike, and says at its end how many more there were.

    Lines are alike if their logger, level and message differ in nothing but numbers and ids, or if they have the same
    `extra={"repeats": "…"}`. A line whose `repeats` is None always passes.
    """

    def __init__(self, most: int = 20, seconds: float = 60.0):
        super().__init__()
        self._most, self._seconds = most, seconds
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, int, str], int] = {}
        self._last: dict[tuple[str, int, str], logging.LogRecord] = {}
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        alike = getattr(record, "repeats", _VARYING.sub("#", str(record.msg)[:500]))
        if alike is None:
            return True
        key = (record.name, record.levelno, alike)
        with self._lock:
            if len(self._seen) >= _KINDS and key not in self._seen:
                key = (record.name, record.levelno, "")
            count = self._seen[key] = self._seen.get(key, 0) + 1
            if count > self._most:
                self._last[key] = record
            if self._timer is None:
                self._start()
            return count <= self._most

    def _start(self) -> None:
        timer = threading.Timer(self._seconds, self.end_period)
        timer.daemon = True
        with suppress(RuntimeError):  # no thread can be started now: the next line tries again
            timer.start()
            self._timer = timer

    def end_period(self) -> None:
        """End the period: log one line for each kind of which lines were left out."""
        with self._lock:
            seen, last = self._seen, self._last
            self._seen, self._last, self._timer = {}, {}, None
        for key, record in last.items():
            text = f"{record.getMessage()} … and {seen[key] - self._most:,} more like it in {self._seconds:g} s"
            extra = {"repeats": None, "times": seen[key]}
            logging.getLogger(record.name).log(record.levelno, "%s", text, extra=extra)


class JsonFormatter(logging.Formatter):
    """time, level, logger, message; request, job and what the caller gave as `extra`; the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        found: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        found |= {name: id for name, id in (("request", request_id.get()), ("job", job_id.get())) if id}
        found |= {name: value for name, value in vars(record).items() if name not in _KNOWN and value is not None}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str, ensure_ascii=False)


def set_up(level: str) -> None:
    """Log everything to stderr as JSON, and less of DBOS and uvicorn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _LOUD:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in ("alembic", "dbos"):
        logging.getLogger(name).setLevel(logging.WARNING)
    quiet()


def quiet() -> None:
    """Remove the handler that DBOS installs when it is made. The middleware logs requests, so uvicorn does not."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True
