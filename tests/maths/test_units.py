"""Fits of values of any size are those of values of the usual size, in other units."""

import numpy as np
import pytest

from graphpass.maths.methods import METHODS, SiteSample
from graphpass.maths.units import BOUND, unit_of

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((600, 3)).astype(np.float32)
FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "clip": lambda x: np.clip(x, -0.5, 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def sample(kind, u=1.0, v=1.0):
    """Rows of x in units of 1/u and of a in units of 1/v."""
    x_snn = X + np.float32(0.01) * np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
    x, x_snn, a = X * np.float32(u), x_snn * np.float32(u), FUNCTIONS[kind](X).astype(np.float32) * np.float32(v)
    return SiteSample(kind, x, x_snn, a, x.min(0), x.max(0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("exponent", [-130, -100, -66, 66, 110])
def test_thresholds_are_in_the_units_of_their_rows(method, kind, exponent):
    """Powers of two round nothing: where float32 has the result, it is the very same."""
    found = []
    for unit in (1.0, 2.0**exponent):
        found.append(METHODS[method].fit(sample(kind, unit, 1.0 if kind == "sigmoid" else unit), 16))
    unit = np.float32(2.0**exponent)
    gain = np.float32(1) if kind == "sigmoid" else unit
    one, two = found
    for name, factor in (("threshold", unit), ("shift", unit), ("amplitude", gain), ("offset", gain)):
        expected = getattr(one, name) * factor
        # below 2^-126 float32 has fewer digits
        np.testing.assert_allclose(getattr(two, name), expected, rtol=0 if exponent > -100 else 2.0**-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("exponent", range(-149, -143))
def test_thresholds_smaller_than_any_float_are_those_of_a_constant(method, kind, exponent):
    unit = 2.0**exponent
    rows = sample(kind, unit, 1.0 if kind == "sigmoid" else unit)
    found = METHODS[method].fit(rows, 256)
    assert (found.threshold > 0).all()
    y = found.output(rows.x_snn, 256)
    room = 0.1 * (rows.a.max() - rows.a.min())
    assert rows.a.min() - room <= y.min() and y.max() <= rows.a.max() + room


def test_corrections_are_in_the_units_of_inputs_and_rows():
    inputs = RANDOM.standard_normal((1, 600, 5)).astype(np.float32)
    x = (inputs[0] @ RANDOM.standard_normal((5, 3))).astype(np.float32)
    x_snn = x + np.float32(0.1) * (inputs[0] @ RANDOM.standard_normal((5, 3))).astype(np.float32)

    def corrected(u, w):
        a = np.maximum(x, 0) * np.float32(u)
        scaled = [values * np.float32(u) for values in (x, x_snn)]
        rows = SiteSample("relu", *scaled, a, scaled[0].min(0), scaled[0].max(0))
        correct = METHODS["optimal"].correct
        assert correct is not None
        return correct(inputs * np.float32(w), rows, 16, True)

    weight, bias = corrected(1, 1)
    for u, w in ((2.0**66, 1.0), (2.0**-66, 1.0), (1.0, 2.0**66), (2.0**60, 2.0**-60), (2.0**100, 2.0**100)):
        other, shift = corrected(u, w)
        np.testing.assert_array_equal(other, (weight * (u / w)).astype(np.float32))
        np.testing.assert_array_equal(shift, bias * np.float32(u))


def test_values_of_the_usual_size_have_no_other_unit():
    assert unit_of(np.float32([2.0**BOUND, -1]), np.float32([np.inf, np.nan])) == 1.0
    assert unit_of(np.zeros(3, np.float32)) == unit_of() == 1.0
    assert unit_of(np.float32([0, -(2.0**70) * 1.5])) == 2.0**70
    assert unit_of(np.float32([2.0**-140])) == 2.0**-140
