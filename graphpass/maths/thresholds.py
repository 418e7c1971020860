"""Thresholds: which pre-activations the levels of a neuron stand for, per channel.

    n = clip(floor((x + ψ) / θ), 0, L)    y = A·n + o        L = levels − 1

    largest      the levels span the range of x, y = x in between           (Hao et al., ICML 2025, with ψ = θ/2)
    percentile   the same on a range without its tails
    least_error  θ, ψ, A and o with the least Σ (y(x) − a)² on a sample

In the search, θ and ψ are the first and the last border between counts: border k = k·θ − ψ, k = 1 … L.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import CalibrationError
from graphpass.maths.histograms import BINS, BLOCK, Histogram
from graphpass.maths.neuron import Neuron
from graphpass.maths.threads import side_by_side, slices

Array = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

ROUNDS = 6  # halvings of the search step after the coarse grid
CELLS = 1 << 19  # border look-ups held at once
WIDTH = 64  # channels that are searched at once, at most
LINES = 64  # rows whose channels are put in order at once
COARSE = 0.5  # twice the part of a step that a bin has, from which on a histogram tells too little of a span
RESIDUE = 2.0**-14  # of its magnitude: so little a constant varies as a float32 sum of hundreds of terms
EVERYWHERE = -np.inf, np.inf
WHOLE = 1  # the number of the span that covers all of x
EQUAL = 1e-3  # of what a span explains: more than rounding takes of sums of equal terms
_QUANTILES = (0.97, 0.99, 0.995, 0.999)  # of x: where the last border of a long-tailed channel lies


@dataclass(frozen=True, eq=False)
class Levels:
    """Threshold θ > 0, shift ψ, amplitude A ≥ 0, offset o of every channel: float32 [C]."""

    threshold: Floats
    shift: Floats
    amplitude: Floats
    offset: Floats

    def neuron(self, levels: int) -> Neuron:
        """As the converted network computes it, on rows [P, C]."""
        return Neuron(self.threshold, self.shift, self.amplitude, self.offset, levels)

    def count(self, x: Array, levels: int) -> NDArray[np.uint8]:
        """n, uint8 of x's shape [P, C]."""
        return self.neuron(levels).count(x)

    def output(self, x: Array, levels: int) -> Floats:
        """y = A·n + o, float32 [P, C]."""
        return self.neuron(levels).decode(self.count(x, levels))


def joined(parts: Sequence[Levels]) -> Levels:
    """The levels of all channels, from parts."""
    return Levels(*(np.concatenate([getattr(part, name) for part in parts]) for name in Levels.__annotations__))


def largest(highest: Array, levels: int, lowest: Array | None = None) -> Levels:
    """θ = (highest − lowest)/L, ψ = θ/2 − lowest, A = θ, o = lowest: y = x to half a step between the two.

    highest, lowest: [C], the range of the pre-activation; lowest is 0 if left out (ReLU). A channel without a
    range, RESIDUE of its magnitude, gets θ = 1, A = 0, o = lowest.
    >>> one = largest(np.array([4.0, 0.0]), levels=5)
    >>> one.threshold.tolist(), one.shift.tolist(), one.amplitude.tolist()
    ([1.0, 1.0], [0.5, 0.5], [1.0, 0.0])
    """
    top = np.asarray(highest, np.float64)
    bottom = np.zeros_like(top) if lowest is None else np.asarray(lowest, np.float64)
    step = _step(bottom, top, levels)
    theta = np.where(step > 0, step, 1.0)
    return _levels(theta, theta / 2 - bottom, step, bottom)


def percentile(x: Array, levels: int, percent: float = 99.9, lowest: Array | None = None) -> Levels:
    """`largest` up to the given percentile of x (down to its mirror where lowest is left out and x has negatives
    to tell apart, so for ReLU pass lowest = 0).

    x: [P, C]. percent: in (50, 100].
    """
    _require_rows(x)
    _require_finite(x)
    bottom = np.percentile(x, 100.0 - percent, axis=0) if lowest is None else np.asarray(lowest, np.float64)
    return largest(np.maximum(np.percentile(x, percent, axis=0), bottom), levels, bottom)


