"""Convert and evaluate for many time-steps, codings and methods."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphpass.calibrate import Options, Progress
from graphpass.convert import make_plan, metadata, prepare, require_coverage
from graphpass.datasets.dataset import Dataset
from graphpass.evaluate import Options as EvaluationOptions
from graphpass.evaluate import evaluate
from graphpass.evaluation import Evaluation
from graphpass.graph.emit import emit
from graphpass.graph.model import Source
from graphpass.graph.sites import Selection


@dataclass(frozen=True)
class Row:
    """One conversion of a sweep and its evaluation."""

    time_steps: int
    coding: str
    levels: int
    method: str
    evaluation: Evaluation

    def to_json(self) -> dict[str, Any]:
        settings = {key: getattr(self, key) for key in ("time_steps", "coding", "levels", "method")}
        return {**settings, "evaluation": self.evaluation.to_json()}


def sweep(
    source: Source,
    calibration: Dataset,
    data: Dataset,
    *,
    time_steps: Sequence[int],
    codings: Sequence[str] = ("rate",),
    methods: Sequence[str] = ("optimal",),
    selection: Selection | None = None,
    allow_partial: bool = False,
    options: Options | None = None,
    evaluation: EvaluationOptions | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[Row]:
    """A row for every method, coding and T, in this order. Nothing is written.

    Raises OptionError before the first conversion when any combination makes no sense.
    """
    network = prepare(source, selection)
    require_coverage(network, allow_partial)
    start = options or Options()
    wanted = [
        replace(start, time_steps=steps, coding=coding, method=method)
        for method in methods
        for coding in codings
        for steps in time_steps
    ]
    rows = []
    for number, settings in enumerate(wanted):
        progress("conversions", number, len(wanted))
        plan = make_plan(network, calibration, settings, progress)
        proto = emit(network.graph.copy(), plan, "folded", metadata(plan, "folded"))
        found = evaluate(source, proto, data, evaluation, progress=progress)
        rows.append(Row(plan.time_steps, plan.coding, plan.levels, plan.method, found))
    progress("conversions", len(wanted), len(wanted))
    return rows
