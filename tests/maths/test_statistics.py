"""Streaming statistics: any split and any order answer as all rows at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpass.maths.statistics import empty, merge, update

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


def rows_of(values):
    return np.array(values, np.float32)[:, None]


@given(st.lists(VALUES, min_size=1, max_size=4), st.randoms())
@settings(max_examples=60, deadline=None)
def test_split_and_order_do_not_matter(batches, random):
    everything = update(empty(1), np.concatenate([rows_of(b) for b in batches]))
    shuffled = [update(empty(1), rows_of(b)) for b in batches]
    random.shuffle(shuffled)
    merged = empty(1)
    for part in shuffled:
        merged = merge(part, merged)
    assert merged.rows == everything.rows
    for name in ("least", "largest", "histogram"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(everything, name))
    # a float64 sum of at most 160 values up to 1e6: rounding below 160·1e6·2^-52
    np.testing.assert_allclose(merged.mean, everything.mean, rtol=0, atol=1e-7)


@given(VALUES, st.floats(0, 100))
@settings(max_examples=200, deadline=None)
def test_percentiles_are_within_the_documented_error(values, percent):
    x = rows_of(values)
    found = float(update(empty(1), x).percentile(percent)[0])
    exact = float(np.percentile(x[:, 0], percent, method="inverted_cdf"))
    assert abs(found - exact) <= max(abs(exact) / 32, 2.0**-24)


def test_mean_and_ends():
    x = np.random.default_rng(0).standard_normal((1000, 3)).astype(np.float32)
    seen = update(update(empty(3), x[:300]), x[300:])
    np.testing.assert_allclose(seen.mean, x.mean(0, dtype=np.float64), rtol=0, atol=1e-12)  # float64 sums
    np.testing.assert_array_equal(seen.percentile(0), x.min(0))
    np.testing.assert_array_equal(seen.percentile(100), x.max(0))


def test_no_rows():
    nothing = update(empty(2), np.zeros((0, 2), np.float32))
    assert nothing.rows == 0
    assert nothing.mean.tolist() == [0, 0]
    assert nothing.percentile(50).tolist() == [0, 0]


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-30, -1e-30, 3e8, -3e8])
def test_values_outside_the_histogram_are_held_by_the_ends(value):
    seen = update(empty(1), np.full((5, 1), value, np.float32))
    assert seen.percentile(50)[0] == np.float32(value)
