"""The definition of the neuron: the properties that the conversion rests on."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphpass.errors import OptionError
from graphpass.maths.neuron import (
    CODINGS,
    LARGEST_COUNT,
    Neuron,
    count_of,
    levels_of,
    spike_train,
    step_weights,
    time_mean,
)
from tests.properties import examples

codings = st.sampled_from(CODINGS)
steps = st.integers(1, 8)
finite = st.floats(-1e6, 1e6, width=32)
positive = st.floats(np.float32(1e-3), np.float32(1e3), width=32)


def neuron(threshold, shift, amplitude, offset, levels):
    return Neuron(*(np.float32([value]) for value in (threshold, shift, amplitude, offset)), levels)


def counts(data, time_steps, coding, size=20):
    largest = levels_of(time_steps, coding) - 1
    return np.array(data.draw(st.lists(st.integers(0, largest), min_size=size, max_size=size)), np.uint8)


@given(st.data(), st.integers(1, LARGEST_COUNT))
def test_rate_trains_are_sorted(data, time_steps):
    """Once a step fires, every later step fires."""
    train = spike_train(counts(data, time_steps, "rate"), time_steps, "rate").astype(np.int8)
    assert (np.diff(train, axis=0) >= 0).all()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("time_steps", range(1, 9))
def test_every_count_survives_its_train(coding, time_steps):
    every = np.arange(levels_of(time_steps, coding), dtype=np.uint8)
    train = spike_train(every, time_steps, coding)
    assert train.shape == (time_steps, len(every))
    assert set(np.unique(train)) <= {0, 1}
    np.testing.assert_array_equal(count_of(train, coding), every)
    assert len(np.unique(train, axis=1).T) == len(every)


def test_the_longest_rate_train():
    every = np.arange(LARGEST_COUNT + 1, dtype=np.uint8)
    np.testing.assert_array_equal(count_of(spike_train(every, LARGEST_COUNT, "rate"), "rate"), every)


@given(arrays(np.float32, 50, elements=finite), positive, steps)
def test_sorting_is_the_comparison_of_each_step(x, threshold, time_steps):
    """s_t = 1 iff T·x + ψ ≥ (T − t + 1)·θ (paper), here (x + ψ)/θ ≥ T − t + 1."""
    cell = neuron(threshold, threshold / 2, 1, 0, time_steps + 1)
    train = spike_train(cell.count(x), time_steps, "rate")
    level = (x + cell.shift) / cell.threshold
    for t in range(1, time_steps + 1):
        np.testing.assert_array_equal(train[t - 1], level >= time_steps - t + 1)


def qcfs(x, threshold, time_steps):
    """(θ/T)·clip(floor(x·T/θ + 1/2), 0, T), as it is trained: float32."""
    level = np.floor(x * np.float32(time_steps) / threshold + np.float32(0.5))
    return threshold / np.float32(time_steps) * np.clip(level, 0, time_steps)


@given(st.integers(-8, 8), st.integers(1, 16), arrays(np.int16, 50))
def test_lossless_where_float32_is_exact(exponent, time_steps, numerators):
    """θ/T a power of two and x a multiple of θ/(64·T): no operation rounds, so ties agree as well."""
    step = np.float32(2.0**exponent)
    x = numerators.astype(np.float32) * (step / 64)
    np.testing.assert_array_equal(
        neuron(step, step / 2, step, 0, time_steps + 1).fire(x), qcfs(x, step * time_steps, time_steps)
    )


@given(arrays(np.float32, 50, elements=st.floats(-20, 20, width=32)), st.floats(0.125, 16, width=32), steps)
def test_lossless_up_to_ties(x, threshold, time_steps):
    """(x + θ/2)/θ and x·T/θq + 1/2 round differently: only an x on a border, to a few parts in 2^24, may tell."""
    theta = np.float32(threshold / time_steps)
    got = neuron(theta, theta / 2, theta, 0, time_steps + 1).count(x)
    expected = np.rint(qcfs(x, np.float32(threshold), time_steps) / theta)
    for one, n, m in zip(x, got, expected, strict=True):
        if n != m:
            level = Fraction(float(one)) * time_steps / Fraction(float(threshold)) + Fraction(1, 2)
            # θ, the sum (or product) and the quotient are each rounded once: 4 roundings of 2^-24 on each side
            assert abs(level - round(level)) <= 8 * Fraction(1, 2**24) * (abs(level) + 1)
            assert abs(int(n) - int(m)) == 1


@given(st.data(), codings, steps)
def test_folded_is_unrolled(data, coding, time_steps):
    """The decoded weighted sum of the train is what fires in one go."""
    x = data.draw(arrays(np.float32, 30, elements=finite))
    cell = neuron(*(data.draw(each) for each in (positive, finite, finite, finite)), levels_of(time_steps, coding))
    train = spike_train(cell.count(x), time_steps, coding)
    np.testing.assert_array_equal(cell.decode(count_of(train, coding)), cell.fire(x))


@given(st.data(), codings, steps)
def test_the_mean_of_the_train_is_the_count_by_its_largest(data, coding, time_steps):
    n = counts(data, time_steps, coding)
    mean = time_mean(spike_train(n, time_steps, coding), coding)
    # weights/total is rounded once, and up to 8 products are summed: 2^-24 each, of values up to 1
    np.testing.assert_allclose(mean, n / (levels_of(time_steps, coding) - 1), rtol=0, atol=1e-6)


@given(st.data(), codings, steps)
def test_the_largest_count_of_a_window_is_the_count_of_the_largest_input(data, coding, time_steps):
    """Max pooling in front of a neuron or behind it: the same, so a neuron may move across it."""
    x = data.draw(arrays(np.float32, (10, 4), elements=finite))
    cell = neuron(data.draw(positive), data.draw(finite), 1, 0, levels_of(time_steps, coding))
    np.testing.assert_array_equal(cell.count(x).max(1), cell.count(x.max(1)))


@given(st.data(), st.integers(1, 255))
def test_the_largest_of_rate_trains_is_the_train_of_the_largest(data, time_steps):
    n = counts(data, time_steps, "rate", 12).reshape(3, 4)
    trains = spike_train(n, time_steps, "rate")
    np.testing.assert_array_equal(trains.max(2), spike_train(n.max(1), time_steps, "rate"))


def test_the_largest_of_phase_trains_is_not_the_train_of_the_largest():
    n = np.array([1, 2], np.uint8)
    assert count_of(spike_train(n, 2, "phase").max(1), "phase") == 3


@pytest.mark.parametrize("trained", [1, 2, 4, 8])
@pytest.mark.parametrize("time_steps", [1, 3, 4, 7, 16, 64])
def test_no_mean_error_in_other_levels_than_trained(trained, time_steps):
    """x uniform in [0, θ]: E[y] = θ/2 whatever the number of levels, because ψ is half a threshold."""
    theta, points = 3.0, 200_000
    x = ((np.arange(points) + 0.5) * (theta / points)).astype(np.float32)
    step = np.float32(theta / time_steps)
    y = neuron(step, step / 2, step, 0, time_steps + 1).fire(x)
    error = float((y - qcfs(x, np.float32(theta), trained)).mean(dtype=np.float64))
    # at each of T + T̃ borders at most one of the evenly spaced points is counted one level (≤ θ) off
    assert abs(error) <= theta * (time_steps + trained) / points


@given(st.floats(0, 1, width=32), positive, st.integers(1, 64))
def test_error_inside_the_range_is_at_most_half_a_level(part, threshold, time_steps):
    x = np.float32([part * threshold])
    step = np.float32(threshold / time_steps)
    y = neuron(step, step / 2, step, 0, time_steps + 1).fire(x)
    # θ/T, the level and the product are rounded: 4 parts in 2^24 of θ
    assert abs(float(y[0]) - float(x[0])) <= threshold / (2 * time_steps) + 4 * threshold * 2.0**-24


@given(st.data(), codings, steps)
def test_time_mean_is_linear_and_keeps_constants(data, coding, time_steps):
    """The weights sum to 1 and every operator linear per step commutes with the mean."""
    small = st.floats(-8, 8, width=16)
    one, other = (data.draw(arrays(np.float32, (time_steps, 3), elements=small)) for _ in range(2))
    matrix = data.draw(arrays(np.float32, (3, 2), elements=small))
    # sums of 8 · 3 products of up to 8 · 8, each rounded to 2^-24
    close = {"rtol": 1e-5, "atol": 1e-3}
    np.testing.assert_allclose(
        time_mean(2 * one - other, coding), 2 * time_mean(one, coding) - time_mean(other, coding), **close
    )
    np.testing.assert_allclose(time_mean(one @ matrix, coding), time_mean(one, coding) @ matrix, **close)
    np.testing.assert_allclose(time_mean(np.repeat(one[:1], time_steps, 0), coding), one[0], **close)


@given(codings, steps)
def test_step_weights_sum_to_the_largest_count(coding, time_steps):
    assert step_weights(time_steps, coding).sum() == levels_of(time_steps, coding) - 1


@pytest.mark.parametrize(
    ("time_steps", "coding", "message"),
    [(0, "rate", "0 time-steps"), (256, "rate", "256 time-steps"), (9, "phase", "9 time-steps"),
     (-1, "phase", "-1 time-steps"), (4, "burst", "unknown coding 'burst'")],
)  # fmt: skip
def test_levels_that_do_not_exist(time_steps, coding, message):
    with pytest.raises(OptionError, match=message):
        levels_of(time_steps, coding)


def test_levels():
    assert [levels_of(255, "rate"), levels_of(8, "phase")] == [256, 256]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_broken_numbers(dtype):
    """NaN gives no spike and stays NaN where the output is a float; infinities are the ends."""
    cell = neuron(1, 0.5, 2, -1, 5)
    x = np.array([np.nan, np.inf, -np.inf, 0.5], dtype)
    assert cell.count(x).tolist() == [0, 4, 0, 1]
    y = cell.fire(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.array([np.nan, 7, -1, 1], dtype))


@examples(20)
@given(st.integers(0, 2), st.integers(0, 2**31))
def test_parameters_of_a_channel_act_on_its_channel(axis, seed):
    rng = np.random.default_rng(seed)
    shape = [1, 1, 1]
    shape[axis] = 4
    fields = [rng.uniform(0.5, 2, shape).astype(np.float32) for _ in range(4)]
    x = rng.normal(0, 3, (4, 4, 4)).astype(np.float32)
    whole = Neuron(*fields, 5).fire(x)
    for channel in range(4):
        one = Neuron(*(field.reshape(4)[channel : channel + 1] for field in fields), 5)
        np.testing.assert_array_equal(whole.take(channel, axis), one.fire(x.take(channel, axis)))
