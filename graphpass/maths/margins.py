"""Levels that reach beyond the rows that they were fitted to, as far as other rows say.

    θ' = g·θ        ψ' so that the middle of level m stays where it is        A, o by regression

Few samples tell little of how far values reach, and with many levels a value beyond the last of them costs more than
levels that are wider apart. g and m have the least error on held-out rows: fitted to the first half of the rows and
tried on the second, and the other way round. Rows are in the order of the samples, so that the halves are of different
samples. g = 1 leaves the levels as they are, bit for bit.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from graphpass.maths.thresholds import Levels, regress, squared_error

Floats = NDArray[np.float32]
Fit = Callable[[Floats, Floats], Levels]

MANY = 33  # levels from which on a margin is looked for: fewer are wide enough apart to reach beyond the rows
FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0)
CHANNELS = 32  # of a site, evenly spread, that are tried
LEAST_ROWS = 1024  # fewer tell too little of rare values, and the choice would be chance


def with_margin(
    found: Levels, fit: Fit, x: Floats, a: Floats, levels: int, abouts: Sequence[float], zero: int | None
) -> Levels:
    """Levels with the margin that the halves of the rows choose.

    found: what `fit` finds for all rows. x, a: float32 [P, C]. abouts: the m to be tried. zero: as of `least_error`.
    """
    if levels < MANY or len(x) < LEAST_ROWS:
        return found
    about, factor = _chosen(fit, x, a, levels, abouts, zero)
    return found if factor == 1 else _widened(found, x, a, levels, about, factor, zero)


def _chosen(
    fit: Fit, x: Floats, a: Floats, levels: int, abouts: Sequence[float], zero: int | None
) -> tuple[float, float]:
    """m and g with the least error on rows that the levels were not fitted to."""
    channels = np.unique(np.linspace(0, x.shape[1] - 1, CHANNELS).astype(np.intp))
    middle = len(x) // 2
    halves = [(x[rows][:, channels], a[rows][:, channels]) for rows in (slice(middle), slice(middle, None))]
    tried = [(abouts[0], 1.0), *((about, factor) for factor in FACTORS[1:] for about in abouts)]
    errors = np.zeros(len(tried))
    for kept, held in (halves, reversed(halves)):
        levels_of_kept = fit(*kept)
        for number, (about, factor) in enumerate(tried):
            wide = _widened(levels_of_kept, *kept, levels, about, factor, zero)
            errors[number] += squared_error(wide.output(held[0], levels), held[1]).sum()
    return tried[int(np.argmin(errors))]


def _widened(found: Levels, x: Floats, a: Floats, levels: int, about: float, factor: float, zero: int | None) -> Levels:
    """θ' = g·θ and ψ' = (m + 1/2)·θ' − ((m + 1/2)·θ − ψ), with A and o for these. Channels of A = 0 stay."""
    live = found.amplitude > 0
    theta = np.where(live, factor * found.threshold, found.threshold)
    place = (about + 0.5) * found.threshold - found.shift
    shift = np.where(live, (about + 0.5) * theta - place, found.shift)
    wide = regress(x, a, levels, theta, shift, zero)
    return Levels(
        wide.threshold,
        wide.shift,
        np.where(live, wide.amplitude, found.amplitude),
        np.where(live, wide.offset, found.offset),
    )
