"""The calibration methods: what each does with the sampled rows of a site and of the layers in front of it.

    optimal     weights by ridge regression, threshold by least error, gain and offset by regression
    da-qcfs     the range of the ANN, then shift and gain by the means     (Hao et al., ICML 2025, section 4.3)
    percentile  the range of the ANN without its tails (99.9 %)
    max         the range of the ANN

What the last three leave open for activations other than ReLU (their source knows only ReLU): levels of a curved one
span the range of f(x) evenly; of others, gain and offset for the range of x are found by regression.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.maths.corrections import choose_penalty, compensate, ends, mean_bias, mean_gain, mean_shift, refine
from graphpass.maths.curves import Curve
from graphpass.maths.margins import with_margin
from graphpass.maths.thresholds import (
    EVERYWHERE,
    Levels,
    largest,
    least_error,
    percentile,
    regress,
    rows_at_random,
    rows_of,
    squared_error,
)
from graphpass.maths.units import corrected_in_units, in_units

Array = NDArray[Any]
Floats = NDArray[np.float32]

PARTS = tuple(np.linspace(0.3, 1, 15).tolist())  # of a channel's range that a quantiser may cover
FIT_ROWS = 16384  # rows that thresholds are searched on, at most
COARSE_LEVELS = 8  # up to so many levels refinement pays most (docs/calibration.md)
CURVED_ROUNDS = 20  # refinement steps where f is curved: small weights make small steps
RECTIFIERS = frozenset("relu clip thresholded_relu".split())  # f(x) = x inside their range


@dataclass(frozen=True)
class SiteSample:
    """Rows at the same positions, float32 [P, C], and ranges over all data.

    kind: the activation's; "" for the output of a layer that no site follows. x: the ANN's pre-activation; x_snn: that
    of the network converted so far; a = f(x): the ANN's activation. bottom, top: least and largest x of a channel, [C],
    for a method that wants them, inside the x that f is flat beyond. offset: whether its neurons may have any, or one
    at which a count stands for 0, the same of all channels. limits: the ends of a clip that the levels are to span,
    whatever the rows reach; then the rows are not trusted with more than means. curve: f, where levels are even on
    f(x) and not on x. window: the x outside of which f stays as it is there. largest: |x| of both networks, and |a|, at
    most, where they are known.
    """

    kind: str
    x: Floats
    x_snn: Floats
    a: Floats
    bottom: Array
    top: Array
    offset: bool = True
    limits: tuple[float, float] | None = None
    curve: Curve | None = None
    window: tuple[float, float] = EVERYWHERE
    largest: tuple[float, float] | None = None

    def even(self) -> "SiteSample":
        """The sample on the scale where levels are even: f(x) in place of x where f is curved."""
        if self.curve is None:
            return self
        bottom, top = self.curve.range(self.bottom, self.top)
        with np.errstate(over="ignore"):
            f_snn = self.a if self.x_snn is self.x else self.curve.value(self.x_snn)
        return replace(self, kind="identity", x=self.a, x_snn=f_snn, bottom=bottom, top=top, curve=None, largest=None)


@dataclass(frozen=True)
class Method:
    """fit: neurons of a site with so many levels, θ and ψ on the scale of `SiteSample.even`. correct: ΔM [G, K, C/G]
    and Δb [C] of a layer from its inputs u, for so many levels, refined or not.

    correct is None for a method that leaves the weights as they are. ranges: whether it needs bottom and top. splits:
    whether identity sites may have second neurons (maths/outliers.py).
    """

    fit: Callable[[SiteSample, int], Levels]
    correct: Callable[[Array, SiteSample, int, bool], tuple[Floats, Floats]] | None = None
    ranges: bool = False
    splits: bool = False


def _range(sample: SiteSample) -> tuple[Array, Array]:
    """The range of x that the levels span: from 0 for rectifiers, the limits where they are given."""
    if sample.limits is not None:
        bottom, top = (np.full_like(sample.x[0], limit) for limit in sample.limits)
        return bottom, top
    return _bottom(sample), sample.top


def _bottom(sample: SiteSample) -> Array:
    if sample.kind == "clip":  # from its end, which may lie above 0, where x reaches that
        return np.asarray(np.where(sample.bottom <= sample.window[0], sample.bottom, np.minimum(sample.bottom, 0)))
    return np.zeros_like(sample.bottom) if sample.kind in RECTIFIERS else sample.bottom


def _regressed(levels: Levels, x: Floats, sample: SiteSample, count: int) -> Levels:
    """The same thresholds with gain and offset for the activation, unless it is x itself between the ends."""
    if _is_linear_inside(sample):
        return levels
    return regress(x, sample.a, count, levels.threshold, levels.shift)


def _max(sample: SiteSample, levels: int) -> Levels:
    bottom, top = _range(sample)
    return _regressed(largest(np.maximum(top, bottom), levels, bottom), sample.x, sample, levels)


def _percentile(sample: SiteSample, levels: int) -> Levels:
    if sample.limits is not None:
        return _max(sample, levels)
    bottom = _bottom(sample) if sample.kind in RECTIFIERS else None
    return _regressed(percentile(np.clip(sample.x, *sample.window), levels, lowest=bottom), sample.x, sample, levels)


def _da_qcfs(sample: SiteSample, levels: int) -> Levels:
    """Levels of the ANN's range, moved so that the means of x and of a are the ANN's.

    Rectifiers: the gain restores the mean of a. Others: the offset does, with the gain of the ANN's own range. Were a
    regressed on what the SNN makes of it, every gain would shrink, and with it a deep network's signal.
    """
    spanned = _max(sample, levels)
    shifted = mean_shift(spanned, (sample.x - sample.x_snn).mean(0, dtype=np.float64))
    missing = (sample.a - shifted.output(sample.x_snn, levels)).mean(0, dtype=np.float64)
    if sample.kind in RECTIFIERS:
        return mean_gain(shifted, missing, levels - 1)
    return replace(shifted, offset=(shifted.offset + missing).astype(np.float32))


def _optimal(sample: SiteSample, levels: int) -> Levels:
    if sample.limits is not None:
        return _max(sample, levels)
    found, zero = _inside(sample, levels)
    fit = partial(_search, sample, levels, zero, ())
    return with_margin(found, fit, *_drawn(sample), levels, _abouts(sample, levels, zero), zero)


def _inside(sample: SiteSample, levels: int) -> tuple[Levels, int | None]:
    """`_optimal` without a margin: what a sample itself reaches; and z of all channels, if o = −A·z is wanted."""
    x, a = _drawn(sample)
    search = partial(least_error, x, a, levels, window=sample.window)
    if sample.offset:
        return search(), None
    return (search(zero=0), 0) if sample.kind in RECTIFIERS else _with_a_zero(search, x, a, levels)


def _quantised(sample: SiteSample, levels: int) -> Levels:
    """`_optimal` of the ANN itself, from where a quantiser of a part of the range begins, too."""
    if sample.limits is not None:
        return _max(sample, levels)
    fit, (x, a) = partial(_search, sample, levels, None, PARTS), _drawn(sample)
    return with_margin(fit(x, a), fit, x, a, levels, _abouts(sample, levels, None), None)


def _search(
    sample: SiteSample, levels: int, zero: int | None, parts: tuple[float, ...], x: Floats, a: Floats
) -> Levels:
    return least_error(x, a, levels, zero=zero, parts=parts, window=sample.window)


def _abouts(sample: SiteSample, levels: int, zero: int | None) -> tuple[float, ...]:
    """Which level may stay where it is when levels go apart: that of 0, the least, or the one in the middle."""
    if zero is not None:
        return (float(zero),)
    return (0.0,) if sample.kind in RECTIFIERS else (0.0, (levels - 1) / 2)


def _drawn(sample: SiteSample) -> tuple[Floats, Floats]:
    """The SNN's x and the ANN's a, at most FIT_ROWS rows of them."""
    x, a = sample.x_snn, sample.a
    if len(a) <= FIT_ROWS:
        return x, a
    rows = rows_at_random(len(a), FIT_ROWS)
    return rows_of(x, rows), rows_of(a, rows)


def _with_a_zero(search: Callable[..., Levels], x: Floats, a: Floats, levels: int) -> tuple[Levels, int]:
    """o = −A·z with one z for all channels: the better one of the two next to what free offsets have in the middle."""
    free = search()
    live = free.amplitude > 0
    weights = np.square(free.amplitude[live], dtype=np.float64)
    own = np.clip(-free.offset[live].astype(np.float64) / free.amplitude[live], 0, levels - 1)
    middle = float(np.average(own, weights=weights)) if live.any() else 0.0
    found = [(search(zero=zero), zero) for zero in sorted({math.floor(middle), math.ceil(middle)})]
    return min(found, key=lambda pair: float(squared_error(pair[0].output(x, levels), a).sum()))


def _correct(inputs: Array, sample: SiteSample, levels: int, refined: bool) -> tuple[Floats, Floats]:
    residual = sample.x - sample.x_snn
    gram, ridge, right = choose_penalty(inputs, residual)
    if ridge is None or not np.isfinite(ridge):
        weight, bias = mean_bias(inputs, residual)
        return weight, np.zeros_like(bias) if ridge is None else bias
    if not sample.kind or not refined:
        return compensate(gram, residual, ridge, right)

    curved = sample.curve is not None

    def bounds(z: Floats) -> tuple[Floats, Floats]:
        low, high = ends(_inside(replace(sample, x_snn=z, offset=sample.offset or curved).even(), levels)[0], levels)
        return sample.curve.inside(low, high) if sample.curve else (low, high)

    if sample.curve is None:
        return refine(inputs, sample.x, sample.x_snn, bounds, ridge, gram=gram, right=right)
    seen = sample.curve.seen(sample.x)
    return refine(inputs, sample.x, sample.x_snn, bounds, ridge, CURVED_ROUNDS, gram, seen, right)


def correct_bias(inputs: Array, sample: SiteSample, levels: int, refined: bool) -> tuple[Floats, Floats]:
    """Method.correct for rows that are not trusted with weights: ΔW = 0, Δb = mean(x − x_q)."""
    return mean_bias(inputs, sample.x - sample.x_snn)


def _is_linear_inside(sample: SiteSample) -> bool:
    """Whether a is x inside its range, so that levels of x are levels of a."""
    return sample.kind in RECTIFIERS or sample.kind == "identity"


def _fit(fit: Callable[[SiteSample, int], Levels]) -> Callable[[SiteSample, int], Levels]:
    """The fit on the scale where levels are even, in units of its own."""
    fitted = in_units(fit, _is_linear_inside)
    return lambda sample, levels: fitted(sample.even(), levels)


QUANTISER = _fit(_quantised)  # of the baseline: levels of the ANN itself
METHODS: dict[str, Method] = {
    "optimal": Method(_fit(_optimal), corrected_in_units(_correct, _is_linear_inside), splits=True),
    "da-qcfs": Method(_fit(_da_qcfs), ranges=True),
    "percentile": Method(_fit(_percentile), ranges=True),
    "max": Method(_fit(_max), ranges=True),
}
