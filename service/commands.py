"""`graphpass serve` and `graphpass worker`: found by graphpass/cli/app.py as an entry point, imported when they run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from graphpass.options.values import typed, whole_of
from service.extra import needed

Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the database, the blobs and scratch files.", show_default=False),
]
MOST_PORT = 65535


def _port(value: Any) -> int:
    number = whole_of(value)
    if not 0 <= number <= MOST_PORT:
        raise ValueError(f"{number} is no port")
    return number


def _option_of_port(name: str, about: str) -> Any:
    read = typed(name, _port, f"a whole number of 0 to {MOST_PORT}")
    return typer.Option(name, help=about, show_default=False, min=0, max=MOST_PORT, parser=read)


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(worker)


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.", show_default=False)
    ] = None,
    port: Annotated[int | None, _option_of_port("--port", "Port. Default 8000; 0 takes a free one.")] = None,
    data: Data = None,
) -> None:
    """Serve the API and the page, and run jobs. Prints a link with a fresh key. Settings: docs/service.md."""
    with needed():
        from service import serving
        from service.settings import load_settings
    serving.serve(load_settings(host=host, port=port, data_dir=data))


def worker(
    queues: Annotated[
        str | None,
        typer.Option(help="Queues to work on, separated by commas: convert, shards, gpu.", show_default=False),
    ] = None,
    data: Data = None,
    metrics_port: Annotated[
        int, _option_of_port("--metrics-port", "Serve metrics for Prometheus on this port. Default 0: do not.")
    ] = 0,
) -> None:
    """Run jobs for processes that serve the API, with the same GRAPHPASS_DATABASE_URL and the same store."""
    with needed():
        from service import serving
        from service.settings import load_settings
    serving.work(load_settings(queues=queues, data_dir=data), metrics_port)
