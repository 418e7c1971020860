"""Fits of values of any size: what squares of float32 would lose is fitted in other units, and comes back.

    fit(x/u, a/v) = (θ/u, ψ/u, A/v, o/v)          u, v: powers of two, so that nothing is rounded

Squares of float32 end at 2^±63. Within 2^±BOUND u = v = 1, and nothing changes.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphpass.maths.curves import Curve
from graphpass.maths.thresholds import Levels

Array = NDArray[Any]
Floats = NDArray[np.float32]
BOUND = 40
LEAST = 2.0**-144  # float32 has too few digits for a smaller threshold, or none


class Rows(Protocol):
    """What a fit is made from: see graphpass.maths.methods.SiteSample."""

    @property
    def x(self) -> Floats: ...
    @property
    def x_snn(self) -> Floats: ...
    @property
    def a(self) -> Floats: ...
    @property
    def bottom(self) -> Array: ...
    @property
    def top(self) -> Array: ...
    @property
    def limits(self) -> tuple[float, float] | None: ...
    @property
    def curve(self) -> Curve | None: ...
    @property
    def window(self) -> tuple[float, float]: ...
    @property
    def largest(self) -> tuple[float, float] | None: ...


Sample = TypeVar("Sample", bound=Rows)


def unit_of(*arrays: Array | float) -> float:
    """A power of two near the largest finite magnitude in the arrays; 1 within 2^±BOUND.

    >>> unit_of(np.float32([0.5, 3])), unit_of(np.float32([1e20])) == 2.0**66
    (1.0, True)
    """
    largest = max((_largest(np.asarray(each)) for each in arrays), default=0.0)
    exponent = math.frexp(largest)[1] - 1 if largest > 0 else 0
    return 1.0 if abs(exponent) <= BOUND else 2.0**exponent


def _largest(array: Array) -> float:
    """The largest finite magnitude, 0 where there is none."""
    ends = float(array.min(initial=0)), float(array.max(initial=0))
    if all(map(math.isfinite, ends)):
        return max(-ends[0], ends[1])
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def in_units(fit: Callable[[Sample, int], Levels], same: Callable[[Sample], bool]) -> Callable[[Sample, int], Levels]:
    """The fit, in units of its sample. same: whether x and a are to have one unit, since a is x in parts."""

    def fitted(sample: Sample, levels: int) -> Levels:
        u, v = _units(sample, same)
        if u == v == 1.0:
            return fit(sample, levels)
        found = fit(_divided(sample, u, v), levels)
        threshold, gain = found.threshold * np.float32(u), np.float32(v)
        flat = threshold < LEAST
        return Levels(
            np.where(flat, np.float32(1), threshold),
            np.where(flat, np.float32(0), found.shift * np.float32(u)),
            np.where(flat, np.float32(0), found.amplitude * gain),
            np.where(flat, sample.a.mean(0), found.offset * gain),
        )

    return fitted


def corrected_in_units(
    correct: Callable[[Array, Sample, int, bool], tuple[Floats, Floats]], same: Callable[[Sample], bool]
) -> Callable[[Array, Sample, int, bool], tuple[Floats, Floats]]:
    """The correction ΔM, Δb of a layer from its inputs, in units of its sample and of these: ΔM·u/w, Δb·u."""

    def corrected(inputs: Array, sample: Sample, levels: int, refined: bool) -> tuple[Floats, Floats]:
        (u, v), w = _units(sample, same), unit_of(inputs)
        if u == v == w == 1.0:
            return correct(inputs, sample, levels, refined)
        weight, bias = correct(inputs / np.float32(w), _divided(sample, u, v), levels, refined)
        return (weight.astype(np.float64) * (u / w)).astype(np.float32), bias * np.float32(u)

    return corrected


def _units(sample: Sample, same: Callable[[Sample], bool]) -> tuple[float, float]:
    """Of x and of a."""
    x, a = (
        ([sample.x, sample.x_snn], [sample.a]) if sample.largest is None else ([sample.largest[0]], [sample.largest[1]])
    )
    u, v = unit_of(*x, sample.bottom, sample.top), unit_of(*a)
    return (max(u, v), max(u, v)) if same(sample) else (u, v)


def _divided(sample: Sample, u: float, v: float) -> Sample:
    limits = None if sample.limits is None else (sample.limits[0] / u, sample.limits[1] / u)
    return replace(
        sample,  # type: ignore[type-var]
        x=sample.x / np.float32(u), x_snn=sample.x_snn / np.float32(u), a=sample.a / np.float32(v),
        bottom=sample.bottom / np.float32(u), top=sample.top / np.float32(u), limits=limits, largest=None,
        window=(sample.window[0] / u, sample.window[1] / u),
        curve=sample.curve.scaled(u, v) if sample.curve else None,
    )  # fmt: skip
