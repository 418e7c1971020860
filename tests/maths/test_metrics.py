"""graphpass.maths.metrics against definitions written out as loops."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphpass.maths import metrics
from graphpass.maths.metrics import (
    Agreement,
    Axis,
    Difference,
    Hits,
    Operations,
    SpikeCount,
    Spread,
    energy_pj,
    fan_out,
    label_ranks,
    predictions,
)

SCORES = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=st.integers(-3, 3).map(float))


def test_energy_is_the_sum_of_both_kinds_in_pj():
    assert energy_pj(Operations(1000, 0, 5000)) == pytest.approx(900.0, rel=1e-15)  # one rounding
    assert energy_pj(Operations(0, 1000, 5000)) == pytest.approx(4600.0, rel=1e-15)
    assert energy_pj(Operations(2, 3, 0)) == pytest.approx(2 * 0.9 + 3 * 4.6, rel=1e-15)


@given(SCORES, st.data())
def test_rank_is_the_place_in_a_stable_sort(scores, data):
    labels = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, scores.shape[1] - 1)))
    expected = [
        sorted(range(scores.shape[1]), key=lambda c: (-row[c], c)).index(label)
        for row, label in zip(scores, labels, strict=True)
    ]
    assert label_ranks(scores, labels).tolist() == expected
    assert ((label_ranks(scores, labels) == 0) == (predictions(scores) == labels)).all()


def test_a_score_that_is_nan_is_never_a_hit():
    scores = np.array([[np.nan, 0.1], [0.2, np.nan]])
    assert predictions(scores).tolist() == [1, 0]
    assert Hits().update(scores, np.array([0, 0])) == Hits(2, 1, 1)


def test_one_column_is_the_probability_of_class_one():
    scores = np.float32([[0.5], [0.49], [0.9]])
    assert predictions(scores).tolist() == [1, 0, 1]
    assert Hits().update(scores, np.array([1, 1, 1])).top1 == 2


@given(SCORES, st.data())
def test_hits_and_agreement_do_not_depend_on_the_batches(scores, data):
    labels = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, scores.shape[1] - 1)))
    cut = data.draw(st.integers(0, len(scores)))
    whole = Hits().update(scores, labels)
    assert Hits().update(scores[:cut], labels[:cut]).merge(Hits().update(scores[cut:], labels[cut:])) == whole
    other = scores[:, ::-1]
    parts = Agreement().update(scores[:cut], other[:cut]).update(scores[cut:], other[cut:])
    assert parts == Agreement().update(scores, other)


def test_difference_of_hand_made_vectors():
    a, y = np.float32([[3, 4], [0, 1]]), np.float32([[3, 4], [1, 0]])
    difference = Difference().update(y, a)
    assert difference.relative_error == pytest.approx(np.sqrt(2 / 26), rel=1e-12)  # float64 rounding
    assert difference.cosine_similarity == pytest.approx(0.5, rel=1e-12)
    assert difference.centred_error == pytest.approx(2 / (26 - 64 / 4), rel=1e-12)


def test_an_error_of_the_spread_by_hand():
    """c = (10, 10): Σ(y − a)² = 2, Σ(a − c)² = 8."""
    a, y = np.float32([[12, 10], [8, 10]]), np.float32([[12, 11], [9, 10]])
    middle = a.mean(0, dtype=np.float64)
    known = Difference().update(y, a, middle)
    assert known.error_of_spread == pytest.approx(0.5, rel=1e-12)
    assert known.relative_error == pytest.approx(np.sqrt(2 / 408), rel=1e-12)
    parts = Difference().update(y[:1], a[:1], middle).merge(Difference().update(y[1:], a[1:], middle))
    assert parts == known
    for unknown in (Difference(), Difference().update(y, a), known.update(y, a), Difference().update(y, a, middle[:1])):
        assert unknown.error_of_spread is None


def test_numbers_without_axes_are_one_sample():
    difference = Difference().update(np.float32(3), np.float32(2)).update(np.array(1.0), np.array(4.0))
    assert (difference.samples, difference.values) == (2, 2)
    assert difference.relative_error == pytest.approx(np.sqrt(10 / 20), rel=1e-12)  # float64 rounding


def test_large_tensors_are_compared_some_samples_at_a_time(monkeypatch):
    y, a = np.random.default_rng(0).normal(size=(2, 7, 3, 5)).astype(np.float32)
    whole = Difference().update(y, a)
    monkeypatch.setattr(metrics, "BLOCK", 30)
    parts = Difference().update(y, a)
    assert (parts.samples, parts.values) == (whole.samples, whole.values) == (7, 105)
    for name in ("relative_error", "centred_error", "cosine_similarity"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)  # float64 rounding


def test_differences_without_a_reference_have_no_value():
    zero = Difference().update(np.ones((1, 2)), np.zeros((1, 2)))
    assert (zero.relative_error, zero.centred_error, zero.cosine_similarity) == (None, None, 0.0)
    assert Difference().update(np.zeros((1, 2)), np.zeros((1, 2))).cosine_similarity == 1.0
    assert Difference().update(np.ones((1, 3)), np.full((1, 3), 0.1)).centred_error is None
    assert (Difference().cosine_similarity, Agreement().fraction, SpikeCount().rate) == (None, None, None)


@given(hnp.arrays(np.float64, st.integers(2, 12), elements=st.floats(-100, 100)), st.data())
def test_noise_of_a_mean_is_its_standard_error_however_the_samples_are_cut(x, data):
    whole = Spread().add(x, np.ones(len(x)))
    assert whole.noise == pytest.approx(x.std(ddof=1) / np.sqrt(len(x)), rel=1e-6, abs=1e-6)
    cut = data.draw(st.integers(0, len(x)))
    parts = [Spread().add(each, np.ones(len(each))) for each in (x[:cut], x[cut:])]
    assert parts[0].merge(parts[1]) == parts[1].merge(parts[0]) == whole
    assert parts[0].merge(parts[1]).noise == whole.noise


def test_noise_of_too_few_samples_is_unknown_and_that_of_huge_ones_infinite():
    assert Spread().noise is None and Spread().add(np.array([3.0]), np.ones(1)).noise is None
    assert Spread().add(np.array([3.0, 0.0]), np.array([1.0, 0.0])).noise is None  # the second sample counts nothing
    assert Spread().add(np.array([np.nan, 1.0]), np.ones(2)).noise is None
    for huge in ([1.2e154, -1.2e154, 0.0], [1e155, 0.0], [1e200, 1.0]):
        assert Spread().add(np.array(huge), np.ones(len(huge))).noise == math.inf


def test_rate_and_sparsity_are_counts_over_places():
    count = SpikeCount(3, 8).merge(SpikeCount(1, 8))
    assert (count.rate, count.sparsity) == (0.25, 0.75)


@given(
    size=st.integers(1, 9),
    taps=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    pad=st.integers(0, 3),
    transposed=st.booleans(),
)
def test_uses_is_the_loop_over_outputs(size, taps, stride, dilation, pad, transposed):
    reach = (taps - 1) * dilation + 1
    outputs = (size - 1) * stride + reach - 2 * pad if transposed else (size + 2 * pad - reach) // stride + 1
    if outputs < 1:
        return
    expected = np.zeros((size, taps), np.int64)
    for o, k in itertools.product(range(outputs), range(taps)):
        for y in range(size):
            meets = y * stride + k * dilation - pad == o if transposed else o * stride + k * dilation - pad == y
            expected[y, k] += meets
    assert (Axis(size, outputs, taps, stride, dilation, pad).uses(transposed) == expected).all()


def test_fan_out_of_two_axes_keeps_their_order():
    taps = np.arange(6).reshape(1, 2, 3)
    axes = (Axis(3, 2, 2), Axis(4, 2, 3))
    expected = np.zeros((1, 3, 4), np.int64)
    for oy, ox, ky, kx in itertools.product(range(2), range(2), range(2), range(3)):
        expected[0, oy + ky, ox + kx] += taps[0, ky, kx]
    assert (fan_out(taps, axes) == expected).all()
