"""Plans and results in files."""

from collections.abc import Sequence
from pathlib import Path

from graphpass.errors import OptionError
from graphpass.evaluation.results import Evaluation
from graphpass.graph import plan as plans
from graphpass.graph.plan import Plan
from graphpass.inputs import PathLike
from graphpass.report.files import write_json, write_report
from graphpass.report.pages import evaluation_report, search_report, sweep_report
from graphpass.searching.trials import Found
from graphpass.sweeps import Row

Result = Evaluation | Found | Sequence[Row]


def load_plan(path: PathLike) -> Plan:
    """A plan that `save_plan` or `graphpass convert --plan-out` wrote.

    path: the JSON file; its .npz lies beside it. Raises PlanError, which names what is wrong and where.
    """
    return plans.load_plan(Path(path))


def save_plan(plan: Plan, path: PathLike) -> None:
    """Write a plan, such as `conversion.plan`, as JSON that can be edited; changed weights go to an .npz beside it.

    path: of the JSON file.
    Raises PlanError where that is not possible, and OptionError where `plan` is not a plan.
    """
    if not isinstance(plan, Plan):
        raise OptionError(f"a plan cannot be of type {type(plan).__name__}", "give conversion.plan")
    plans.save_plan(plan, Path(path))


def save_report(found: Result, path: PathLike) -> None:
    """Write a result as a self-contained HTML page.

    found: what `evaluate`, `sweep` or `search` returned. path: of the page. Raises OptionError, also for a search that
    found no network.
    """
    match found:
        case Evaluation():
            page = evaluation_report(found)
        case Found():
            page = search_report(found)
        case _:
            page = sweep_report(found)
    write_report(page, Path(path))


def save_json(found: Result, path: PathLike) -> None:
    """Write a result as the JSON of docs/formats.md.

    found: what `evaluate`, `sweep` or `search` returned. path: of the JSON file. Raises OptionError.
    """
    whole = found.to_json() if isinstance(found, Evaluation | Found) else [row.to_json() for row in found]
    write_json(whole, Path(path))
