"""Curved activations: every threshold is where f crosses the border of its level."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths.curves import CURVES, Curve, curve_of, erf
from graphpass.maths.neuron import ThresholdNeuron
from tests.properties import examples
from tests.sites.test_activations import FUNCTIONS

alphas = st.floats(0.05, 4)
signed = st.floats(-2, 2).filter(lambda value: abs(value) > 0.01)
PARAMETERS = {
    "silu": st.fixed_dictionaries({"alpha": alphas}),
    "quick_gelu": st.just({"alpha": 1.702}),
    "leaky_relu": st.fixed_dictionaries({"alpha": signed})
    | st.fixed_dictionaries({"alpha": alphas, "low": st.floats(-3, -0.1), "high": st.floats(0.1, 6)}),
    "prelu": st.lists(signed, min_size=3, max_size=3).map(lambda v: {"slope": np.float32(v).reshape(3, 1, 1)}),
    "elu": st.fixed_dictionaries({"alpha": signed}),
    "celu": st.fixed_dictionaries({"alpha": signed.filter(lambda value: abs(value) > 0.15)}),  # exp(x/α) in float32
    "thresholded_relu": st.integers(0, 31).map(
        lambda n: {"alpha": n / 8 + 1 / 64}
    ),  # float32, and not where a test looks
    "shrink": st.tuples(st.integers(0, 31), st.floats(0, 1)).map(
        lambda drawn: {"lambd": drawn[0] / 8 + 1 / 64, "bias": drawn[1] * (drawn[0] / 8 + 1 / 64)}
    ),
    "selu": st.fixed_dictionaries({"alpha": alphas, "gamma": signed})
    | st.fixed_dictionaries({"alpha": signed, "gamma": alphas}),
}


@st.composite
def curves(draw):
    """(f as the tests have it, the curve)."""
    kind = draw(st.sampled_from(sorted(CURVES)))
    parameters = draw(PARAMETERS.get(kind, st.just({})))
    plain = {name: np.ravel(value).astype(np.float64) for name, value in parameters.items()}

    def function(x):
        with np.errstate(over="ignore"):  # some multiply a large number by 0
            return FUNCTIONS[kind](np.asarray(x, np.float64), **plain)

    return function, curve_of(kind, parameters)


def test_erf():
    x = np.linspace(-8, 8, 4001)
    np.testing.assert_allclose(erf(x), [math.erf(value) for value in x], rtol=0, atol=4e-16)
    assert np.isnan(erf(np.float32([np.nan]))).all()


@given(curves(), st.integers(0, 2**31))
def test_values_and_ranges(curve, seed):
    function, found = curve
    x = np.sort(np.random.default_rng(seed).normal(0, 3, (64, 3)), axis=0)
    np.testing.assert_allclose(found.value(x), function(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.value(x.astype(np.float32)), function(x), rtol=1e-5, atol=1e-6)
    low, high = found.range(x[0], x[-1])
    dense = function(np.linspace(x[0], x[-1], 2001))
    assert (low <= dense.min(0) + 1e-12).all() and (high >= dense.max(0) - 1e-12).all()
    assert (low >= dense.min(0) - np.abs(np.diff(dense, axis=0)).max(0)).all()  # the least may lie between two points
    np.testing.assert_allclose(high, dense.max(0), atol=1e-12)


@given(curves(), st.integers(1, 255), st.floats(-2, 2), st.floats(0.01, 1), st.integers(0, 2**31))
def test_thresholds_count_the_levels_that_f_reaches(curve, steps, first, theta, seed):
    """n = #{k : x ≥ b_k} + #{k : x < c_k} = #{k : f(x) ≥ border k}, and steps that fire are nested."""
    function, found = curve
    borders = first + theta * np.arange(steps)[:, None]
    rising, falling = (np.broadcast_to(part, (steps, 3)) for part in found.crossings(borders))
    neuron = ThresholdNeuron(rising, falling, np.ones(3, np.float32), np.zeros(3, np.float32))
    random = np.random.default_rng(seed)
    near = [edge[random.integers(0, steps, 40)] for edge in (rising, falling)]
    x = np.concatenate([random.normal(0, 5, (80, 3)), *(np.nextafter(each, d) for each in near for d in (-9e9, 9e9))])
    x = np.clip(np.concatenate([x, *near]), -1e30, 1e30).astype(np.float32)
    y = np.broadcast_to(function(x), x.shape)
    expected = (y[None] >= borders[:, None]).sum(0)
    close = (np.abs(y[None] - borders[:, None]) <= 1e-9 * np.maximum(1, np.abs(borders[:, None]))).any(0)
    counts = neuron.count(x)
    assert (counts == expected)[~close].all()
    fires = (x[None] >= rising[:, None]) | (x[None] < falling[:, None])
    assert (fires[1:] <= fires[:-1]).all()
    assert not ((x[None] >= rising[:, None]) & (x[None] < falling[:, None])).any()


