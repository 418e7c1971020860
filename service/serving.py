"""The two kinds of process: one that serves (and works, unless it has no queues), and one that only works."""

import os
import signal
import socket
import sys
import threading
from functools import partial
from types import FrameType

import uvicorn
from prometheus_client import start_http_server

from service import logs
from service.app import create_app, open_process
from service.auth import create_key
from service.connections.admission import Admission
from service.connections.answers import raw_answer
from service.connections.bounds import bounds_of, raise_limit_of_files
from service.connections.listener import Listener
from service.connections.protocol import GuardedProtocol
from service.errors import SettingsError
from service.jobs.engine import is_postgres
from service.problems import ProblemError
from service.settings import Settings, unknown_variables

TENANT, LABEL = "local", "serve"  # whose key the link has
BACKLOG = (
    4096  # connections that wait to be taken; where there is no room the caller tries again after a second, then three
)
HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where this machine reaches a process that listens on all addresses
SWITCH_SECONDS = (
    0.001  # after which a thread that computes lets another one: Python's five are a wait at every statement
)
DRAIN_SECONDS = 3  # for answers that are under way at the end; event streams are cut, and resumed by their readers


def serve(settings: Settings) -> None:
    """Serve, and work on the queues of the settings, until a signal comes."""
    sys.setswitchinterval(SWITCH_SECONDS)
    logs.set_up(settings.log_level)
    bounds = bounds_of(settings, raise_limit_of_files())
    listening = _listen(settings)
    process = open_process(settings, bounds)
    _warn()
    app = create_app(process, bounds)
    admission = Admission(bounds, process.service.metrics)
    listening.turn_away = admission.turn_away
    config = uvicorn.Config(
        app,
        http=partial(GuardedProtocol, admission=admission),  # type: ignore[arg-type]
        ws="none",
        loop="asyncio",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=bounds.idle_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=DRAIN_SECONDS,
        proxy_headers=bool(bounds.trusted),
        forwarded_allow_ips=[str(network) for network in bounds.trusted],
    )
    host, port = listening.getsockname()[:2]
    host = HERE.get(host, host)
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    if is_postgres(settings):
        print(f"graphpass serves {where}", flush=True)
    else:
        _, key = create_key(process.service.metadata, TENANT, LABEL, alone=True)
        print(f"graphpass serves {where}#key={key}", flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them once more when it has ended
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])
    _leave(0)


def work(settings: Settings, metrics_port: int = 0) -> None:
    """Work on queues until a signal comes."""
    logs.set_up(settings.log_level)
    if not is_postgres(settings):
        raise SettingsError(
            "a worker needs a database that it shares with the API",
            "set GRAPHPASS_DATABASE_URL=postgresql://…; on one machine `graphpass serve` runs jobs by itself",
        )
    if not settings.queues:
        raise SettingsError("a worker without queues does nothing", "name some: --queues convert,shards")
    process = open_process(settings, bounds_of(settings, raise_limit_of_files()))
    _warn()
    if metrics_port:
        start_http_server(metrics_port, settings.host, registry=process.service.metrics.registry)
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(f"graphpass works on {', '.join(settings.queues)} as {settings.executor_id}", flush=True)
    ended.wait()
    process.close()
    _leave(0)


def _listen(settings: Settings) -> Listener:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # without TCP's name asyncio leaves Nagle on
    listening.busy = raw_answer(ProblemError("unavailable", "no connection is free", "try again in a while"))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
            "choose another with --port or GRAPHPASS_PORT; 0 takes one that is free",
        ) from error
    listening.listen(BACKLOG)
    return listening


def _warn() -> None:
    import logging

    for text in unknown_variables(os.environ):
        logging.getLogger("service").warning("%s", text)


def _leave(status: int) -> None:
    """End now: threads that still wait for the database or a child must not hold the process up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
