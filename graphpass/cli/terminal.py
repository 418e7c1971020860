"""What commands draw on a terminal: progress bars and tables."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text


class Terminal(Console):
    """Prints texts as they are, each in a line: names of nodes and files hold no markup, and nothing that a terminal
    obeys.

    This holds for str, also in tables. What Rich is given as a `Text` is not looked at.
    """

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def on_broken_pipe(self) -> None:
        """Whoever reads has seen enough, as `head` has: nothing more is printed, but files are still written."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


out = Terminal()
err = Terminal(stderr=True)


def write(text: str) -> None:
    """Print a text as it is, for other programs to read."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        out.on_broken_pipe()


@dataclass(frozen=True)
class _Bar:
    """A progress callback that draws a bar with the time left, on a terminal only."""

    progress: Progress

    def __call__(self, what: str, done: int, total: int) -> None:
        shown = visible(what)
        task = next((task.id for task in self.progress.tasks if task.description == shown), None)
        if task is None:
            task = self.progress.add_task(shown, total=total)
        self.progress.update(task, completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[_Bar]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield _Bar(progress)


def print_left(left: Sequence[Any], what: str = "left analogue") -> None:
    if not left:
        return
    table = Table(name_column(what), "op", "because", title=f"{len(left)} {what}")
    for entry in left:
        table.add_row(entry.node, entry.op, entry.reason)
    out.print(table)


def print_evaluation(found: Any) -> None:
    """The figures of an evaluation, what its energy is spent on, and what there is to say about both."""
    from graphpass.report.tables import energy_table, summary_table

    out.print(summary_table(found))
    out.print(energy_table(found))
    print_verdict(found.energy.verdict, found.notes)


def print_verdict(verdict: str, notes: Sequence[str]) -> None:
    """Whether spikes pay, and the notes of an evaluation."""
    out.print(verdict, soft_wrap=True)
    for note in notes:
        out.print(f"note: {note}", soft_wrap=True)


def name_column(header: str) -> Column:
    """A column of names: they wrap, and are never cut."""
    return Column(header, overflow="fold")


def visible(text: str) -> str:
    r"""The text with escapes for all that is not printed, ends of lines too: a name cannot pass for a line of its own.

    >>> visible("a\x1b[31m\u202eb\n") == r"a\x1b[31m\u202eb\n"
    True
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def axis_text(axis: int | None) -> str:
    return "whole tensor" if axis is None else f"axis {axis}"
