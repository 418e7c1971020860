"""Wiring: what a process opens, in which order, and the app that it serves."""

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, Response
from starlette.routing import Match, Mount
from starlette.types import Scope

from service.api import answering, events, examples, jobs, objects, operations, results, uploads
from service.api.context import Service
from service.api.openapi import complete
from service.auth import RateLimit
from service.errors import SettingsError, StorageUnavailableError
from service.jobs import engine
from service.jobs.dispatch import Dispatcher
from service.jobs.guard import Guard
from service.jobs.housekeeping import Housekeeper, reconcile, tidy
from service.metrics import Metrics
from service.problems import not_found
from service.settings import Settings
from service.storage import garbage
from service.storage.metadata import open_metadata
from service.storage.stores import open_blobs

PAGE = Path(__file__).parent / "page"
SQLITE_THREADS = 4  # that answer requests: each takes a connection and memory, and more do not read a local file faster
OLD_SCRATCH = 24 * 3600.0  # seconds after which a folder of scratch files belongs to nobody


@dataclass(frozen=True)
class Process:
    """What one process has open. `close` ends it; jobs that run are taken up after the next start."""

    service: Service
    stack: ExitStack

    def close(self) -> None:
        """Close everything, in reverse order."""
        self.stack.close()


def open_process(settings: Settings) -> Process:
    """Open storage and engine, and work on the queues of the settings. Errors say what to do about it."""
    with ExitStack() as stack:
        shared = engine.is_postgres(settings)
        if not shared:
            stack.callback(os.close, _lock(settings.data_dir))
        _clear_scratch(settings.data_dir / "scratch", 0 if not shared else OLD_SCRATCH)
        metadata = open_metadata(settings, stays=True)
        stack.callback(metadata.close)
        blobs = open_blobs(settings)
        blobs.probe()
        if not shared:  # what is being written is of a process that is gone
            garbage.abandon(metadata, blobs, datetime.now(UTC))
        garbage.adopt(metadata, blobs)
        metrics = Metrics()
        engine.migrate(settings)
        if settings.queues:
            from service.jobs.work import Work

            work = Work(settings, metadata, blobs, metrics)
            stack.callback(work.leave)
            guard = _guard(settings) if shared else None
            if guard:
                guard.lock_own()
                stack.callback(guard.stop)
            engine.start(settings, None if shared else engine.sqlite_engine(settings))
            stack.callback(engine.stop)
        dispatcher = Dispatcher(engine.client(settings, None if shared else engine.sqlite_engine(settings)))
        stack.callback(dispatcher.close)
        if settings.queues and guard:
            guard.watch(dispatcher.owners, engine.recover)
            guard.start()
        housekeeper = Housekeeper(
            metadata.ledger.renew,
            lambda: reconcile(metadata, dispatcher, settings),
            lambda: tidy(metadata, blobs, dispatcher, settings),
        )
        housekeeper.start()
        stack.callback(housekeeper.stop)
        describing = asyncio.Semaphore(settings.workers)
        service = Service(
            settings, metadata, blobs, dispatcher, RateLimit(settings.rate_per_minute), metrics, describing
        )
        metrics.watch(lambda: _gauges(service))
        return Process(service, stack.pop_all())


def create_app(process: Process) -> FastAPI:
    """The routes on what `open_process` opened; the process is closed when the app shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if process.service.metadata.database.is_sqlite:
            current_default_thread_limiter().total_tokens = SQLITE_THREADS
        yield
        await asyncio.to_thread(process.close)

    app = FastAPI(
        title="graphpass",
        version=version("graphpass"),
        summary="ONNX networks to spiking networks, without training",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        redirect_slashes=False,
    )
    app.state.service = process.service
    for router in ROUTERS:
        app.include_router(router)
    answering.install(app)
    app.add_middleware(answering.Around, metrics=process.service.metrics)
    complete(app)

    @app.get("/assets/plotly.min.js", include_in_schema=False)
    async def plotly() -> Response:
        """The library of the page's plots, from the installed package."""
        spec = find_spec("plotly")
        path = Path(spec.origin).parent / "package_data" / "plotly.min.js" if spec and spec.origin else PAGE / "absent"
        if not path.is_file():
            raise not_found("plotly.min.js")
        return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "public, max-age=86400"})

    if PAGE.is_dir():
        app.router.routes.append(Elsewhere("/", Page(directory=PAGE, html=True), name="page"))
    return app


class Elsewhere(Mount):
    """What is below no other route. A method that a path of the API does not have stays 405."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Mount."""
        return (Match.NONE, {}) if scope["path"].startswith("/v1/") else super().matches(scope)


class Page(StaticFiles):
    """Files of the page: browsers ask whether there are newer ones, or a page could mix those of two versions.

    The frame that shows a report has the report's policy.
    """

    def file_response(self, full_path: str | os.PathLike[str], *arguments: Any, **more: Any) -> Response:
        """See StaticFiles."""
        answer = super().file_response(full_path, *arguments, **more)
        answer.headers["Cache-Control"] = "no-cache"
        if Path(full_path).name == "report.html":  # with 304, too: browsers take the headers of that
            answer.headers["Content-Security-Policy"] = results.REPORT_POLICY
        return answer


DESCRIPTION = """Upload an ONNX network and data, convert it to a spiking network, watch it, compare and download.

Send `Authorization: Bearer KEY`. Errors are RFC 9457 problem documents whose `type` is stable (`/problems/{slug}`)."""
ROUTERS = (
    *(objects.routes(kind) for kind in ("model", "dataset")),
    uploads.router,
    jobs.conversions,
    jobs.evaluations,
    jobs.sweeps,
    *(module.routes(kind) for kind in ("conversion", "evaluation", "sweep") for module in (events, results)),
    jobs.every,
    examples.router,
    operations.router,
)


def _lock(folder: Path) -> int:
    """One process a data folder: two would take up each other's jobs. The lock goes with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnavailableError(
            f"{folder} cannot be written to: {error.strerror}", "name another folder with --data or GRAPHPASS_DATA_DIR"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise SettingsError(
            f"another process works in {folder}",
            "stop it, name another folder with --data, or use PostgreSQL for several",
        ) from None
    return file


def _clear_scratch(scratch: Path, older: float) -> None:
    for folder in scratch.glob("*"):
        if time.time() - folder.stat().st_mtime >= older:
            shutil.rmtree(folder, ignore_errors=True)


def _guard(settings: Settings) -> Guard:
    return Guard(settings.database_url, settings.executor_id, settings.queues)


def _gauges(service: Service) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    stored = sum(service.metadata.keys.usage(tenant.name).bytes for tenant in service.metadata.keys.tenants())
    return {
        "graphpass_queue_length": {(queue,): count for queue, count in service.dispatcher.queue_lengths().items()},
        "graphpass_jobs_known": {(kind, state): n for (kind, state), n in service.metadata.jobs.counts().items()},
        "graphpass_stored_bytes": {(): stored},
    }
