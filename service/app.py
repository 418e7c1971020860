"""Wiring: what a process opens, in which order, and the app that it serves."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import Scope

from service.api import (
    assets,
    error_handlers,
    events,
    examples,
    jobs,
    middleware,
    objects,
    operations,
    results,
    uploads,
)
from service.api.assets import PAGE
from service.api.callers import Callers
from service.api.calls import Calls
from service.api.context import Service
from service.api.openapi import complete
from service.api.turns import Slowness, Turns
from service.auth import RateLimit
from service.connections.bounds import Bounds
from service.errors import SettingsError, StorageUnavailableError
from service.jobs import engine
from service.jobs.dispatch import Dispatcher
from service.jobs.guard import Guard
from service.jobs.housekeeping import JOBS_EVERY, RENEW_EVERY, SWEEP_EVERY, Housekeeper, Reconciler, take_over, tidy
from service.jobs.places import Places
from service.jobs.presence import PlaceLocks, SingleProcess
from service.jobs.queues import Queues
from service.jobs.rooms import Rooms, clear_scratch
from service.jobs.scheduler import EVERY_SHARED, Scheduler
from service.metrics import ProcessMetrics
from service.settings import Settings
from service.storage import garbage
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata, make_data_folder, open_metadata
from service.storage.records import JobKind
from service.storage.stores import open_blobs

SQLITE_THREADS = 4  # for requests: each takes a connection and memory, and more do not read a local file faster
READING = 8  # threads that read from the store for downloads
PIECES = 4  # of resumable uploads that are in memory, each of some 8 MiB
STORING = 32  # threads that write bodies and ask the engine: each may wait for the store


@dataclass(frozen=True)
class Process:
    """What one process has open. `close` ends it; jobs that are running go on after the next start."""

    service: Service
    stack: ExitStack

    def close(self) -> None:
        """Close everything, in reverse order."""
        self.stack.close()


def open_process(settings: Settings, bounds: Bounds) -> Process:
    """Open storage and engine, and work on the queues of the settings. Errors say what to do about it."""
    make_data_folder(settings.data_dir)
    with ExitStack() as stack:
        shared = engine.is_postgres(settings)
        if not shared:
            stack.callback(os.close, _lock(settings.data_dir))
        clear_scratch(settings.data_dir / "scratch")
        metadata = open_metadata(settings)
        stack.callback(metadata.close)
        blobs = open_blobs(settings)
        blobs.probe()
        if not shared:  # whatever was being written, its process is gone
            garbage.abandon(metadata, blobs, datetime.now(UTC))
        garbage.adopt(metadata, blobs)
        metrics = ProcessMetrics()
        engine.migrate(settings)
        places = Places(settings.workers)
        rooms = Rooms(settings.data_dir / "scratch", places)
        stack.callback(rooms.close)
        jobs = None if shared else engine.sqlite_engine(settings)
        queues = Queues(jobs or metadata.database.engine, settings.executor_id, settings.queues, settings.quota_running)
        if settings.queues:
            from service.jobs.work import Work

            work = Work(settings, metadata, blobs, metrics, places, rooms, queues)
            stack.callback(work.leave)
            guard = _guard(settings) if shared else None
            if guard:
                guard.lock_own()
                stack.callback(guard.stop)
            engine.start(settings, None if shared else engine.sqlite_engine(settings))
            stack.callback(engine.stop)
        dispatcher = Dispatcher(engine.client(settings, jobs))
        stack.callback(dispatcher.close)
        if settings.queues and guard:
            guard.watch(queues.owners, lambda owner: take_over(owner, metadata, queues))
            guard.start()
        elif settings.queues:
            for owner in queues.owners() - {settings.executor_id}:  # this process, under another name before
                take_over(owner, metadata, queues)
        if shared and settings.queues:
            scheduler = Scheduler(places, queues, PlaceLocks(metadata.database.engine), EVERY_SHARED)
        else:
            scheduler = Scheduler(places, queues if settings.queues else None, SingleProcess())
        scheduler.start()
        stack.callback(scheduler.stop)
        reconciler = Reconciler(metadata, dispatcher, queues, settings)
        housekeeper = Housekeeper(*_chores(settings, metadata, blobs, reconciler))
        housekeeper.start()
        stack.callback(housekeeper.stop)
        rate, calls = RateLimit(settings.rate_per_minute), Calls(bounds, metadata.keys.valid)
        service = Service(
            settings,
            metadata,
            blobs,
            dispatcher,
            queues,
            rate,
            metrics,
            places,
            rooms,
            calls,
            CapacityLimiter(READING),
            CapacityLimiter(PIECES),
        )
        metrics.watch(lambda: _gauges(service))
        return Process(service, stack.pop_all())


def routes(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None) -> FastAPI:
    """The routes and their OpenAPI document, on nothing yet."""
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
    for router in ROUTERS:
        app.include_router(router)
    complete(app)
    return app


def create_app(process: Process, bounds: Bounds) -> FastAPI:
    """The routes on what `open_process` opened; the process is closed when the app shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if process.service.metadata.database.is_sqlite:
            current_default_thread_limiter().total_tokens = SQLITE_THREADS
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(STORING, "asyncio"))
        watching = asyncio.create_task(process.service.calls.watch())
        yield
        watching.cancel()
        await asyncio.to_thread(process.close)

    app = routes(lifespan)
    app.state.service = process.service
    error_handlers.install(app)
    app.add_middleware(
        middleware.ServiceMiddleware,
        metrics=process.service.metrics,
        callers=Callers(process.service.metadata, process.service.rate),
        calls=process.service.calls,
        turns=Turns(bounds.requests_per_tenant),
        slowness=Slowness(process.service.settings.rate_per_minute),
    )
    if PAGE.is_dir():
        app.router.routes.append(PageMount("/", PageFiles(directory=PAGE, html=True), name="page"))
    return app


