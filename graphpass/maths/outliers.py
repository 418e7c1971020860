"""Rare values far beyond all others: a second neuron a channel takes what lies outside the levels of the first.

    y = y₁(x) + y₂(x − clip(x, low, high))        low = o₁, high = A₁·L + o₁: the ends of the first neuron's levels

One neuron has to choose between fine levels for the many and a range for the few. In language models a few values of a
gate reach forty times all others, and everything depends on them.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.maths.threads import side_by_side, slices
from graphpass.maths.thresholds import Levels, joined, largest, rows_at_random, squared_error

Array = NDArray[Any]
Floats = NDArray[np.float32]

SHARES = 2.0 ** -np.arange(1, 8)  # of the range of x that the first neuron may keep
MARGIN = 2.0  # times what lies beyond it: outliers of other data may be larger, and much depends on them
PAYS = 1 / 4  # of the error of one neuron: what one more step of the phase code leaves
FINE = 256  # levels that this is judged at, so that the same sites have two neurons at any T
ROWS = 2048  # that the ranges are chosen on, at most
WIDTH = 256  # channels that are searched at once, and that decide whether two neurons pay
SILENT = 2.0**100  # a threshold that no value reaches


def bounds(levels: Levels, count: int) -> tuple[Floats, Floats]:
    """The ends of what a neuron with so many levels tells apart: float32 [C]."""
    return levels.offset, levels.amplitude * np.float32(count - 1) + levels.offset


def beyond(x: Array, levels: Levels, count: int) -> Array:
    """x − clip(x, low, high): what a neuron leaves of x, 0 within its range. x: [P, C]."""
    rest: Array = x - np.clip(x, *bounds(levels, count))
    return rest


def sum_of(x: Array, near: Levels, far: Levels, count: int) -> Floats:
    """y₁(x) + y₂(x − clip(x, low, high)). x: [P, C]."""
    return near.output(x, count) + far.output(beyond(x, near, count), count)


def split(x: Floats, whole: Levels, count: int) -> tuple[Levels, Levels] | None:
    """Two neurons a channel with so many levels each; None where one more step of the phase code does as much, or where
    the levels are too few.

    x: float32 [P, C], what the neurons stand for. whole: the one neuron; a channel keeps it where two are no better,
    and its second neuron is silent.
    """
    ends = x.min(0), x.max(0)
    x = x[rows_at_random(len(x), min(len(x), ROWS))]
    some = rows_at_random(x.shape[1], min(x.shape[1], WIDTH))
    few = ends[0][some], ends[1][some]
    one, two = _split(x[:, some], few, largest(few[1], FINE, few[0]), FINE)[2]
    shares = np.divide(two, one, out=np.ones_like(one), where=(one > 0) & (two > 0))
    if not np.log(shares).mean() < math.log(PAYS):
        return None

    def search(part: slice) -> tuple[Levels, Levels, Array]:
        levels = Levels(*(values[part] for values in vars(whole).values()))
        return _split(x[:, part], (ends[0][part], ends[1][part]), levels, count)

    near, far, _ = zip(*side_by_side(search, slices(x.shape[1], WIDTH)), strict=True)
    found = joined(near), joined(far)
    return found if found[1].amplitude.any() else None


def _split(x: Floats, ends: tuple[Floats, Floats], whole: Levels, count: int) -> tuple[Levels, Levels, Array]:
    """Both neurons of some channels, and the errors of one and of two, [2, C]. ends: the least and largest x, [C]."""
    alone = squared_error(whole.output(x, count), x)
    near, far, error = whole, _far(np.zeros_like(ends[0]), np.zeros_like(ends[1]), count), alone
    centre = np.median(x, axis=0)
    for share in SHARES:
        first = largest(centre + share * (ends[1] - centre), count, centre + share * (ends[0] - centre))
        low, high = bounds(first, count)
        second = _far(np.maximum(low - ends[0], 0), np.maximum(ends[1] - high, 0), count)
        left = squared_error(sum_of(x, first, second, count), x)
        better = left < error
        near, far = (_where(better, *pair) for pair in ((first, near), (second, far)))
        error = np.where(better, left, error)
    return near, far, np.stack([alone, error])


def _where(chosen: NDArray[np.bool_], one: Levels, other: Levels) -> Levels:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return Levels(*(np.where(chosen, *pair) for pair in pairs))


def _far(below: Floats, above: Floats, count: int) -> Levels:
    """Levels MARGIN times as far as x lies below and above the first neuron's range, [C] each.

    One of them is 0, and a power of two: one spike.
    """
    low, high = (MARGIN * np.asarray(end, np.float64) for end in (below, above))
    zeros = np.array([0, *(2**power for power in range(count.bit_length()) if 2**power < count - 1)])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.maximum(np.where(low > 0, low / zeros, 0), high / (count - 1 - zeros))
    zero = zeros[steps.argmin(0), 0]
    step = steps.min(0)
    step = np.where(np.isfinite(step) & (step >= np.finfo(np.float32).tiny), step, 0)
    theta = np.where(step > 0, step, SILENT)
    parts = (theta, np.where(step > 0, step * (zero + 0.5), 0), step, -step * zero)
    return Levels(*(part.astype(np.float32) for part in parts))
