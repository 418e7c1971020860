"""Probabilities of tokens against sums written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphpass.maths.tokens import divergences, log_softmax

LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-100, 100, width=32)
)


@given(LOGITS)
def test_log_softmax_is_the_logarithm_of_shares(logits):
    for row, found in zip(logits.tolist(), log_softmax(logits), strict=True):
        total = math.fsum(math.exp(x) for x in row)
        expected = [x - math.log(total) for x in row]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)  # float64 rounding of x up to 100


@given(LOGITS, st.data())
def test_divergence_is_the_expected_logarithm_of_the_ratio(logits, data):
    other = data.draw(hnp.arrays(np.float32, logits.shape, elements=st.floats(-20, 20, width=32)))
    p, q = np.exp(log_softmax(logits)), np.exp(log_softmax(other))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(p > 0, p * np.log(p / q), 0.0).sum(1)
    np.testing.assert_allclose(divergences(log_softmax(logits), log_softmax(other)), expected, rtol=1e-9, atol=1e-12)
    assert (divergences(log_softmax(logits), log_softmax(logits)) == 0).all()


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_logits_of_any_size_do_not_overflow(shift):
    np.testing.assert_allclose(log_softmax(np.array([shift, shift])), np.log(0.5), rtol=1e-15)


def test_tokens_that_are_ruled_out_have_no_probability_and_add_nothing():
    p = log_softmax(np.array([0.0, -np.inf]))
    assert p.tolist() == [0.0, -np.inf]
    assert divergences(p, log_softmax(np.zeros(2))) == pytest.approx(math.log(2), rel=1e-15)
    assert divergences(log_softmax(np.zeros(2)), p) == np.inf
    assert np.isnan(log_softmax(np.full(2, -np.inf))).all()
