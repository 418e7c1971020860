"""`graphpass serve` and `graphpass worker`: found by graphpass/cli/app.py as an entry point, imported when they run."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.extra import needed

Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the database, the blobs and scratch files.", show_default=False),
]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(worker)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="Port; 8000, and 0 takes a free one.", show_default=False)] = None,
    data: Data = None,
) -> None:
    """Serve the API and the page, and run jobs; prints a link with a fresh key. Settings: docs/service.md."""
    _become("serve", host=host, port=port, data_dir=data)


def worker(
    queues: Annotated[
        str | None, typer.Option(help="Queues to work on: convert, shards, gpu; with commas.", show_default=False)
    ] = None,
    data: Data = None,
    metrics_port: Annotated[int, typer.Option(help="Serve metrics for Prometheus on this port; 0: do not.")] = 0,
) -> None:
    """Run jobs for processes that serve the API: they share GRAPHPASS_DATABASE_URL and the store."""
    _become("worker", str(metrics_port), queues=queues, data_dir=data)


def _become(kind: str, *arguments: str, **settings: object) -> NoReturn:
    """Go on as service/__main__.py: the command line's modules would stay in memory, 4 MiB, as long as it serves."""
    with needed():
        from service.settings import PREFIX, load_settings

    load_settings(**settings)
    given = {f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    sys.stdout.flush()
    command = (sys.executable, "-P", "-m", "service", kind, *arguments)
    os.execve(sys.executable, command, os.environ | given)
