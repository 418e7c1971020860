"""Curved activations: their values, and where they cross the borders between levels.

    n = #{k : f(x) ≥ k·θ − ψ}                         levels are even on the scale of f ...
      = #{k : x ≥ b_k} + #{k : x < c_k}               ... so every step of the neuron has a threshold of its own

A curved f falls, if it falls at all, up to its least point m and rises from there on. Border k is crossed at b_k on the
rising side, and on the falling side at c_k where f reaches it there at all:

    b_k = min {x ≥ m : f(x) ≥ k·θ − ψ}                b_1 ≤ b_2 ≤ …
    c_k = the x up to which, below m, f(x) ≥ k·θ − ψ  c_1 ≥ c_2 ≥ …

ReLU and the clips are not curved: levels that are even on f are even on x (graphpass/maths/neuron.py).
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Parameters = Mapping[str, Any]

CELLS = 1 << 20  # values that are searched side by side
_POINTS = 1024  # that the steepest slope of a curve is looked for at
_SPACING = 1 / 256  # of the table of erf
_SATURATED = 6.0  # from here on erf is 1


@dataclass(frozen=True)
class Curve:
    """y = f(x). value: f, elementwise, float64 or float32 as x is. least: m, −∞ where f rises throughout, +∞ where it
    falls throughout; a number, or one a channel, [C].
    """

    value: Callable[[Any], Any]
    least: Array | float

    def range(self, bottom: Array, top: Array) -> tuple[Doubles, Doubles]:
        """Least and largest f between bottom and top, [C]."""
        parts = (np.asarray(part, np.float64) for part in (self.least, bottom, top))
        least, bottom, top = np.broadcast_arrays(*parts)
        with np.errstate(all="ignore"):
            ends = self.value(bottom), self.value(top)
            low = self.value(np.clip(least, bottom, top))
        return np.minimum(low, np.minimum(*ends)), np.maximum(*ends)

    def inside(self, low: Array, high: Array) -> tuple[Floats, Floats]:
        """The x at which f reaches low and high on the rising side: float32 [C].

        −∞ for a low that the falling side reaches too: what lies beyond it is not all below low.
        """
        rising, falling = self.crossings(np.stack([low, high]))
        return np.where(falling[0] == -np.inf, rising[0], np.float32(-np.inf)), rising[1]

    def seen(self, x: Floats) -> Callable[[Floats, Floats], Floats]:
        """How much of a move p of z the curve shows: w = ((f(z + p) − f(z)) / p)² / s², at most 1, of z's shape.

        x: float32 [P, C]. s: the steepest slope of f between the least and the largest x of a channel.
        """
        points = np.linspace(x.min(0), x.max(0), _POINTS)
        with np.errstate(all="ignore"):
            steepest = np.nan_to_num(np.abs(np.diff(self.value(points), axis=0) / np.diff(points, axis=0))).max(0)

        def weight(z: Floats, move: Floats) -> Floats:
            with np.errstate(all="ignore"):
                slope = (self.value(z + move) - self.value(z)) / (move * steepest.astype(np.float32))
                return np.where(np.isfinite(slope), np.minimum(np.square(slope), 1), 1).astype(np.float32)

        return weight

    def scaled(self, u: float, v: float) -> "Curve":
        """f(u·x)/v: the same curve in other units of x and y."""
        return Curve(lambda x: self.value(x * x.dtype.type(u)) / x.dtype.type(v), self.least / u)

    def crossings(self, borders: Array) -> tuple[Floats, Floats]:
        """b and c of borders on the scale of f, ascending, float64 [K, C] or [K, 1]: both float32 [K, C].

        b = −∞ for a border that f is nowhere below, ∞ for one that the rising side does not reach; c = −∞ for one that
        the falling side does not reach, and where b = −∞.
        """
        borders = np.asarray(borders, np.float64)
        shape = np.broadcast_shapes(borders.shape, np.shape(self.least))
        least = np.broadcast_to(np.asarray(self.least, np.float64), shape)
        borders = np.broadcast_to(borders, shape)
        largest = float(np.finfo(np.float32).max)
        low, high = np.full(shape, -largest), np.full(shape, largest)
        start = np.clip(least, low, high)
        rising = _first(lambda x: self.value(x) >= borders, start, high)
        falling = _first(lambda x: ~(self.value(x) >= borders), low, start)
        with np.errstate(all="ignore"):
            always = self.value(start) >= borders
        # Nothing lies beyond the largest float: a side that starts there is none.
        rising = np.where(always, np.float32(-np.inf), np.where(start >= high, np.float32(np.inf), rising))
        falling = np.where((start <= low) | (falling <= np.float32(low)), np.float32(-np.inf), falling)
        # Where f is as flat as its rounding, crossings of two borders may change places.
        rising = np.maximum.accumulate(rising)
        falling = np.minimum.accumulate(np.where(always, np.float32(np.inf), falling))
        return rising, np.where(always, np.float32(-np.inf), falling)


def _first(holds: Callable[[Doubles], NDArray[np.bool_]], low: Doubles, high: Doubles) -> Floats:
    """The least float32 above low from which on `holds`, false before it; ∞ where it does not hold up to high."""
    below, above = _ordered(low.astype(np.float32)), _ordered(high.astype(np.float32)) + 1
    with np.errstate(all="ignore"):
        for _ in range(33):
            middle = (below + above) >> 1
            met = holds(_float(middle).astype(np.float64))
            below, above = np.where(met, below, middle), np.where(met, middle, above)
    found = _float(above)
    return np.where(above > _ordered(high.astype(np.float32)), np.float32(np.inf), found)


def _ordered(values: Floats) -> NDArray[np.int64]:
    """float32 as integers in the same order, without gaps."""
    bits = np.ascontiguousarray(values).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _float(ordered: NDArray[np.int64]) -> Floats:
    """What `_ordered` made integers of."""
    bits = np.where(ordered < 0, 0x80000000 | -ordered, ordered) & 0xFFFFFFFF
    return bits.astype(np.uint32).view(np.float32)


# ---- the curves


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _times_sigmoid(x: Any, alpha: float) -> Any:
    t = np.exp(-np.abs(alpha * x))
    return x * np.where(alpha * x >= 0, 1, t) / (1 + t)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _exponential(x: Any, alpha: float) -> Any:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


@functools.cache
def _table() -> tuple[Doubles, Doubles]:
    points = np.arange(0, _SATURATED + _SPACING, _SPACING)
    return np.array([math.erf(point) for point in points]), 2 / math.sqrt(math.pi) * np.exp(-points * points)


def erf(x: Any) -> Any:
    """erf(x) = 2/√π ∫₀ˣ exp(−t²) dt, to 1e-15: Taylor's series of five terms about the next point of a table."""
    size = np.fmin(np.abs(x, dtype=np.float64), _SATURATED)
    place = np.rint(size / _SPACING).astype(np.int64)
    a, slope = _SPACING * place, _table()[1][place]
    d = size - a
    # The derivatives of erf behind the first are Hermite's polynomials times the first.
    series = d * (
        1 - d * (a - d * ((2 * a * a - 1) / 3 - d * (a * (2 * a * a - 3) / 6 - d * (4 * a**4 - 12 * a * a + 3) / 30)))
    )
    return np.where(np.isnan(x), x, np.copysign(_table()[0][place] + slope * series, x)).astype(x.dtype)


