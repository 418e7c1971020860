"""Two neurons a channel where a few values reach far beyond all others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphpass.maths import outliers
from graphpass.maths.outliers import beyond, bounds, split, sum_of
from graphpass.maths.thresholds import largest, least_error, squared_error

Floats = NDArray[np.float32]


def gates(seed: int, rows: int = 2000, channels: int = 6) -> Floats:
    """Products such as SwiGLU's, and a few that are forty times as large."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, channels)) * np.maximum(random.normal(size=(rows, channels)), 0)
    x[:: rows // 5] *= 40
    return x.astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 5, 16, 64, 256]))
def test_two_neurons_are_no_worse_than_one_in_any_channel(seed, count):
    x = gates(seed)
    whole = least_error(x, x, count)
    pair = split(x, whole, count)
    if pair is None:
        assert count < 16
        return
    one, two = (squared_error(y, x) for y in (whole.output(x, count), sum_of(x, *pair, count)))
    assert (two <= one).all()
    assert count < 16 or two.sum() < 0.7 * one.sum()


def test_common_values_are_told_apart_more_finely():
    x = gates(0)
    whole = largest(x.max(0), 256, x.min(0))
    near, _ = split(x, whole, 256)
    finer = whole.amplitude / near.amplitude
    assert (finer > 1.9).all() and finer.max() > 7  # the ranges are halved again and again


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace"])
def test_no_second_neuron_where_one_step_more_does_as_much(kind):
    random = np.random.default_rng(0)
    x = getattr(random, kind)(size=(4000, 5)).astype(np.float32)
    for count in (16, 256):
        assert split(x, largest(x.max(0), count, x.min(0)), count) is None


def test_nothing_beyond_is_exactly_0_and_at_most_one_spike():
    x = gates(1)
    for count in (4, 16, 256):
        near, far = split(x, largest(x.max(0), count, x.min(0)), count)
        inside = np.linspace(*bounds(near, count), 50).astype(np.float32)
        rest = beyond(inside, near, count)
        np.testing.assert_allclose(rest, 0, atol=1e-5 * np.abs(x).max())  # the ends, rounded
        zeros = far.count(np.zeros_like(rest), count)
        assert (np.bitwise_count(zeros) <= 1).all()
        assert (far.output(np.zeros_like(rest), count) == 0).all()
        np.testing.assert_array_equal(far.count(rest, count), zeros)


def test_values_twice_as_far_as_any_that_was_seen_are_still_told_apart():
    x = gates(2)
    pair = split(x, largest(x.max(0), 256, x.min(0)), 256)
    farther = beyond(x, pair[0], 256) + x  # twice as far beyond the first neuron's range
    near, far = pair
    half = far.amplitude / 2 + near.amplitude / 2
    assert (np.abs(sum_of(farther, *pair, 256) - farther) <= half * 1.001).all()


def test_a_channel_that_one_neuron_serves_keeps_it_and_the_second_is_silent():
    x = np.concatenate([gates(3), np.full((2000, 1), 7, np.float32)], axis=1)
    whole = largest(x.max(0), 64, x.min(0))
    near, far = split(x, whole, 64)
    for part in vars(near):
        assert getattr(near, part)[-1] == getattr(whole, part)[-1]
    for value in (-3e38, -1, 0, 1, 3e25):
        assert far.count(np.full((1, 7), value, np.float32), 64)[0, -1] == 0
    assert far.amplitude[-1] == far.offset[-1] == 0


def test_wide_sites_are_searched_in_parts_with_the_same_result(monkeypatch):
    x = gates(5, channels=10)
    whole = largest(x.max(0), 16, x.min(0))
    found = split(x, whole, 16)
    monkeypatch.setattr(outliers, "WIDTH", 3)
    for one, other in zip(found, split(x, whole, 16), strict=True):
        for part in vars(one):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