class PageMount(Mount):
    """Serves the paths that no other route has.

    A path of the API is left to the API, which refuses wrong methods (405).
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Mount."""
        return (Match.NONE, {}) if scope["path"].startswith("/v1/") else super().matches(scope)


class PageFiles(StaticFiles):
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
    jobs.rankings,
    jobs.searches,
    jobs.sweeps,
    *(module.routes(kind) for kind in get_args(JobKind) for module in (events, results)),
    jobs.every,
    examples.router,
    operations.router,
    assets.router,
)


def _lock(folder: Path) -> int:
    """Lock a data folder for this process, as long as it lives: two processes would take up each other's jobs."""
    try:
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


def _guard(settings: Settings) -> Guard:
    return Guard(settings.database_url, settings.executor_id, settings.queues)


def _chores(
    settings: Settings, metadata: Metadata, blobs: Blobs, reconciler: Reconciler
) -> tuple[tuple[Callable[[], object], float], ...]:
    """The chores of the housekeeper, each with the seconds between two runs."""
    here = ((reconciler.stranded, JOBS_EVERY),) if settings.queues else ()
    often = ((metadata.ledger.renew, RENEW_EVERY), (reconciler.jobs, JOBS_EVERY), (reconciler.workflows, JOBS_EVERY))
    sweep, scratch = partial(tidy, metadata, blobs, settings), partial(clear_scratch, settings.data_dir / "scratch")
    rarely = ((sweep, SWEEP_EVERY), (scratch, SWEEP_EVERY), (reconciler.forget, SWEEP_EVERY))
    return (*often, *here, *rarely)


def _gauges(service: Service) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    stored = sum(service.metadata.keys.usage(tenant.name).bytes for tenant in service.metadata.keys.tenants())
    return {
        "graphpass_queue_length": {(queue,): count for queue, count in service.queues.lengths().items()},
        "graphpass_jobs_known": {(kind, state): n for (kind, state), n in service.metadata.jobs.counts().items()},
        "graphpass_stored_bytes": {(): stored},
    }
