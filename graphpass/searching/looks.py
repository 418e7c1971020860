"""Quick looks: the same trials with fewer samples, to find out which settings are worth a trial in full."""

import math
from collections.abc import Sequence
from dataclasses import replace

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.datasets.halves import fewer
from graphpass.evaluation.drop import Drop
from graphpass.maths.choosing import Rung, Tried, expected_levels
from graphpass.searching.trials import Trial
from graphpass.series import Series

CALIBRATION = 16  # samples, at least
JUDGED = 256  # samples, at least
POSITIONS = 4  # rows are fewer by this factor, too
EVERY = 4  # of so many batches, one is judged
COUNTED = 2  # samples that operations are counted on
SAVING_WORTH_IT = 0.05  # of the cost: less is not worth a trial in full
WORSE = 0.25  # of a loss: what so few calibration samples add to it (docs/search.md), and metrics without noise


def quick_looks(conversions: Series, options: CalibrationOptions) -> Series | None:
    """The series of quick looks; None where there are no more samples than these take."""
    calibration, samples = fewer(conversions.calibration, CALIBRATION), conversions.data.samples
    if calibration is conversions.calibration or options.limit is not None or samples is None:
        return None
    settings, most = conversions.evaluation, max(1, samples // max(JUDGED, conversions.evaluation.batch))
    counted = min(settings.operation_samples or COUNTED, COUNTED)
    return conversions.with_less(calibration, replace(settings, every=min(most, EVERY), operation_samples=counted))


def quick_options(options: CalibrationOptions) -> CalibrationOptions:
    """How a quick look is calibrated."""
    return replace(options, positions=max(1, options.positions // POSITIONS), refinement=False, baseline=False)


def expected(drop: Drop) -> float:
    """What a trial in full is expected to lose where a quick look loses so much."""
    return drop.value - WORSE * max(drop.value, 0.0)


def doubt(drop: Drop) -> float:
    """How much less a trial in full may well lose than a quick look: what is expected, and once the noise."""
    return drop.value - expected(drop) + (drop.noise or 0.0) if math.isfinite(drop.value) else 0.0


def latest(trials: Sequence[Trial]) -> list[Trial]:
    """Each setting once: in full where it was, else quick, and not within the limit where that is ruled out in full."""
    full = [each.setting for each in trials if not each.is_quick]
    known = [each for each in trials if not each.is_quick or each.setting not in full]
    return [replace(each, within=each.within and not (each.is_quick and _is_ruled_out(each, known))) for each in known]


def worth_it(trials: Sequence[Trial], limit: float) -> Trial | None:
    """The quick look to be made in full next; None where none may be good enough and cheaper than what is.

    trials: each setting once. The cheapest that is expected to be good enough, else the likeliest: T and code by what
    was lost in full, if any was tried so with the same sites, and all else by the looks.
    """
    looks = _open(trials)
    if not looks:
        return None
    in_full = [each for each in trials if not each.is_quick]
    full = [[_tried(each) for each in in_full if _tells_of(each, look)] for look in looks]
    good = [
        look for look, known in zip(looks, full, strict=True)
        if (look.setting.most_levels >= expected_levels(known, limit) if known and look.setting.is_uniform
            else expected(look.drop) <= limit)
    ]  # fmt: skip
    if good:
        return min(good, key=lambda each: each.cost)
    by_levels = any(full)
    return max(looks, key=lambda each: (each.setting.most_levels if by_levels else -each.drop.value, -each.cost))


def doubtful(trials: Sequence[Trial]) -> Trial | None:
    """The quick look to be made in full before sites stay analogue: it lost too much, but with fewer samples.

    trials: each setting once. None where something may be good enough, or none has more levels than what lost too much
    in full. The one that lost least, then the one with the most levels.
    """
    if any(each.within for each in trials):
        return None
    looks = [each for each in trials if each.is_quick and each.setting.is_uniform and not each.setting.left]
    unknown = [each for each in looks if not _is_ruled_out(each, trials)]
    return min(unknown, key=lambda each: (each.drop.value, -each.setting.most_levels), default=None)


def _open(trials: Sequence[Trial]) -> list[Trial]:
    """Quick looks at what may be good enough, cheaper than what is, with more levels than what is not."""
    good = [each.cost for each in trials if each.within and not each.is_quick]
    least = (1 - SAVING_WORTH_IT) * min(good, default=math.inf)
    return [each for each in trials if each.is_quick and each.within and each.cost < least]


def _is_ruled_out(look: Trial, trials: Sequence[Trial]) -> bool:
    """Whether as many levels, or more, lost too much in full."""
    failed = [each for each in trials if not each.is_quick and not each.within and _tells_of(each, look)]
    return look.setting.most_levels <= max((each.setting.most_levels for each in failed), default=0)


def _tells_of(trial: Trial, look: Trial) -> bool:
    """Whether a trial loses no more than a look with as many levels: it has its sites, or fewer identity sites."""
    known, asked = trial.setting, look.setting
    return known.is_uniform and known.left == asked.left and known.identity_sites <= asked.identity_sites


def _tried(trial: Trial) -> Tried:
    """A trial as one of a rung whose cost is known."""
    setting = trial.setting
    return trial.tried(Rung(setting.time_steps, setting.coding, setting.most_levels, trial.cost))
