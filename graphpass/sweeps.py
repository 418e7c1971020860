"""Convert and evaluate for many time-steps, codings and methods."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import make_plan, spiking_model
from graphpass.datasets.dataset import Dataset
from graphpass.evaluation.evaluate import EvaluationSettings, open_pair, whole_part
from graphpass.evaluation.results import Evaluation
from graphpass.evaluation.shards import EvaluationShard, merge
from graphpass.graph.model import Source
from graphpass.network import Network, prepare, require_coverage
from graphpass.progress import Progress, silent
from graphpass.sites.sites import Selection
from graphpass.verification.source import check_source


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


def combinations(
    options: CalibrationOptions, time_steps: Sequence[int], codings: Sequence[str], methods: Sequence[str]
) -> list[CalibrationOptions]:
    """The options with every method, coding and T, in this order. Raises OptionError where one makes no sense."""
    return [
        replace(options, time_steps=steps, coding=coding, method=method)
        for method in methods
        for coding in codings
        for steps in time_steps
    ]


def part_of(
    network: Network,
    calibration: Dataset,
    data: Dataset,
    options: CalibrationOptions,
    evaluation: EvaluationSettings | None = None,
    progress: Progress = silent,
) -> EvaluationShard:
    """One conversion and its evaluation, as a part that can be written as text. The network is not changed."""
    check_source(network, calibration, options.threads)
    plan = make_plan(network, calibration, options, progress)
    proto = spiking_model(network, plan, "folded")
    return whole_part(open_pair(network.source, proto, evaluation), data, progress=progress)


def row_of(part: EvaluationShard) -> Row:
    """The row of a part that `part_of` returned."""
    found = merge([part])
    made = found.conversion
    return Row(made.time_steps, made.coding, made.levels, made.method, found)


def sweep(
    model: Source | Network,
    calibration: Dataset,
    data: Dataset,
    *,
    time_steps: Sequence[int],
    codings: Sequence[str],
    methods: Sequence[str],
    selection: Selection | None = None,
    allow_partial: bool = False,
    options: CalibrationOptions | None = None,
    evaluation: EvaluationSettings | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """A row for every method, coding and T, in this order. Nothing is written.

    model: a source, or a prepared network, which holds its own selection.
    Raises OptionError before the first conversion when any combination makes no sense.
    """
    network = model if isinstance(model, Network) else prepare(model, selection)
    require_coverage(network, allow_partial)
    wanted = combinations(options or CalibrationOptions(), time_steps, codings, methods)
    rows = []
    for number, settings in enumerate(wanted):
        progress("conversions", number, len(wanted))
        rows.append(row_of(part_of(network, calibration, data, settings, evaluation, progress)))
    progress("conversions", len(wanted), len(wanted))
    return rows
