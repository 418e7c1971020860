import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphpass.maths.rounding import rounded_together

HALF = 0.5 + 1e-9


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-100, 100))
    )
)
def test_errors_of_a_kernel_and_of_an_output_cancel(weights):
    errors = weights - rounded_together(weights, 127)
    assert (np.abs(errors) <= 1 + 1e-9).all()
    assert (np.abs(errors.sum((1, 2))) <= HALF).all()
    assert (np.abs(errors.sum(2)) <= 1 + 1e-9).all()  # a kernel may pay for its output


@pytest.mark.parametrize("taps", [1, 9])
def test_what_inputs_have_in_common_costs_less_than_by_rounding_to_the_nearest(taps):
    random = np.random.default_rng(0)
    weights = random.normal(0, 30, (50, 64, taps)).clip(-127, 127)
    counts = random.uniform(1, 3, (200, 64, 1)) + random.normal(0, 0.1, (200, 64, taps))  # neighbours are alike

    def distance(whole):
        return np.sqrt(np.square(np.einsum("oik,nik->no", weights - whole, counts)).mean())

    assert distance(rounded_together(weights, 127)) < 0.6 * distance(np.rint(weights))


def test_whole_weights_and_the_largest_stay():
    weights = np.array([[[127.0, -127.0, 3.0]], [[126.6, 126.6, 126.6]]])
    whole = rounded_together(weights, 127)
    assert whole[0].tolist() == [[127, -127, 3]]
    assert sorted(whole[1, 0].tolist()) == [126, 127, 127]  # 379.8 in all: 380
    assert whole.dtype == np.int8


def test_weights_beyond_the_largest_by_rounding_are_cut_off():
    assert rounded_together(np.array([[[127.4, 127.4]]]), 127).tolist() == [[[127, 127]]]


def test_layers_without_inputs():
    assert rounded_together(np.zeros((3, 0, 1)), 127).shape == (3, 0, 1)
