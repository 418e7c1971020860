"""Which constants float16 holds, and which types ONNX allows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper

from graphpass.graph.half import CUT, EXACT_ENOUGH, LARGEST, SMALLEST, half_constant, slots_of

FLOATS = arrays.arrays(np.float32, st.integers(1, 8), elements=st.floats(width=32))


@given(FLOATS, st.sampled_from([("Conv", 1), ("Add", 1), ("Div", 1), ("Mul", 0), ("Where", 2), ("Pow", 1)]))
def test_a_constant_is_rounded_or_something_is_said(values, reader):
    found = half_constant(values, *reader)
    if found.values is None:
        assert found.note and reader[0] not in CUT
        return
    assert found.values.dtype == np.float16 and found.values.shape == values.shape
    special = ~np.isfinite(values)
    np.testing.assert_array_equal(found.values[special], values[special].astype(np.float16))
    kept, size = found.values[~special].astype(np.float64), values[~special].astype(np.float64)
    assert np.isfinite(kept).all()
    if not found.note:
        # half a unit in the last place: of 11 bits, and below the normal numbers of the smallest one
        assert (np.abs(kept - size) <= np.maximum(np.abs(size) * 2.0**-11, SMALLEST / 2)).all()
        largest = np.abs(size).max(initial=0)
        assert largest == 0 or EXACT_ENOUGH <= largest <= LARGEST or reader[0] in CUT
    if reader == ("Div", 1):
        assert (kept[size != 0] != 0).all()


@pytest.mark.parametrize(
    ("values", "op", "number", "expected", "note"),
    [
        ([1e-5, 1.0], "Conv", 1, [1e-5, 1.0], ""),
        ([1e-9, 1.0], "Conv", 1, [0.0, 1.0], ""),
        ([65504.0], "Mul", 1, [65504.0], ""),
        ([65505.0], "Mul", 1, None, "6.55e+04 is beyond float16"),
        ([-3.4e38, 0.0], "Add", 1, [-65504.0, 0.0], "3.4e+38 becomes 65504"),
        ([np.inf, -np.inf], "Mul", 1, [np.inf, -np.inf], ""),
        ([1e-12], "Add", 1, [SMALLEST], "1e-12 becomes 5.96e-08"),
        ([1e-12], "Mul", 1, None, "1e-12 is too small for float16"),
        ([1e-12, 1.0], "Add", 1, [0.0, 1.0], ""),
        ([1e-12, 1.0], "Div", 1, None, "1e-12 is too small for float16"),
        ([1e-12, 1.0], "Div", 0, [0.0, 1.0], ""),
        ([], "Mul", 1, [], ""),
        ([0.0], "Mul", 1, [0.0], ""),
    ],
)
def test_constants(values, op, number, expected, note):
    found = half_constant(np.array(values, np.float32), op, number)
    assert note in found.note and bool(note) == bool(found.note)
    if expected is None:
        assert found.values is None
    else:
        np.testing.assert_array_equal(found.values, np.array(expected, np.float16))


@pytest.mark.parametrize(
    ("node", "inputs", "outputs"),
    [
        (helper.make_node("Conv", list("xwb"), ["y"]), (True, True, True), (True,)),
        (helper.make_node("Resize", ["x", "r", "s", "t"], ["y"]), (True, False, False, False), (True,)),
        (helper.make_node("NonMaxSuppression", list("bsnit"), ["y"]), (False,) * 5, (False,)),
        (helper.make_node("LayerNormalization", list("xsb"), ["y", "m"]), (True, True, True), (True, False)),
        (helper.make_node("Concat", list("abcd"), ["y"], axis=1), (True,) * 4, (True,)),
        (helper.make_node("Range", list("abc"), ["y"]), (False,) * 3, (False,)),
        (helper.make_node("RandomNormal", [], ["y"], shape=[2]), (), (False,)),
        (helper.make_node("SequenceConstruct", ["x"], ["y"]), (False,), (False,)),
        (helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft"), (False,), (False,)),
    ],
)
def test_types_that_onnx_allows(node, inputs, outputs):
    found = slots_of(node, 21)
    assert (found.inputs, found.outputs) == (inputs, outputs)
    assert bool(found.reason) is not (all(outputs) and inputs[0] if inputs else False)
