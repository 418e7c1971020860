"""`graphpass keys create TENANT | list | revoke ID`: found by graphpass/cli.py as an entry point."""

import typer


def add(app: typer.Typer) -> None:
    """Add the commands."""
