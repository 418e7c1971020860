"""`graphpass convert --max-drop`: search the cheapest network within a loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphpass.cache import Cache
from graphpass.cli.terminal import out, print_evaluation, progress_bars
from graphpass.errors import DataError, GoalError, OptionError


def require_calibration(calibration: str | None) -> str:
    """The calibration data. Raises OptionError without any."""
    if calibration is None:
        raise OptionError(
            "--max-drop needs --calibration: it calibrates every trial", "give it, or leave out --max-drop"
        )
    return calibration


def search(
    ann: str,
    snn: Path,
    calibration: str | None,
    evaluation: str,
    options: Mapping[str, Any],
    plan_out: Path | None,
    as_json: Path | None,
    report: Path | None,
) -> None:
    """Print each trial as it comes, write what was chosen. Raises GoalError where nothing is good enough.

    Without --cache, what each step found is kept beside the target until the search has ended.
    """
    calibration = require_calibration(calibration)
    from graphpass import api
    from graphpass.report.tables import search_table
    from graphpass.report.trials import conclusion, remedy

    own = snn.with_name(f"{snn.name}.search")
    cache = options.get("cache") or own

    def forget() -> None:
        if cache == own and own.is_dir():
            Cache(own).discard()

    try:
        found = _found(api, ann, snn, calibration, evaluation, {**options, "cache": cache})
    except (DataError, OptionError):  # nothing to go on with
        forget()
        raise
    out.print(search_table(found))
    if as_json:
        api.save_json(found, as_json)
    forget()
    if report:
        api.save_report(found, report)
        out.print(f"report: {report}")
    if found.conversion is None or found.evaluation is None:
        raise GoalError(conclusion(found), remedy(found))
    out.print(f"{snn}: {conclusion(found)}", soft_wrap=True)
    print_evaluation(found.evaluation)
    if plan_out:
        api.save_plan(found.conversion.plan, plan_out)
        out.print(f"plan: {plan_out}")


def _found(api: Any, ann: str, snn: Path, calibration: str, evaluation: str, options: Mapping[str, Any]) -> Any:
    with progress_bars() as progress:
        return api.search(ann, calibration, evaluation, snn, **options, allow_code=True, progress=progress)
