"""What an evaluation counts and measures. Accumulators are frozen: update and merge return a new one.

    top-k accuracy    hits / samples; a hit: fewer than k classes rank before the label
    agreement         same top-1 class / samples
    relative error    ‖y − a‖₂ / ‖a‖₂ over all samples
    site error        Σ (y − a)² / Σ (a − ā)²
    firing rate       spikes / (neurons · T · samples); sparsity = 1 − rate
    operations        pairs (input, weight) that are not zero, summed over time-steps; biases and padding count nothing
    energy            4.6 pJ · MAC + 0.9 pJ · AC

Counts are Python or int64 integers and therefore exact. Definitions of NeuroBench (Yik et al., 2025, arXiv 2304.04640);
energies of a 32-bit float multiply-and-add and add in 45 nm: Horowitz, ISSCC 2014. Memory traffic is not included.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENERGY_MAC = 4.6  # pJ: 3.7 for the multiplication, 0.9 for the addition
ENERGY_AC = 0.9  # pJ
TOP = 5
NO_RANK = 1 << 31
BLOCK = 1 << 22  # values that are looked at together, so that long texts need no more memory than short ones

Array = NDArray[Any]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Operations:
    """Synaptic operations per sample: additions and multiply-and-adds that happen, and all there would be if dense."""

    effective_acs: float
    effective_macs: float
    dense: float


def blocks(values: Array) -> Iterator[slice]:
    """Rows of about BLOCK values each, at least one row, as slices; one slice where there are no rows."""
    length, size = max(1, BLOCK // max(1, math.prod(values.shape[1:]))), max(1, len(values))
    return (slice(first, first + length) for first in range(0, size, length))


def energy_pj(operations: Operations) -> float:
    """E = 4.6·MAC + 0.9·AC, in pJ per sample.

    >>> energy_pj(Operations(effective_acs=10, effective_macs=1, dense=100))
    13.6
    """
    return ENERGY_MAC * operations.effective_macs + ENERGY_AC * operations.effective_acs


def predictions(scores: Array) -> Integers:
    """The top-1 class of scores [N, C], int64 [N]: the first largest; NaN is below everything.

    C = 1 is the probability of class 1: it is predicted from 0.5 on.
    """
    if scores.shape[1] == 1:
        return (scores[:, 0] >= 0.5).astype(np.int64)
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    return np.asarray(ranked.argmax(1), np.int64)


def label_ranks(scores: Array, labels: Integers) -> Integers:
    """How many classes rank before each label, int64 [N]. Equal scores rank by class; NaN is never a hit.

    scores: float [N, C], labels: int [N], each in 0 … C − 1 (0 or 1 where C = 1, see predictions).
    >>> label_ranks(np.array([[0.1, 0.7, 0.7]]), np.array([2])).tolist()
    [1]
    """
    if scores.shape[1] == 1:
        return np.asarray(predictions(scores) != labels, np.int64)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    ranks = np.where(np.isnan(own[:, 0]), NO_RANK, before.sum(1))
    return np.asarray(ranks, np.int64)


@dataclass(frozen=True)
class Hits:
    """Labels found among the first 1 and the first 5 classes."""

    samples: int = 0
    top1: int = 0
    top5: int = 0

    def update(self, scores: Array, labels: Integers) -> "Hits":
        """With a batch: scores [N, C], labels [N]."""
        ranks = label_ranks(scores, labels)
        return self.merge(Hits(len(ranks), int((ranks < 1).sum()), int((ranks < TOP).sum())))

    def merge(self, other: "Hits") -> "Hits":
        return Hits(self.samples + other.samples, self.top1 + other.top1, self.top5 + other.top5)


@dataclass(frozen=True)
class Agreement:
    """Samples for which two networks predict the same class."""

    samples: int = 0
    same: int = 0

    def update(self, one: Array, other: Array) -> "Agreement":
        """With a batch of scores [N, C] of both."""
        same = int((predictions(one) == predictions(other)).sum())
        return self.merge(Agreement(len(one), same))

    def merge(self, other: "Agreement") -> "Agreement":
        return Agreement(self.samples + other.samples, self.same + other.same)

    @property
    def fraction(self) -> float | None:
        """same / samples; None before the first sample."""
        return self.same / self.samples if self.samples else None


@dataclass(frozen=True)
class Sum:
    """Σ of float64, added exactly and rounded once: the same whatever the order of the terms, and how they are grouped.

    exact: of the finite terms. nonfinite: of infinities and NaN, 0 where there are none; it is the whole sum otherwise.

    >>> float(Sum().add(1e16).add(1.0).add(-1e16))
    1.0
    """

    exact: Fraction = Fraction(0)
    nonfinite: float = 0.0

    def add(self, term: float) -> "Sum":
        """With one more term."""
        return self.merge(Sum(Fraction(term)) if math.isfinite(term) else Sum(nonfinite=term))

    def merge(self, other: "Sum") -> "Sum":
        return Sum(self.exact + other.exact, self.nonfinite + other.nonfinite)

    def __float__(self) -> float:
        try:
            return float(self.exact) if self.nonfinite == 0 else self.nonfinite
        except OverflowError:
            return math.inf if self.exact > 0 else -math.inf


@dataclass(frozen=True)
class Mean:
    """Σ numerators / Σ denominators, both summed exactly; a plain mean where every denominator is 1.

    >>> Mean().add(np.array([1.0, 2.0]), np.ones(2)).value
    1.5
    """

    numerator: Sum = Sum()
    denominator: Sum = Sum()

    def add(self, numerators: Array, denominators: Array) -> "Mean":
        """With a batch: float [N] each."""
        sums = [Sum(), Sum()]
        for place, terms in enumerate((numerators, denominators)):
            for term in terms.tolist():
                sums[place] = sums[place].add(float(term))
        return self.merge(Mean(*sums))

    def merge(self, other: "Mean") -> "Mean":
        return Mean(self.numerator.merge(other.numerator), self.denominator.merge(other.denominator))

    @property
    def value(self) -> float | None:
        """The ratio; None where the denominators sum to zero."""
        below = float(self.denominator)
        return float(self.numerator) / below if below else None


@dataclass(frozen=True)
class Spread:
    """One standard deviation of a ratio r = Σ x / Σ d over independent samples, by what each of them adds to its error:

        noise = √(n / (n − 1) · Σ (x − r·d)²) / |Σ d|         (Cochran, Sampling Techniques, 1977, sections 2.11, 6.4)

    n: samples with d ≠ 0; the others count nothing. Of a difference of two ratios with equal d, x is the difference of
    their numerators. Sums are exact.

    >>> Spread().add(np.array([2.0, 0.0, 0.0, 0.0]), np.ones(4)).noise
    0.5
    """

    ratio: Mean = Mean()
    squares: Sum = Sum()
    products: Sum = Sum()
    weights: Sum = Sum()
    samples: int = 0

    def add(self, x: Array, d: Array) -> "Spread":
        """With a batch: float64 [N] each."""
        with np.errstate(invalid="ignore", over="ignore"):
            terms = (x * x, x * d, d * d)
        squares, products, weights = (reduce(Sum.add, each.tolist(), Sum()) for each in terms)
        return self.merge(Spread(Mean().add(x, d), squares, products, weights, int(np.count_nonzero(d))))

    def merge(self, other: "Spread") -> "Spread":
        return Spread(
            self.ratio.merge(other.ratio),
            self.squares.merge(other.squares),
            self.products.merge(other.products),
            self.weights.merge(other.weights),
            self.samples + other.samples,
        )

    @property
    def noise(self) -> float | None:
        """None of fewer than two samples, where d sums to zero, or where x is not finite; infinite beyond float64."""
        r, below = self.ratio.value, float(self.ratio.denominator)
        if r is None or not math.isfinite(r) or self.samples < 2:
            return None
        if any(each.nonfinite for each in (self.squares, self.products, self.weights)):
            return math.inf
        exact = Fraction(r)
        error = self.squares.exact - 2 * exact * self.products.exact + exact**2 * self.weights.exact
        variance = float(Sum(error * Fraction(self.samples, self.samples - 1)))
        return math.sqrt(max(variance, 0.0)) / abs(below)


def cosines(y: Array, a: Array) -> Array:
    """cos(y, a) of every row of y, a [N, …], float64 [N]: 1 of two zero rows, 0 of one."""
    wide_y, wide_a = (each.reshape(len(a), -1).astype(np.float64) for each in (y, a))
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(wide_y, axis=1), np.linalg.norm(wide_a, axis=1)
        scale = lengths[0] * lengths[1]
        inner = (wide_y * wide_a).sum(1)
        both_zero = (lengths[0] == 0) & (lengths[1] == 0)
        return np.where(both_zero, 1.0, inner / np.where(scale == 0, 1.0, scale))


@dataclass(frozen=True)
class Difference:
    """How far y is from the reference a: squared_error = Σ(y − a)², total = Σa, squares = Σa², float64.

    spread: Σ(a − c)² of `centred` of the values, those for which the middle c of the samples is known.
    cosines: Σ over samples of cos(y, a); two zero vectors have the cosine 1, one zero vector has 0. The sums of a batch
    are float64 and those over batches exact, so that batches may be merged in any order and come to the same, bit for
    bit.
    """

    samples: int = 0
    values: int = 0
    centred: int = 0
    squared_error: Sum = Sum()
    total: Sum = Sum()
    squares: Sum = Sum()
    cosines: Sum = Sum()
    spread: Sum = Sum()

    def update(self, y: Array, a: Array, middle: Array | None = None) -> "Difference":
        """With a batch: y and a of the same shape [N, …]; without axes they are one sample. middle: c, as a sample."""
        found, y, a = self, np.atleast_1d(y), np.atleast_1d(a)
        middle = middle if middle is not None and middle.shape == a.shape[1:] else None
        for rows in blocks(a):
            found = found._with(y[rows], a[rows], middle)
        return found

    def _with(self, y: Array, a: Array, middle: Array | None) -> "Difference":
        """With so few samples that their float64 values are held."""
        wide_y, wide_a = (each.reshape(len(a), -1).astype(np.float64) for each in (y, a))
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.square(wide_y - wide_a).sum()
            squares = np.square(wide_a).sum()
            total = wide_a.sum()
            spread = np.square(wide_a - middle.reshape(-1)).sum() if middle is not None else 0.0
        found = (error, total, squares, cosines(wide_y, wide_a).sum(), spread)
        sums = [Sum().add(float(each)) for each in found]
        return self.merge(Difference(len(a), a.size, a.size if middle is not None else 0, *sums))

    def merge(self, other: "Difference") -> "Difference":
        return Difference(
            self.samples + other.samples,
            self.values + other.values,
            self.centred + other.centred,
            self.squared_error.merge(other.squared_error),
            self.total.merge(other.total),
            self.squares.merge(other.squares),
            self.cosines.merge(other.cosines),
            self.spread.merge(other.spread),
        )

    @property
    def relative_error(self) -> float | None:
        """‖y − a‖₂ / ‖a‖₂; None where a is zero."""
        error, squares = float(self.squared_error), float(self.squares)
        return float(np.sqrt(error / squares)) if squares else None

    @property
    def centred_error(self) -> float | None:
        """Σ(y − a)² / Σ(a − ā)²; None where a does not vary."""
        squares, total = float(self.squares), float(self.total)
        spread = squares - total * total / max(self.values, 1)  # ** raises where this is infinite
        # Σ a² − n·ā² of equal values leaves a rounding residue of a few ulps of Σ a²
        return float(self.squared_error) / spread if spread > 1e-12 * squares else None

    @property
    def error_of_spread(self) -> float | None:
        """‖y − a‖₂ / ‖a − c‖₂; None where c is not known of all values, or a is c."""
        error, spread = float(self.squared_error), float(self.spread)
        return float(np.sqrt(error / spread)) if spread and self.centred == self.values else None

    @property
    def cosine_similarity(self) -> float | None:
        """Mean over samples of cos(y, a); None before the first."""
        return float(self.cosines) / self.samples if self.samples else None


@dataclass(frozen=True)
class SpikeCount:
    """spikes fired in slots = neurons · T · samples places."""

    spikes: int = 0
    slots: int = 0

    def merge(self, other: "SpikeCount") -> "SpikeCount":
        return SpikeCount(self.spikes + other.spikes, self.slots + other.slots)

    @property
    def rate(self) -> float | None:
        """spikes / slots; None where there are no neurons."""
        return self.spikes / self.slots if self.slots else None

    @property
    def sparsity(self) -> float | None:
        """1 − rate."""
        return None if self.rate is None else 1.0 - self.rate


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution: sizes of input and output, kernel taps, and how they are laid."""

    size: int
    outputs: int
    taps: int
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    def uses(self, transposed: bool) -> Integers:
        """Whether position y meets tap k in some output o: 0 or 1, int64 [size, taps].

        Convolution: y = o·stride + k·dilation − pad. Transposed: o = y·stride + k·dilation − pad.
        """
        y, taps = np.arange(self.size)[:, None], np.arange(self.taps) * self.dilation - self.pad
        if transposed:
            place = y * self.stride + taps
            return ((place >= 0) & (place < self.outputs)).astype(np.int64)
        place = y - taps
        quotient, rest = np.divmod(place, self.stride)
        met = (rest == 0) & (quotient >= 0) & (quotient < self.outputs)
        return np.asarray(met, np.int64)


def fan_out(taps: Integers, axes: Sequence[Axis], transposed: bool = False) -> Integers:
    """How many weights each input of a convolution meets: Σ_k taps[c, k]·Π_axis uses[y, k], int64 [C, size, …].

    taps: int64 [C, k, …], for every input channel and tap the number of output channels with a weight there. The
    operations of a batch are then Σ (inputs that are not zero) · fan_out; positions in the padding are not inputs.

    >>> fan_out(np.ones((1, 3), np.int64), [Axis(4, 4, 3, pad=1)]).tolist()
    [[2, 3, 3, 2]]
    """
    result = taps
    for axis in axes:  # contracts tap axis 1 and appends its position axis at the end
        result = np.tensordot(result, axis.uses(transposed), axes=([1], [1]))
    return result
