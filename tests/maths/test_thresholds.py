"""Thresholds: the search against brute force, against `largest`, and on channels with nothing to find."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphpass.errors import CalibrationError
from graphpass.maths.thresholds import Levels, largest, least_error, percentile, regress, squared_error
from tests.properties import examples

ROUNDING = 1e-5  # of Σ(a − ā)²: float32 values summed in float64, some thousand rows


def spread(a):
    return squared_error(np.broadcast_to(a.mean(0), a.shape), a)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": gelu,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
    "minus two": lambda x: np.maximum(x, -2),
}


@given(
    st.integers(0, 2**31),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.sampled_from([2, 3, 5, 16, 256]),
    st.floats(0, 1),
    st.sampled_from([1e-3, 1.0, 1e4]),
)
@examples(40)
def test_least_error_is_never_worse_than_largest(seed, name, levels, noise, scale):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((300, 3)).astype(np.float32) * [1, 3, 0.1] + [0, -1, 0.5]
    a = (ACTIVATIONS[name](x) * scale).astype(np.float32)
    x_q = (x + noise * generator.standard_normal(x.shape)).astype(np.float32)
    found = squared_error(least_error(x_q, a, levels).output(x_q, levels), a)
    for lowest in (np.zeros(3), x_q.min(0)):
        spanned = squared_error(largest(x_q.max(0), levels, lowest).output(x_q, levels), a)
        assert (found <= spanned * (1 + ROUNDING) + ROUNDING * spread(a)).all()
    assert (found <= spread(a) * (1 + ROUNDING)).all()


@given(
    st.integers(0, 2**31),
    st.floats(-2, 2),
    st.sampled_from([1e-6, 1e-3, 0.03, 0.1, 0.3, 1.0, 10.0]),
    st.sampled_from([2, 3, 5, 9, 16, 64, 256]),
    st.sampled_from([None, 0]),
)
@example(44710, 0.0, 0.1, 3, None)  # steps of six bins
@example(509963508, 1.983115888270882, 1.0, 5, None)  # seven rows inside, and a search that hopes for too much
@example(1694285287, 1.99610352929575, 0.03, 3, None)  # a single row inside
@examples(60)
def test_a_clip_of_any_width_is_never_worse_than_levels_between_its_ends(seed, low, width, levels, zero):
    """The ends may lie in one bin of the histogram that the search sees."""
    low = low if zero is None else 0.0
    x = np.random.default_rng(seed).standard_normal((300, 4)).astype(np.float32) * [1, 3, 0.1, 1000]
    window = float(np.float32(low)), float(np.float32(low + width))
    x = x.astype(np.float32)
    a = np.clip(x, *np.float32(window))
    found = squared_error(least_error(x, a, levels, zero, window=window).output(x, levels), a)
    ends = np.clip(window, x.min(0)[:, None], x.max(0)[:, None]).T
    spanned = squared_error(largest(ends[1], levels, ends[0]).output(x, levels), a)
    assert (found <= spanned * (1 + ROUNDING) + ROUNDING * spread(a)).all()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("levels", [2, 3])
def test_least_error_meets_brute_force_over_every_pair_of_borders(name, levels):
    """Two borders are free for three levels, so the best of all pairs of sample values is the optimum."""
    x = np.sort(np.random.default_rng(0).standard_normal((60, 1)).astype(np.float32), axis=0)
    a = ACTIVATIONS[name](x).astype(np.float32)
    best = np.inf
    for borders in itertools.combinations(x[:, 0], levels - 1):
        n = sum((x[:, 0] >= b).astype(float) for b in borders)
        design = np.stack([n, np.ones_like(n)], axis=1)
        residual = a[:, 0] - design @ np.linalg.lstsq(design, a[:, 0], rcond=None)[0]
        best = min(best, float(residual @ residual))
    found = float(squared_error(least_error(x, a, levels).output(x, levels), a)[0])
    # 2 %: the search moves borders on a grid of 4096 bins and may stop beside the best of 1,770 pairs.
    assert best * (1 - ROUNDING) <= found <= best * 1.02


@pytest.mark.parametrize("levels", [2, 3])
def test_without_offset_the_search_meets_brute_force_through_zero(levels):
    x = np.sort(np.random.default_rng(4).standard_normal((60, 1)).astype(np.float32), axis=0)
    a = np.maximum(x, 0)
    best = np.inf
    for borders in itertools.combinations(x[:, 0], levels - 1):
        n = sum((x[:, 0] >= b).astype(float) for b in borders)
        gain = (n @ a[:, 0]) / (n @ n)
        best = min(best, float(((a[:, 0] - gain * n) ** 2).sum()))
    found = least_error(x, a, levels, zero=0)
    assert found.offset.tolist() == [0]
    left = float(squared_error(found.output(x, levels), a)[0])
    # 2 %, as above
    assert best * (1 - ROUNDING) <= left <= best * 1.02


@pytest.mark.parametrize("zero", [None, 0])
def test_two_values_get_the_first_and_the_last_count(zero):
    """However rare one of them is: counts closer together would tell them apart as well, with a larger A."""
    share = np.array([0.0005, 0.002, 0.01, 0.1, 0.5, 0.9])
    x = (np.random.default_rng(0).random((4096, len(share))) < share).astype(np.float32)
    found = least_error(x, 2 * x, 256, zero)
    assert np.array_equal(found.count(x, 256), 255 * x)
    assert np.allclose(found.output(x, 256), 2 * x, atol=1e-5)


def test_many_levels_leave_little_error():
    x = np.random.default_rng(1).standard_normal((5000, 2)).astype(np.float32)
    for activation in (ACTIVATIONS["relu"], ACTIVATIONS["identity"]):
        a = activation(x).astype(np.float32)
        left = squared_error(least_error(x, a, 256).output(x, 256), a) / spread(a)
        # Uniform steps over ±4 σ leave (8/255)²/12 ≈ 8e-5 of the variance; half that for one sign.
        assert (left < 2e-4).all()


def test_regress_is_the_least_squares_fit():
    generator = np.random.default_rng(2)
    x = generator.standard_normal((200, 4)).astype(np.float32)
    a = np.maximum(x + 0.1 * generator.standard_normal(x.shape), 0).astype(np.float32)
    levels = regress(x, a, 5, np.full(4, 0.5), np.full(4, 0.25))
    n = levels.count(x, 5).astype(float)
    for channel in range(4):
        slope, constant = np.polyfit(n[:, channel], a[:, channel], 1)
        # float32 storage of the answer: 2^-24 relative, some summation on top.
        assert levels.amplitude[channel] == pytest.approx(slope, rel=1e-5)
        assert levels.offset[channel] == pytest.approx(constant, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_channels_that_do_not_move(levels):
    x = np.random.default_rng(3).standard_normal((50, 3)).astype(np.float32)
    a = np.maximum(x, 0)
    a[:, 0] = 0  # dead: nothing to tell
    x[:, 1], a[:, 1] = 0.25, 0.25  # constant
    found = least_error(x, a, levels)
    assert found.threshold[:2].tolist() == [1, 1]
    assert found.amplitude[:2].tolist() == [0, 0]
    assert found.offset[:2].tolist() == [0, 0.25]
    assert found.amplitude[2] > 0


def test_a_falling_activation_gets_its_mean():
    x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    found = least_error(x, -x, 4)
    assert found.amplitude[0] == 0
    assert found.offset[0] == pytest.approx(0, abs=1e-7)  # the mean of a symmetric sample, float64 sum


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=20),
    st.sampled_from([2, 4, 256]),
)
@examples(60)
def test_any_finite_values_give_finite_parameters(values, levels):
    x = np.array(values, np.float32)[:, None] * np.float32(1e-6)
    for found in (least_error(x, np.maximum(x, 0), levels), largest(x.max(0), levels, x.min(0))):
        assert all(np.isfinite(getattr(found, name)).all() for name in Levels.__annotations__)
        assert (found.threshold > 0).all()
        assert (found.amplitude >= 0).all()


def test_largest_is_qcfs():
    """θ·n = (max/L)·clip(floor(x·L/max + 1/2), 0, L) (Bu et al., ICLR 2022)."""
    x = np.linspace(-1, 5, 97, dtype=np.float32)[:, None]  # powers of two: exact borders
    expected = np.clip(np.floor(x * 4 / 4 + 0.5), 0, 4)
    np.testing.assert_array_equal(largest(np.array([4.0]), 5).output(x, 5), expected)


def test_largest_with_a_lower_end():
    x = np.array([[-2.0], [-0.9], [0.1], [2.0], [9.0]], np.float32)
    spanned = largest(np.array([2.0]), 5, np.array([-2.0]))
    assert spanned.output(x, 5).ravel().tolist() == [-2, -1, 0, 2, 2]


def test_percentile_leaves_the_tail_out():
    x = np.concatenate([np.linspace(0, 1, 999), [1000.0]])[:, None].astype(np.float32)
    cut = percentile(x, 5, 99.0, lowest=np.zeros(1))
    assert cut.threshold[0] == pytest.approx(0.25, rel=0.02)  # the 99th percentile of 0 … 1 is 0.99
    whole = percentile(x, 5, 100.0, lowest=np.zeros(1))
    assert whole.threshold[0] == 250


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    x = np.ones((4, 1), np.float32)
    with pytest.raises(CalibrationError, match="NaN"):
        least_error(np.where(np.arange(4)[:, None] == 2, bad, x), x, 4)
    with pytest.raises(CalibrationError, match="empty"):
        least_error(x[:0], x[:0], 4)


@pytest.mark.parametrize("value", [-3.0, 0.4, 1.46, 1000.0])
@pytest.mark.parametrize("levels", [2, 16])
def test_what_rounding_leaves_of_a_constant_is_constant(value, levels):
    """A dead channel: neurons fitted to float32's residue would fire at random, for nothing."""
    residue = np.random.default_rng(0).integers(-8, 9, (500, 1)) * np.spacing(np.float32(abs(value)))
    x = (value + residue).astype(np.float32)
    found = least_error(x, gelu(x).astype(np.float32), levels)
    assert (found.amplitude.item(), found.threshold.item()) == (0.0, 1.0)
    assert not found.count(x, levels).any()
    assert found.offset.item() == pytest.approx(gelu(value), rel=1e-4)
    assert largest(x.max(0), levels, x.min(0)).amplitude.item() == 0.0


def test_small_changes_of_a_large_value_are_no_residue():
    x = np.linspace(100, 100.1, 200, dtype=np.float32)[:, None]
    assert least_error(x, x, 16).amplitude.item() == pytest.approx(0.1 / 16, rel=0.2)


@pytest.mark.parametrize("levels", [3, 9, 256])
def test_the_order_of_rows_in_memory_changes_no_bit(levels):
    x = np.random.default_rng(6).standard_normal((700, 70)).astype(np.float32)
    a = np.maximum(x, 0)
    found = [least_error(order(x), order(a), levels) for order in (np.ascontiguousarray, np.asfortranarray)]
    assert all((one == other).all() for one, other in zip(*(vars(each).values() for each in found), strict=True))
