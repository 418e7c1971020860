"""Convert and evaluate for many time-steps, codings and methods."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.datasets.dataset import Dataset
from graphpass.errors import OptionError
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.evaluation.results import Evaluation
from graphpass.evaluation.shards import EvaluationShard, merge
from graphpass.graph.model import Source
from graphpass.maths.neuron import levels_of
from graphpass.network import Network, prepare, require_coverage
from graphpass.progress import Progress, silent
from graphpass.series import series
from graphpass.sites.sites import Selection


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
    """The options with every method, coding and T, in this order.

    Raises OptionError where one makes no sense, or stands twice in its list.
    """
    for name, given in (("time_steps", time_steps), ("coding", codings), ("method", methods)):
        if len(set(given)) < len(given):
            raise OptionError(f"{name} {', '.join(map(str, given))}: one is named twice", "name each once", name)
    return [
        replace(options, time_steps=steps, coding=coding, method=method)
        for method in methods
        for coding in codings
        for steps in time_steps
    ]


def running_order(wanted: Sequence[CalibrationOptions]) -> list[int]:
    """Places of conversions in the order in which a series makes them: those with equal plans and baselines meet."""

    def of(place: int) -> tuple[int, str, str]:
        options = wanted[place]
        return levels_of(options.time_steps, options.coding), options.method, options.coding

    return sorted(range(len(wanted)), key=of)


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
    cache: str | Path | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """A row for every method, coding and T, in this order.

    model: a source, or a prepared network, which holds its own selection. cache: a folder whose results are used and
    kept; otherwise nothing is written.
    Raises OptionError before the first conversion when any combination makes no sense.
    """
    network = model if isinstance(model, Network) else prepare(model, selection)
    require_coverage(network, allow_partial)
    wanted = combinations(options or CalibrationOptions(), time_steps, codings, methods)
    rows: dict[int, Row] = {}
    with series(network, calibration, data, wanted[0], evaluation, cache) as conversions:
        for number, place in enumerate(running_order(wanted)):
            progress("conversions", number, len(wanted))
            rows[place] = row_of(conversions.part(wanted[place], progress))
    progress("conversions", len(wanted), len(wanted))
    return [rows[place] for place in range(len(wanted))]
