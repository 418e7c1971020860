"""Plans and results in files."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from graphpass.errors import OptionError, wrong_type
from graphpass.evaluation.results import Evaluation
from graphpass.files import path_to, require_targets, write_text
from graphpass.graph import plan as plans
from graphpass.graph.plan import Plan
from graphpass.inputs import Figures, PathLike, SpikingModel, converted_of, data_sources, figures_of, model_sources
from graphpass.report.files import write_json, write_report
from graphpass.report.pages import evaluation_report, search_report, sweep_report
from graphpass.searching.trials import Found
from graphpass.sweeps import Row

Result = Evaluation | Found | Sequence[Row]


def load_plan(path: PathLike) -> Plan:
    """A plan that `save_plan` or `graphpass convert --plan-out` wrote.

    path: the JSON file; its .npz lies beside it. Raises PlanError, which names what is wrong and where.
    """
    return plans.load_plan(path_to(path))


def save_plan(plan: Plan, path: PathLike) -> None:
    """Write a plan, such as `conversion.plan`, as JSON that can be edited; changed weights go to an .npz beside it.

    path: of the JSON file.
    Raises PlanError where that is not possible, and OptionError where `plan` is not a plan.
    """
    if not isinstance(plan, Plan):
        raise wrong_type("a plan", plan, "conversion.plan")
    plans.save_plan(plan, path_to(path))


def save_report(found: Result, path: PathLike) -> None:
    """Write a result as a self-contained HTML page.

    found: what `evaluate`, `sweep` or `search` returned. path: of the page. Raises OptionError.
    """
    match found:
        case Evaluation():
            page = evaluation_report(found)
        case Found():
            page = search_report(found)
        case _:
            page = sweep_report(_rows(found))
    write_report(page, path_to(path))


def card(snn: SpikingModel, figures: Figures | None = None, output: PathLike | None = None) -> str:
    """The model card of a converted network in Markdown: settings, digests, figures, sites, limits.

    snn: as for `evaluate`. figures: what `evaluate` returned for it, or a file that `save_json` or the command line's
    `evaluate --json` wrote. output: a path to write the card to, if given. No name or text of a file becomes markup.
    Raises ModelError for a network that was not converted, DataError for figures that are not its own, and OptionError.
    """
    from graphpass.report.cards import model_card

    if output is not None:
        require_targets([(path_to(output), ())], [*model_sources(snn), *data_sources(figures)])
    proto, facts, digest = converted_of(snn)
    found = None if figures is None else figures_of(figures, facts, digest)
    name = Path(snn).name if isinstance(snn, str | os.PathLike) else proto.graph.name
    written = model_card(proto, facts, name, digest, found)
    if output is not None:
        write_text(written, path_to(output), OptionError)
    return written


def save_json(found: Result, path: PathLike) -> None:
    """Write a result as the JSON of docs/formats.md.

    found: what `evaluate`, `sweep` or `search` returned. path: of the JSON file. Raises OptionError.
    """
    whole = found.to_json() if isinstance(found, Evaluation | Found) else [row.to_json() for row in _rows(found)]
    write_json(whole, path_to(path))


def _rows(found: Any) -> list[Row]:
    """The rows of a sweep. Raises OptionError for anything else."""
    rows = list(found) if isinstance(found, Iterable) else [found]
    for each in rows or [found]:
        if not isinstance(each, Row):
            raise wrong_type("a result", each, "what evaluate, sweep or search returned")
    return rows
