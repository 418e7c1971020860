"""The cheapest spiking network of those that lose no more than is allowed.

    two halves > trials, as the course of the search says > convert > evaluate on the other half

Every setting is converted and judged on one half of the evaluation data; what was chosen is then evaluated on the other
half. Each trial follows from those before it alone (searching/course.py), and they may be kept (series.py), so that a
search goes on where it was interrupted.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.halves import halves
from graphpass.evaluation.drop import drop_of
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.network import Network, prepare, require_coverage, with_identity_sites
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
    if not network.coverage.sites and with_identity_sites(network):
        network = prepare(network.source, replace(network.selection, identity_sites=True))
    require_coverage(network, allow_partial)
    settings = evaluation or EvaluationSettings()
    judged, rest = halves(data)
    options = options or CalibrationOptions()
    with series(network, calibration, judged, options, replace(settings, others=("snn",)), cache) as conversions:
        course = Course(conversions, goal, options, form, progress)
        trials: list[Trial] = []
        while (step := course.next(trials)) is not None:
            trials.append(course.trial(*step))
            tried(trials[-1])
        found = course.ended(trials)
        if found.chosen is None:
            return found
        setting = trials[found.chosen].setting
        plan = conversions.of(course.network(setting)).plan(course.options(setting), progress)
        network = course.network(setting)
    made = convert(network, plan=plan, form=form, precision=precision, allow_partial=allow_partial, options=options)
    reported = evaluate(network.source, made.proto, rest, settings, progress=progress)
    return replace(found, conversion=made, evaluation=reported, drop=drop_of(reported))