@given(curves(), st.floats(-2, 1), st.floats(0.1, 3))
def test_inside_is_where_the_outer_levels_end(curve, first, width):
    """Beyond high f stays above; below low, where there is one, f stays below."""
    function, found = curve
    low, high = found.inside(np.full(3, first), np.full(3, first + width))
    x = np.linspace(-30, 30, 1201)[:, None] + np.zeros(3)
    y = np.broadcast_to(function(x), x.shape)
    assert (y >= first + width - 1e-6)[x >= high].all()
    assert (y <= first + 1e-6)[x < low].all()


def test_what_rises_and_then_falls_has_no_curve():
    for kind, parameters in (
        ("silu", {"alpha": -1.0}),
        ("selu", {"alpha": -1.0, "gamma": -1.0}),
        ("relu", {}),
        ("celu", {"alpha": 0.0}),
    ):
        assert curve_of(kind, parameters) is None


@pytest.mark.parametrize("unit", [2.0**-50, 2.0**50])
def test_a_curve_in_other_units(unit):
    curve = curve_of("silu", {"alpha": 1.0})
    scaled = curve.scaled(unit, unit)
    x = np.float32([-3, -1, 0, 1, 4])
    np.testing.assert_allclose(scaled.value(x), curve.value(x * np.float32(unit)) / unit, rtol=1e-6)


@examples(20)
@given(curves())
def test_infinite_currents_are_their_limits(curve):
    """x = ∞ gives all levels, as of even thresholds; x = −∞ those that f reaches there."""
    function, found = curve
    borders = np.linspace(-3, 3, 9)[:, None]
    rising, falling = found.crossings(borders)
    neuron = ThresholdNeuron(rising, falling, np.ones(1, np.float32), np.zeros(1, np.float32))
    shape = rising.shape[1:]
    assert (neuron.count(np.full(shape, np.nan, np.float32)) == 0).all()
    far = np.broadcast_to(function(np.full(shape, -1e30)), shape)
    steady = ~(np.abs(far - borders) < 1e-6).any(0)
    assert (neuron.count(np.full(shape, -np.inf, np.float32)) == (far >= borders).sum(0))[steady].all()


@pytest.mark.parametrize("kind", ["silu", "gelu", "sigmoid", "tanh", "elu", "mish"])
def test_what_a_curve_shows_of_a_move(kind):
    generator = np.random.default_rng(0)
    x = generator.normal(0, 2, (300, 3)).astype(np.float32)
    z, move = x + np.float32(0.1), generator.normal(0, 1, x.shape).astype(np.float32)
    move[0] = 0
    curve = curve_of(kind, {"alpha": 1.0})
    weight = curve.seen(x)(z, move)
    assert weight.dtype == np.float32 and weight.shape == x.shape
    assert 0 <= weight.min() < 0.2 and 0.8 < weight[1:].max() <= 1 and (weight[0] == 1).all()
    # the same of c·f(x/c), a curve in other units
    other = Curve(lambda v: curve.value(v / 4) * 4, -np.inf).seen(4 * x)(4 * z, 4 * move)
    np.testing.assert_allclose(other, weight, atol=1e-3)
