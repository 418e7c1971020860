"""Evaluations as tables for the terminal, whose console shows the texts as they are: they may be names in files."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.table import Table

from graphpass.evaluation.results import Evaluation
from graphpass.report.cells import Cells, energy_lines, headline, lines, settings
from graphpass.report.trials import aim, trial_lines
from graphpass.searching.trials import Found
from graphpass.sweeps import Row
from graphpass.wording import counted

MANY_COLUMNS = 9  # more are drawn without lines, which take a third of a terminal of 80 columns


def summary_table(evaluation: Evaluation) -> Table:
    """ANN, SNN and baseline side by side, for the terminal."""
    header, rows = headline(evaluation)
    return rich_table(header, rows, f"{counted(evaluation.samples, 'sample')}, {settings(evaluation)}")


def energy_table(evaluation: Evaluation) -> Table:
    """What the energy of ANN, quantised ANN and SNN is spent on, for the terminal."""
    return rich_table(*energy_lines(evaluation), f"energy with memory traffic, model {evaluation.energy.model}")


def sweep_table(rows: Sequence[Row]) -> Table:
    """A line for each conversion, for the terminal."""
    header, cells = lines(rows)
    samples = counted(rows[0].evaluation.samples, "sample") if rows else "nothing converted"
    return rich_table(header, cells, samples)


def search_table(found: Found) -> Table:
    """A line for each trial of a search, for the terminal."""
    header, cells = trial_lines(found.trials, found.chosen)
    return rich_table(header, cells, f"{counted(len(cells), 'trial')}: {aim(found)}")


def rich_table(header: Cells, rows: Iterable[Cells], title: str) -> Table:
    """Cells as a table for the terminal. In a narrow one, cells go on in the next line: nothing is cut."""
    table = Table(title=title)
    if len(header) > MANY_COLUMNS:
        table.box, table.padding, table.pad_edge = SIMPLE, (0, 1, 0, 0), False
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
