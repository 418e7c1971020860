"""Quick looks: the same trials with fewer samples, to find out which settings are worth a trial in full."""

import math
from dataclasses import replace

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.datasets.halves import fewer
from graphpass.evaluation.drop import Drop
from graphpass.series import Series

CALIBRATION = 16  # samples, at least
JUDGED = 256  # samples, at least
POSITIONS = 4  # rows are fewer by this factor, too
EVERY = 4  # of so many batches, one is judged
COUNTED = 2  # samples that operations are counted on
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
    return replace(options, positions=max(1, options.positions // POSITIONS), refinement=False)


def expected(drop: Drop) -> float:
    """What a trial in full is expected to lose where a quick look loses so much."""
    return drop.value - WORSE * max(drop.value, 0.0)


def doubt(drop: Drop) -> float:
    """How much less a trial in full may well lose than a quick look: what is expected, and once the noise."""
    return drop.value - expected(drop) + (drop.noise or 0.0) if math.isfinite(drop.value) else 0.0