def _lowest(value: Callable[[Any], Any], low: float, high: float) -> float:
    """argmin f between two x, f falling and then rising: to 1e-9, where f is as flat as float64 tells."""
    for _ in range(120):
        one, two = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, two) if value(np.float64(one)) <= value(np.float64(two)) else (one, high)
    return (low + high) / 2


@functools.cache
def _minimum(kind: str) -> float:
    """argmin of a valley of one shape."""
    return _lowest(_VALLEYS[kind], -3.0, 0.0)


_VALLEYS: Mapping[str, Callable[[Any], Any]] = {
    "silu": lambda x: _times_sigmoid(x, 1.0),
    "gelu": lambda x: 0.5 * x * (1 + erf(x * math.sqrt(0.5))),
    "gelu_tanh": _gelu_tanh,
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "mish": lambda x: x * np.tanh(_softplus(x)),
}


def _valley(kind: str) -> Callable[[Parameters], Curve]:
    return lambda _: Curve(_VALLEYS[kind], _minimum(kind))


def _swish(found: Parameters) -> Curve | None:
    alpha = float(found["alpha"])
    if not alpha > 0:
        return None  # rises and then falls
    return Curve(lambda x: _times_sigmoid(x, alpha), _minimum("silu") / alpha)


def _rising(value: Callable[[Any], Any]) -> Callable[[Parameters], Curve]:
    return lambda _: Curve(value, -math.inf)


