"""graphpass.maths.threads: the same bits on any number of threads."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from graphpass.maths.corrections import ends, refine
from graphpass.maths.threads import limited_threads, product, side_by_side, slices
from graphpass.maths.thresholds import least_error

COUNTS = (1, 2, 3, 0)


@given(st.integers(0, 5000), st.integers(1, 600))
def test_slices_cover_all_in_order(total, size):
    parts = slices(total, size)
    assert [k for part in parts for k in range(total)[part]] == list(range(total))
    assert max(part.stop - part.start for part in parts) <= size


def test_so_many_threads_work_side_by_side_and_blas_has_one():
    for count in (1, 2, 3):
        together = threading.Barrier(count)
        with limited_threads(count):
            assert side_by_side(lambda part, meet=together: meet.wait(30) * 0 + part, range(count)) == list(
                range(count)
            )
            assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_an_error_of_a_part_is_raised():
    with limited_threads(2), pytest.raises(ZeroDivisionError):
        side_by_side(lambda part: 1 / part, [1, 0, 2])


@pytest.mark.parametrize("shape", [(1, 700, 300, 40), (1, 1, 5, 1), (37, 20, 9, 3), (2, 0, 3, 4)])
def test_product_is_the_product(shape):
    groups, rows, inner, columns = shape
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(groups, rows, inner)), generator.normal(size=(groups, inner, columns))
    np.testing.assert_allclose(product(left, right, 128), left @ right, rtol=1e-12, atol=1e-12)
    mixed = product(left.astype(np.float32), right.astype(np.float32), 128)
    assert mixed.dtype == np.float32


@pytest.mark.parametrize(
    ("groups", "rows", "inputs", "channels"), [(1, 3000, 700, 90), (1, 400, 900, 70), (24, 3000, 9, 24)]
)
def test_corrections_and_thresholds_have_the_same_bits(groups, rows, inputs, channels):
    """In a narrow layer, one with more inputs than rows, and a depthwise one."""
    generator = np.random.default_rng(1)
    u = generator.normal(size=(groups, rows, inputs)).astype(np.float32)
    x = generator.normal(size=(rows, channels)).astype(np.float32)
    x_q, a = x + generator.normal(0, 0.3, x.shape).astype(np.float32), np.maximum(x, 0)
    found = []
    for count in COUNTS:
        with limited_threads(count):
            weight, bias = refine(u, x, x_q, lambda z: ends(least_error(z, a, 4), 4), rounds=3)
        found.append((weight.tobytes(), bias.tobytes()))
    assert len(set(found)) == 1