def regress(x: Array, a: Array, levels: int, threshold: Array, shift: Array, zero: int | None = None) -> Levels:
    """A = cov(n, a)/var(n), o = mean(a) − A·mean(n): the gain and offset with the least Σ (A·n(x) + o − a)².

    x, a: [P, C]. threshold, shift: [C]. zero: as of `least_error`. Where n does not vary with a (or falls with it)
    A = 0, o = mean(a), or 0 with a zero.
    """
    origin = a.mean(0, dtype=np.float64) if zero is None else np.zeros(a.shape[1])
    centred = np.ascontiguousarray((a - origin.astype(np.float32)).T, np.float32)
    threshold, shift = np.asarray(threshold, np.float32), np.asarray(shift, np.float32)
    gain, centre, _ = _regress(np.ascontiguousarray(x.T, np.float32), centred, levels, threshold, shift, zero)
    return _levels(threshold, shift, gain, origin - gain * centre)


def least_error(
    x: Array,
    a: Array,
    levels: int,
    zero: int | None = None,
    parts: Sequence[float] = (),
    window: tuple[float, float] = EVERYWHERE,
) -> Levels:
    """argmin over θ, ψ, A ≥ 0, o of Σ (A·n(x) + o − a)², per channel; with a zero z, o = −A·z: n = z stands for 0.

    x: the pre-activation as the converted network has it; a: the activation as the network before conversion has
    it, at the same rows; float32 [P, C]. Any activation function, negative outputs too. For a pair of borders the
    best A and o are known, and the error they leave follows from the counts and sums of a above each border:

        left(θ, ψ) = Σ(a − ā)² − cov(n, a)²/var(n)        Σn = Σ_k N_k,  Σn² = Σ_k (2k−1)·N_k,  Σna = Σ_k S_k
        left(θ, ψ) = Σa² − (Σ(n − z)·a)²/Σ(n − z)²        with a zero

    with N_k the rows with x ≥ border k and S_k their sum of a, read from one histogram. The pair is searched on a
    grid, then by halving; the result is never worse than `largest` on the sample. A channel where a or x is
    constant, x but for RESIDUE of its magnitude, gets θ = 1, A = 0, o = mean(a), and does not spike on the sample
    where x is.

    parts: of the range, from its least value on: levels spread evenly over each are tried with the grid. window: the x
    outside of which a stays as it is there; levels that span as much of it as x reaches are tried, too.

    Raises CalibrationError for values that are not finite, or no rows.
    """
    x, a = np.asarray(x, np.float32), np.asarray(a, np.float32)
    _require_rows(x)
    width = max(1, min(CELLS // (len(_grid_pairs(levels)[0]) * (levels - 1)), WIDTH))

    def search(block: slice) -> Levels:
        return _least_error(by_channel(x[:, block]).T, by_channel(a[:, block]).T, levels, zero, parts, window)

    return joined(side_by_side(search, slices(x.shape[1], width)))


def by_channel(rows: Array) -> Array:
    """Rows [P, C] of which each channel's values lie side by side in memory; copied, if need be, a few rows at a time,
    which the processor's cache holds."""
    if rows.flags.f_contiguous:
        return rows
    found = np.empty(rows.shape, rows.dtype, "F")
    for start in range(0, len(rows), LINES):
        found[start : start + LINES] = rows[start : start + LINES]
    return found


def rows_of(values: Array, rows: NDArray[np.int64]) -> Array:
    """Some rows of an array [P, C], in its own order in memory."""
    return values.T.take(rows, axis=1).T if values.flags.f_contiguous else values.take(rows, axis=0)


def _least_error(
    x: Floats, a: Floats, levels: int, zero: int | None, parts: Sequence[float], window: tuple[float, float]
) -> Levels:
    """`least_error` of some channels, [C, P]."""
    ends = (x.min(1), x.max(1), a.min(1), a.max(1))
    _require_finite(*ends)
    bottom, top = (end.astype(np.float64) for end in ends[:2])
    mean, constant = a.mean(1, dtype=np.float64), ends[2] == ends[3]
    origin = mean if zero is None else np.zeros_like(mean)  # what a is explained from, and n with it
    a = a - origin.astype(np.float32)[:, None]
    histogram = Histogram(x, a, bottom, top, zero)
    borders = _search(histogram, levels, parts)
    # Onto edges of bins: a border that lies on a value of the sample would leave that count to float rounding.
    cell = histogram.range / BINS
    first, last = bottom + np.rint((borders - bottom) / cell) * cell
    # A border is the float32 value that the comparison meets, so θ is kept above one unit in its last place.
    smallest = np.maximum(np.spacing(np.maximum(np.abs(bottom), np.abs(top)).astype(np.float32)), 1e-30)
    theta = np.maximum((last - first) / (levels - 2) if levels > 2 else (top - bottom) / 2, smallest)
    spans = [(theta, theta - first)]
    # Spans to fall back on: all of x, and from 0 up, as `largest` has it for ReLU, or from where z stands for 0; of a
    # steep clip what lies inside its ends, which may be less than a bin.
    ranges = [(bottom, top), (np.clip(0.0, bottom, top), top)]
    if zero and zero < levels - 1:
        ranges.append((np.minimum(-zero * top / (levels - 1 - zero), top), top))
    if window != EVERYWHERE:
        ranges.append((np.clip(window[0], bottom, top), np.clip(window[1], bottom, top)))
    spans += [(whole.threshold, whole.shift) for whole in (largest(high, levels, low) for low, high in ranges)]
    thresholds, shifts = (np.stack([span[k] for span in spans]).astype(np.float32) for k in range(2))
    varies = _step(bottom, top, levels) > 0
    chosen, gain, centre = _best(x, a, levels, thresholds, shifts, varies, histogram, ends)
    channel = np.arange(len(mean))
    still = ~varies | constant | (gain == 0)
    gain = np.where(still, 0.0, gain)
    origin = np.where(still, mean, origin)
    return _levels(
        np.where(still, 1, thresholds[chosen, channel]),
        np.where(still, np.minimum(0, 0.5 - top), shifts[chosen, channel]),  # no spikes that stand for nothing
        gain,
        origin - gain * centre,
    )


def _best(
    x: Floats,
    a: Floats,
    levels: int,
    threshold: Floats,
    shift: Floats,
    varies: Array,
    histogram: Histogram,
    ends: Sequence[Floats],
) -> tuple[NDArray[np.intp], Doubles, Doubles]:
    """Which of the spans leaves the least error, its A and what its count is measured from: [C] each.

    threshold, shift: [spans, C]. varies: whether x does, [C]. ends: least and largest x, and a, [C]. The first span is
    what the search found. Another is tried on the rows where it could be better by the histogram, which has borders on
    edges of bins alone: bins of c steps may add a part 2c to its error, and single rows 2c·(a step of a)².

    Where x has two values, every border between them leaves as little. Then all of x is taken, for the least A: counts
    of the two that are close together would make A, and weights behind it, large beside those of other channels.
    """
    first, last = (np.where(varies, np.float64(threshold) * k - shift, histogram.bottom) for k in (1, levels - 1))
    bottom, top, least, most = ends
    binary = ((x == bottom[:, None]) | (x == top[:, None])).all(1)
    step = (most - least) / np.float32(levels - 1)
    chosen = np.zeros(len(x), np.intp)
    gain, centre, explained = np.zeros((3, len(x)))
    few = max(1, BLOCK // x.shape[1])

    def take(number: int, channels: Sequence[slice] | Sequence[NDArray[np.intp]]) -> None:
        for some in channels:
            found = _regress(x[some], a[some], levels, threshold[number, some], shift[number, some], histogram.zero)
            equal = EQUAL * binary[some] if number == WHOLE else 0.0
            better = found[2] > explained[some] * (1 - equal)
            chosen[some] = np.where(better, number, chosen[some])
            for known, new in zip((gain, centre, explained), found, strict=True):
                known[some] = np.where(better, new, known[some])

    take(0, slices(len(x), few))
    with np.errstate(over="ignore"):
        total = np.vecdot(a, a)
        left = total - histogram.explained(first.T, last.T, levels).T
        coarse = 2 * histogram.range / BINS / threshold
        bound = (total - explained) * (1 + coarse) + coarse * np.square(step, dtype=np.float64)
        possible = (left <= bound) | (coarse > COARSE)
    possible[WHOLE] |= binary
    for number, channels in enumerate(map(np.flatnonzero, possible[1:]), 1):
        take(number, [channels[part] for part in slices(len(channels), few)])
    return chosen, gain, centre


def _regress(
    x: Floats, a: Floats, levels: int, threshold: Floats, shift: Floats, zero: int | None = None
) -> tuple[Doubles, Doubles, Doubles]:
    """A = cov(n, a)/var(n) or 0, mean(n) and cov²/var, the part of Σa² that A·n explains: [C]. x, centred a: [C, P].

    With a zero it takes the place of the mean, and a is as it is.
    """
    n = _level(x, threshold[:, None], shift[:, None], levels)
    total = n.sum(1).astype(np.float64)  # of whole numbers: exact below 2^24, rounded as n is beyond
    mean = total / n.shape[1] if zero is None else np.full(len(n), float(zero))
    n -= mean.astype(np.float32)[:, None]
    variance, covariance = ((n[:, None] @ other[:, :, None]).ravel().astype(np.float64) for other in (n, a))
    gain = np.where(variance > 0, np.maximum(covariance, 0) / np.where(variance > 0, variance, 1), 0.0)
    return gain, mean, gain * np.maximum(covariance, 0)


def _level(x: Floats, threshold: Floats, shift: Floats, levels: int) -> Floats:
    """n as graphpass.maths.neuron defines it, as float32, for finite x."""
    n = x + shift
    with np.errstate(over="ignore"):
        n /= threshold
    np.floor(n, out=n)
    np.clip(n, 0, levels - 1, out=n)
    return n


def rows_at_random(total: int, count: int) -> NDArray[np.int64]:
    """So many of 0 … total − 1, ascending, the same each time: not every k-th, positions in an image have structure."""
    return np.sort(np.random.default_rng(0).permutation(total)[:count])


def squared_error(y: Array, a: Array) -> Doubles:
    """Σ (y − a)² over rows, float64 [C]."""
    difference = y - a
    squares: Doubles = np.einsum("pc,pc->c", difference, difference, dtype=np.float64)
    return squares


def _points(levels: int) -> int:
    """Grid points of each kind (quantiles, equal steps): fewer where a candidate costs many look-ups."""
    return 10 if levels <= 32 else 6


@functools.cache
def _grid_pairs(levels: int) -> tuple[Array, Array]:
    points = 2 * _points(levels) + len(_QUANTILES)
    return np.triu_indices(points, 1) if levels > 2 else (np.arange(points), np.arange(points))


def _grid(histogram: Histogram, levels: int) -> Doubles:
    """Grid of borders, float64 [C, points], ascending: quantiles of x and equal steps over its range."""
    points = _points(levels)
    share = np.concatenate([np.linspace(0, 1, points + 2)[1:-1], _QUANTILES])
    even = histogram.bottom[:, None] + histogram.range[:, None] * np.linspace(0.02, 0.98, points)
    return np.sort(np.concatenate([histogram.quantiles(share), even], axis=1), axis=1)


def _search(histogram: Histogram, levels: int, parts: Sequence[float]) -> Doubles:
    """First and last border with the most explained, float64 [2, C]."""
    lower, upper = _grid_pairs(levels)
    grid = _grid(histogram, levels)
    channel = np.arange(len(grid))

    def better(first: Doubles, last: Doubles, held: tuple[Doubles, Doubles, Doubles] | None) -> Any:
        explained = histogram.explained(first, last, levels)
        best = explained.argmax(1)
        new = (first[channel, best], last[channel, best], explained[channel, best])
        if held is None:
            return new
        return tuple(np.where(new[2] > held[2], n, h) for n, h in zip(new, held, strict=True))

    bottom, even = histogram.bottom[:, None], histogram.range[:, None] * np.asarray(parts) / (levels - 1)
    first, last = (np.hstack([grid[:, k], bottom + even * r]) for k, r in ((lower, 0.5), (upper, levels - 1.5)))
    held = better(first, last, None)
    step = histogram.range / _points(levels)
    move = np.linspace(-1.0, 1.0, 5)
    one, two = (m.ravel() for m in np.meshgrid(move, move)) if levels > 2 else (move, move)
    for _ in range(ROUNDS):
        first = held[0][:, None] + step[:, None] * one
        last = held[1][:, None] + step[:, None] * two
        held = better(first, np.maximum(last, first), held)
        step = step / 2
    return np.stack(held[:2])


def _levels(*fields: Array) -> Levels:
    return Levels(*(np.ascontiguousarray(field, np.float32) for field in fields))


def _step(bottom: Doubles, top: Doubles, levels: int) -> Doubles:
    span = np.maximum(top - bottom, 0.0)
    step = span / (levels - 1)
    varies = span > RESIDUE * np.maximum(np.abs(bottom), np.abs(top))
    return np.where(varies & (step >= np.finfo(np.float32).tiny), step, 0.0)


def _require_rows(values: Array) -> None:
    if len(values) == 0:
        raise CalibrationError("a site's sample is empty", "check the calibration data and the model")


def _require_finite(*values: Array) -> None:
    if not all(np.isfinite([each.min(initial=0), each.max(initial=0)]).all() for each in values):
        raise CalibrationError("a site's sample has NaN or infinite values", "check the calibration data and the model")
