"""`graphpass keys create TENANT | list | revoke ID`: found by graphpass/cli/app.py as an entry point."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.extra import needed

if TYPE_CHECKING:
    from service.storage.metadata import Metadata

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder, as of `graphpass serve`.", show_default=False),
]


@contextmanager
def _opened(data: Path | None) -> "Iterator[Metadata]":
    with needed():  # imported when a command runs: every other command starts without a database
        from service.settings import load_settings
        from service.storage.metadata import opened
    with opened(load_settings(data_dir=data)) as metadata:
        yield metadata


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys)


keys = typer.Typer(name="keys", rich_markup_mode=None)


@keys.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Keys of the service's tenants."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@keys.command()
def create(
    tenant: Annotated[str, typer.Argument(help="Whose key it is; made with its first key.", show_default=False)],
    label: Annotated[str, typer.Option(help="What the key is for, as `list` shows it.")] = "",
    data: Data = None,
) -> None:
    """Make a key and print only the key on standard output. It cannot be shown again."""
    with _opened(data) as metadata:
        from service.auth import create_key

        typer.echo(create_key(metadata, tenant, label)[1])


@keys.command("list")
def show(data: Data = None) -> None:
    """List all keys: id, tenant, when it was made, whether it was revoked, label."""
    with _opened(data) as metadata:
        for key in metadata.keys.list():
            state = f"revoked {key.revoked:%Y-%m-%d}" if key.revoked else "valid"
            typer.echo(f"{key.id}  {key.tenant}  {key.created:%Y-%m-%d %H:%M}Z  {state}  {key.label}".rstrip())


@keys.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, key_…, from `list`.", show_default=False)],
    data: Data = None,
) -> None:
    """Revoke a key: requests with it are refused at once."""
    with _opened(data) as metadata:
        key = metadata.keys.revoke(id)
        typer.echo(f"revoked {key.id} of {key.tenant}")
