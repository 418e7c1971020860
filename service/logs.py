"""Logs as one JSON object a line, with the ids of the request and of the job that it is about."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")
job_id: ContextVar[str] = ContextVar("job_id", default="")
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_LOUD = ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos")  # they bring handlers of their own


@contextmanager
def job_context(id: str) -> Iterator[None]:
    """What is logged inside is about this job."""
    token = job_id.set(id)
    try:
        yield
    finally:
        job_id.reset(token)


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
    """Everything goes to stderr as JSON. DBOS and uvicorn say less."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
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
    """DBOS installs its handler when it is made: take it away again, and keep what it says to warnings."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the middleware logs requests, with their ids
