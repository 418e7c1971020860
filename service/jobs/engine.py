"""DBOS as this service sets it up: one name, one version, portable JSON, SQLite beside the data or PostgreSQL.

The version is fixed: DBOS would otherwise hash the source, and a deploy would strand the jobs that are running.
"""

import logging
import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig
from dbos import DBOSPortableJSONSerializer as Portable
from dbos._dbos import _get_dbos_instance
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from service import logs
from service.errors import StorageUnavailableError
from service.settings import Settings
from service.storage.database import SQLITE_PRAGMAS, SQLITE_STATEMENTS, sqlite_module

P = ParamSpec("P")
R = TypeVar("R")
NAME, VERSION = "graphpass", "1"
CONVERT, SHARDS, GPU = "convert", "shards", "gpu"
POLL_SECONDS = 0.2  # how soon a process starts what it has taken, and a job sees that its shards are done
PASSING = ("database or disk is full", "disk I/O error", "readonly database", "unable to open database file")
KEEPALIVES = {  # a host that goes away silently is noticed in 15 s, not in two hours
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "connect_timeout": 10,
}
log = logging.getLogger(__name__)


def own_queue(executor: str) -> str:
    """The queue of what a process has taken from those that all share (service/jobs/queues.py)."""
    return f"worker:{executor}"


def reached(method: Callable[P, R]) -> Callable[P, R]:
    """A decorator: errors of the engine's database become StorageUnavailableError."""

    @wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except SQLAlchemyError as failure:
            raise StorageUnavailableError(
                f"the engine of jobs does not answer: {_reason(failure)}", "try again later", part="the engine of jobs"
            ) from failure

    return wrapped


def _reason(failure: SQLAlchemyError) -> str:
    return " ".join(str(getattr(failure, "orig", None) or failure).split())


def sqlite_engine(settings: Settings) -> sa.Engine:
    """The engine of jobs.db, in a folder that is there: writers take turns, readers do not wait for them."""
    engine = sa.create_engine(
        URL.create("sqlite+pysqlite", database=str(settings.data_dir / "jobs.db")),
        module=sqlite_module(),
        connect_args={"cached_statements": SQLITE_STATEMENTS},
        pool_size=20,
    )

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = "IMMEDIATE"  # as DBOS does where it makes the engine itself
        for pragma in ("busy_timeout=30000", *SQLITE_PRAGMAS):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _wait_for_room(engine: sa.Engine) -> None:
    """Make DBOS wait while the disk is full or away, as it waits for locks and for PostgreSQL.

    Otherwise such an error would end jobs that were accepted. DBOS waits where SQLite's message says that the database
    is locked, so the message is given these words.
    """

    @sa.event.listens_for(engine, "handle_error", retval=True)
    def locked(context: sa.engine.ExceptionContext) -> BaseException | None:
        said = str(context.original_exception)
        if not any(words in said for words in PASSING):
            return None
        log.warning("jobs.db: %s; waiting", said)
        waiting = sqlite3.OperationalError(f"database is locked ({said})")
        return sa.exc.OperationalError(context.statement, context.parameters, waiting)


def is_postgres(settings: Settings) -> bool:
    """Whether several processes may share the jobs."""
    return settings.database_url.startswith("postgresql")


def migrate(settings: Settings) -> None:
    """Create or upgrade the tables of DBOS. Processes that only serve the API need them as well."""
    if is_postgres(settings):
        DBOS.migrate(settings.database_url)


def config(settings: Settings, engine: sa.Engine | None) -> DBOSConfig:
    """The configuration of DBOS. engine: the one of SQLite, None with PostgreSQL."""
    found = DBOSConfig(
        name=NAME,
        application_version=VERSION,
        executor_id=settings.executor_id,
        serializer=Portable(),
        log_level="DEBUG" if settings.log_level == "debug" else "WARNING",
        enable_otlp=False,
        notification_listener_polling_interval_sec=POLL_SECONDS,
    )
    if engine is not None:
        found["system_database_url"] = str(engine.url)
        found["system_database_engine"] = engine
    else:
        found["system_database_url"] = settings.database_url
        found["db_engine_kwargs"] = {"connect_args": dict(KEEPALIVES)}
    return found


def start(settings: Settings, engine: sa.Engine | None) -> None:
    """Start to execute what this process takes from the queues.

    The workflows must have been imported, and their instance made, before. Raises StorageUnavailableError.
    """
    try:
        _start(settings, engine)
    except SQLAlchemyError as failure:
        where = "that of GRAPHPASS_DATABASE_URL" if engine is None else f"{engine.url.database}"
        remedy = "look at the database" if engine is None else "delete it if it is damaged: unfinished jobs start again"
        raise StorageUnavailableError(
            f"the database of the engine of jobs, {where}, does not answer: {_reason(failure)}", remedy
        ) from failure


def _start(settings: Settings, engine: sa.Engine | None) -> None:
    if engine is not None:
        _wait_for_room(engine)
    DBOS(config=config(settings, engine))
    logs.quiet()
    own = own_queue(settings.executor_id)
    DBOS.listen_queues([own])
    DBOS.launch()
    for name in (CONVERT, SHARDS, GPU):  # without limits: the scheduler of each process takes what it has places for
        DBOS.register_queue(name)
    DBOS.register_queue(own, polling_interval_sec=POLL_SECONDS)


def recover(executor: str) -> None:
    """Put the running workflows of a worker that is gone back on that worker's own queue, where they were."""
    DBOS._recover_pending_workflows([executor])


def executing() -> set[str]:
    """Ids of the workflows that this process executes now."""
    return set(_get_dbos_instance()._active_workflows_set.activeList())


def start_again(workflow: str, executor: str) -> None:
    """Start a workflow that this process took from the queues and does not execute."""
    DBOS.resume_workflow(workflow, queue_name=own_queue(executor))


def stop() -> None:
    """Stop at once. Workflows that were running go on after the next start."""
    DBOS.destroy()


def client(settings: Settings, engine: sa.Engine | None) -> DBOSClient:
    """A client that sends and watches jobs, in whatever process they run."""
    if engine is not None:
        return DBOSClient(
            system_database_engine=engine,
            serializer=Portable(),
            application_name=NAME,
            lazy=True,
            retry_connection_errors=False,
        )
    return DBOSClient(
        system_database_url=settings.database_url,
        serializer=Portable(),
        application_name=NAME,
        use_listen_notify=True,
        system_database_pool_size=10,
        retry_connection_errors=False,  # a request that cannot be answered now says so
    )
