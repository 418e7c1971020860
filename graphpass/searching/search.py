"""The cheapest spiking network of those that lose no more than is allowed.

    two halves > trials, as the course of the search says > convert > evaluate on the other half

Every setting is converted and judged on one half of the evaluation data; what was chosen is then evaluated on the other
half. Each trial follows from those before it alone (searching/course.py), and they may be kept (series.py), so that a
search goes on where it was interrupted.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import Conversion
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.halves import halves
from graphpass.evaluation.drop import drop_of
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate_pair, open_pair
from graphpass.network import Network, require_coverage, selected, with_identity_sites
from graphpass.options.table import OPTIONS
from graphpass.progress import Progress, silent
from graphpass.searching.course import Course
from graphpass.searching.trials import Found, Goal, Trial
from graphpass.series import series


def search(
    network: Network,
    calibration: Dataset,
    data: Dataset,
    goal: Goal,
    *,
    form: str = OPTIONS["form"].default,
    precision: str = OPTIONS["precision"].default,
    target: str = OPTIONS["target"].default,
    allow_partial: bool = False,
    options: CalibrationOptions | None = None,
    evaluation: EvaluationSettings | None = None,
    cache: str | Path | None = None,
    tried: Callable[[Trial], None] = lambda trial: None,
    progress: Progress = silent,
) -> Found:
    """The cheapest network within the goal, converted. tried: is called with each trial.

    Raises what conversions and evaluations raise, and OptionError for a metric that a limit cannot be set on.
    """
    network = searched(network, allow_partial)
    judged, rest = halves(data)
    options, settings = options or CalibrationOptions(), evaluation or EvaluationSettings()
    with opened(network, calibration, judged, goal, form, target, options, settings, cache, progress) as course:
        trials: list[Trial] = []
        while (step := course.next(trials)) is not None:
            trials.append(course.trial(*step))
            tried(trials[-1])
        found = course.ended(trials)
        if found.chosen is None:
            return found
        made = course.converted(trials[found.chosen].setting, form, precision, target, allow_partial)
    return reported(found, made, rest, settings, progress)


def searched(network: Network, allow_partial: bool) -> Network:
    """The network whose sites are searched: with identity sites where there are no others.

    Raises UnsupportedModelError and CoverageError as conversions do.
    """
    if not network.coverage.sites and with_identity_sites(network):
        network = selected(network, replace(network.selection, identity_sites=True))
    require_coverage(network, allow_partial)
    return network


@contextmanager
def opened(
    network: Network,
    calibration: Dataset,
    judged: Dataset,
    goal: Goal,
    form: str,
    target: str,
    options: CalibrationOptions,
    evaluation: EvaluationSettings,
    cache: str | Path | None = None,
    progress: Progress = silent,
) -> Iterator[Course]:
    """The course of a search. judged: the half of the data that settings are judged on."""
    extras = ("latency",) if goal.minimise == "latency" else ()
    settings = replace(evaluation, others=("snn",), limit=None, extras=extras)
    kept = None if goal.minimise == "latency" else cache  # times are of this machine, now
    with series(network, calibration, judged, options, settings, kept) as conversions:
        yield Course(conversions, goal, options, form, target, progress)


def reported(
    found: Found, made: Conversion, rest: Dataset, evaluation: EvaluationSettings, progress: Progress = silent
) -> Found:
    """The search with its network, evaluated on the other half of the data."""
    network, settings = made.network, replace(evaluation, limit=None)
    result = evaluate_pair(
        open_pair(network.source, made.proto, settings, normalised=network.graph), rest, progress=progress
    )
    return replace(found, conversion=made, evaluation=result, drop=drop_of(result, evaluation.metrics.first))