def _slopes(negative: Any, low: float = -math.inf, high: float = math.inf) -> Curve:
    """clip(x where x ≥ 0, else negative·x): a valley at 0 where the slope is below 0."""
    slope = np.asarray(negative, np.float64)

    def value(x: Any) -> Any:
        return np.clip(np.where(x < 0, slope.astype(x.dtype) * x, x), x.dtype.type(low), x.dtype.type(high))

    return Curve(value, np.where(slope < 0, 0.0, -np.inf))


def _leaky(found: Parameters) -> Curve:
    return _slopes(found["alpha"], found.get("low", -math.inf), found.get("high", math.inf))


def _elu(found: Parameters) -> Curve | None:
    return _scaled_elu(float(found["alpha"]), 1.0)


def _selu(found: Parameters) -> Curve | None:
    return _scaled_elu(float(found["alpha"]), float(found["gamma"]))


def _scaled_elu(alpha: float, gamma: float) -> Curve | None:
    if gamma == 0 or (gamma < 0 and alpha < 0):
        return None  # nothing, or a peak
    least = math.inf if gamma < 0 else 0.0 if alpha < 0 else -math.inf
    return Curve(lambda x: gamma * _exponential(x, alpha), least)


def _celu(found: Parameters) -> Curve | None:
    alpha = float(found["alpha"])
    if alpha == 0:
        return None
    return Curve(lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / alpha), x), -math.inf)


def _thresholded(found: Parameters) -> Curve | None:
    """x where x > α, else 0. Levels that are even on x would have none at 0 and one at α beside each other."""
    alpha = float(found["alpha"])
    return Curve(lambda x: np.where(x > alpha, x, x.dtype.type(0)), -math.inf) if alpha > 0 else None


def _shrink(found: Parameters) -> Curve | None:
    """x + β below −λ, x − β above λ, else 0."""
    size, bias = float(found["lambd"]), float(found["bias"])
    if not 0 <= size >= bias:
        return None  # falls at −λ and λ
    return Curve(
        lambda x: np.where(np.abs(x) > size, x - np.copysign(x.dtype.type(bias), x), x.dtype.type(0)), -math.inf
    )


CURVES: Mapping[str, Callable[[Parameters], Curve | None]] = {
    **{kind: _valley(kind) for kind in ("gelu", "gelu_tanh", "hard_swish", "mish")},
    "silu": _swish,
    "quick_gelu": _swish,
    "leaky_relu": _leaky,
    "prelu": lambda found: _slopes(np.ravel(found["slope"])),
    "elu": _elu,
    "celu": _celu,
    "selu": _selu,
    "sigmoid": _rising(_sigmoid),
    "tanh": _rising(np.tanh),
    "softplus": _rising(_softplus),
    "softsign": _rising(lambda x: x / (1 + np.abs(x))),
    "tanh_shrink": _rising(lambda x: x - np.tanh(x)),
    "log_sigmoid": _rising(lambda x: -_softplus(-x)),
    "shrink": _shrink,
    "thresholded_relu": _thresholded,
    "relu_squared": _rising(lambda x: np.square(np.maximum(x, 0))),
}


def curve_of(kind: str, parameters: Parameters) -> Curve | None:
    """The curve of an activation, by its kind and parameters as in graphpass.sites.activations; None where it is not
    curved, or rises before it falls.

    A slope of a prelu is one value, or one a channel, [C].
    """
    reader = CURVES.get(kind)
    return reader(parameters) if reader else None
