"""The command line. Errors are one line on stderr and an exit status.

0 done; 2 an error (`graphpass: error: what; remedy`); 3 a site that should have been converted was not, or a search
found nothing; 130 Ctrl+C; 143 and 129 SIGTERM and SIGHUP.
"""

import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import typer

from graphpass.cli import checks, conversions, plots
from graphpass.cli.endings import end_in_order
from graphpass.cli.terminal import err, out
from graphpass.errors import GraphpassError, says_no_memory
from graphpass.files import NO_ROOM

app = typer.Typer(
    name="graphpass",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
conversions.add(app)
checks.add(app)
plots.add(app)
UsageError: Any = typer.BadParameter.__base__  # what typer raises for wrong arguments, which has no public name

GRAPHS = frozenset(
    "inspect convert evaluate sweep verify inline card plot".split()
)  # commands that load onnx; `serve` must not

INTERRUPTED = 130  # the exit status after Ctrl+C, as of shells
UNWRITTEN = (*NO_ROOM, errno.EIO)  # a disk that is full or broken
NOWHERE = "No usable temporary directory"  # as tempfile says it
SHORT = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)  # what the system has no more of


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Turn an ONNX network into a spiking network of parallel spiking neurons, without training."""
    if show_version:
        out.print(f"graphpass {version('graphpass')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif context.invoked_subcommand in GRAPHS:
        from onnx_graphsurgeon.logger import G_LOGGER

        end_in_order()
        G_LOGGER.severity = G_LOGGER.ERROR


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    err.print(f"graphpass: warning: {message}", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status. The entry points graphpass.commands add commands."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")  # of what its encoding lacks, as Latin-1 lacks dashes
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = _warn
        try:
            for command in entry_points(group="graphpass.commands"):
                command.load()(app)
            status = app(args=arguments, prog_name="graphpass", standalone_mode=False)
        except GraphpassError as error:
            _fail(str(error), error.status)
        except UsageError as error:
            what = " ".join(error.format_message().split())  # which lists choices in lines
            asked = "graphpass" if error.ctx is None else error.ctx.command_path
            _fail(f"{what.rstrip('.')}; see `{asked} --help`", 2)
        except (KeyboardInterrupt, typer.Abort):
            _fail("interrupted", INTERRUPTED)
        except Exception as error:
            if not (message := _of_the_machine(error)):
                raise
            _fail(message, 2)
    if status == INTERRUPTED:  # as some versions of typer tell it
        _fail("interrupted", INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _of_the_machine(error: Exception) -> str:
    """An error that is no fault of graphpass, in one line with its remedy; "" for all others."""
    number, file = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
    if number in SHORT:
        return f"the system has no more of what this needs ({os.strerror(number)}); raise its limits (ulimit -a)"
    if isinstance(error, MemoryError) or says_no_memory(str(error)):
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"there is not enough memory ({reason}); give fewer samples or less --memory-budget, or take more memory"
    if number in UNWRITTEN and file is None:
        return f"what it prints cannot be written ({os.strerror(number)}); choose another place"
    if number in UNWRITTEN:
        return (
            f"{file} cannot be written ({os.strerror(number)}); make room there, or name another folder for temporary "
            "files with TMPDIR"
        )
    if number == errno.ENOENT and NOWHERE in str(error):
        return "no folder for temporary files can be written to; name one with TMPDIR"
    return ""


def _fail(message: str, status: int) -> None:
    err.print(f"graphpass: error: {message}", soft_wrap=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
