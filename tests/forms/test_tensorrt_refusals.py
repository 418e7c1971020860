"""What TensorRT does not take, refused with the node; and more levels than int8 has."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpass.errors import FormError
from graphpass.forms.integer.tensorrt import require_tensorrt
from graphpass.forms.registry import zeros_of
from tests.forms.test_tensorrt import DQ, Q, made


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    return made("concat", "rate", 4, form="integer", target="tensorrt")[0].proto


def first(proto: onnx.ModelProto, op: str, reads: Callable[[onnx.NodeProto], bool] = lambda each: True):
    return next(each for each in proto.graph.node if each.op_type == op and reads(each))


def stored(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(each for each in proto.graph.initializer if each.name == name)


def replaced(proto: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    stored(proto, name).CopyFrom(numpy_helper.from_array(values, name))


def is_weight(proto: onnx.ModelProto) -> Callable[[onnx.NodeProto], bool]:
    names = {each.name for each in proto.graph.initializer}
    return lambda each: each.input[0] in names


Mutant = Callable[[onnx.ModelProto], tuple[onnx.NodeProto, str]]


def changed(op: str, place: int, values: np.ndarray, what: str) -> Mutant:
    """Another constant as an input of the first node with this operator."""

    def mutate(proto: onnx.ModelProto) -> tuple[onnx.NodeProto, str]:
        each = first(proto, op)
        replaced(proto, each.input[place], values)
        return each, what

    return mutate


unsigned_zero = changed(Q, 2, np.zeros((), np.uint8), "zero point of uint8")
other_zero = changed(DQ, 2, np.ones((), np.int8), "zero point that is not 0")
no_scale = changed(Q, 1, np.zeros((), np.float32), "not above 0")


def no_zero(proto):
    each = first(proto, DQ)
    del each.input[2]
    return each, "not written as a constant"


def zeros_of_another_size(proto):
    each = first(proto, DQ, is_weight(proto))
    replaced(proto, each.input[2], np.zeros((), np.int8))
    return each, "zero point"


def scales_of_channels(proto):
    each = first(proto, Q)
    for name, dtype in zip(each.input[1:], (np.float32, np.int8), strict=True):
        replaced(proto, name, np.full(3, dtype == np.float32, dtype))
    return each, "scale for each channel"


def scales_along_the_wrong_axis(proto):
    each = first(proto, DQ, is_weight(proto))
    each.attribute[0].i = 1
    return each, "one for each channel"


def int32_bias(proto):
    each = first(proto, DQ, is_weight(proto))
    values = numpy_helper.to_array(stored(proto, each.input[0])).astype(np.int32)
    replaced(proto, each.input[0], values)
    return each, "constants of int32"


def moved_integers(proto):
    each = first(proto, Q)
    each.output[0], name = "before", each.output[0]
    move = helper.make_node("Identity", ["before"], [name], "move")
    proto.graph.node.insert(list(proto.graph.node).index(each) + 1, move)
    return move, "reads 'before', integers of 8 bits"


def integers_of_nobody(proto):
    each = first(proto, DQ, lambda one: not is_weight(proto)(one))
    each.input[0] = "x"
    return each, "which no QuantizeLinear makes"


def integers_as_output(proto):
    each = first(proto, Q)
    proto.graph.output.append(helper.make_tensor_value_info(each.output[0], TensorProto.INT8, None))
    return each, "output of the network"


def cast_to_integers(proto):
    proto.graph.node.append(helper.make_node("Cast", ["x"], ["bytes"], "cast", to=TensorProto.UINT8))
    return proto.graph.node[-1], "makes integers of 8 bits"


def other_domain(proto):
    proto.graph.node.append(helper.make_node("Gelu", ["x"], ["g"], "gelu", domain="com.microsoft"))
    return proto.graph.node[-1], "domain com.microsoft"


def integer_operator(proto):
    proto.graph.node.append(helper.make_node("QLinearMatMul", ["x"] * 8, ["q"], "product"))
    return proto.graph.node[-1], "computes on integers"


def inside_a_body(proto):
    """A branch of If holds a zero point that is not 0."""
    zero = helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones((), np.int8)))
    scale = helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.full((), 0.5, np.float32)))
    inner = helper.make_node(Q, ["x", "half", "one"], ["inner"], "inner")
    body = helper.make_graph([zero, scale, inner], "body", [], [helper.make_tensor_value_info("inner", 3, None)])
    proto.graph.node.append(helper.make_node("If", ["x"], ["if"], "if", then_branch=body, else_branch=body))
    return inner, "zero point that is not 0"


MUTANTS = [
    *(unsigned_zero, other_zero, no_zero, zeros_of_another_size, no_scale, scales_of_channels),
    *(scales_along_the_wrong_axis, int32_bias, moved_integers, integers_of_nobody, integers_as_output),
    *(cast_to_integers, other_domain, integer_operator, inside_a_body),
]


@pytest.mark.parametrize("mutate", MUTANTS)
def test_what_tensorrt_does_not_take_is_refused_with_the_node(proto, mutate):
    require_tensorrt(proto)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    culprit, what = mutate(copy)
    with pytest.raises(FormError) as refused:
        require_tensorrt(copy)
    assert f"node {culprit.name!r} ({culprit.op_type})" in refused.value.what and what in refused.value.what
    assert "--target" in refused.value.remedy


def test_the_usual_integer_form_is_refused():
    usual = made("concat", "rate", 4, form="integer")[0].proto
    with pytest.raises(FormError, match="uint8"):
        require_tensorrt(usual)


@pytest.mark.parametrize(("coding", "steps", "fits"), [("rate", 127, True), ("rate", 128, False), ("phase", 8, False)])
def test_more_levels_than_int8_has_are_refused_before_the_work(coding, steps, fits, monkeypatch):
    if fits:
        assert zeros_of(made("silu", coding, steps, form="integer", target="tensorrt")[0].proto)
        return
    monkeypatch.setattr("graphpass.conversion.calibrate", None)
    with pytest.raises(FormError, match=r"site '\w+' has \d+ levels, and int8 counts have 128") as refused:
        made("silu", coding, steps, form="integer", target="tensorrt")
    assert "--time-steps 127 or fewer with --coding rate, 7 or fewer with --coding phase" in refused.value.remedy


def test_a_plan_of_more_levels_is_refused():
    plan = made("concat", "phase", 8)[0].plan
    with pytest.raises(FormError, match="256 levels"):
        made("concat", "", 0, plan=plan, form="integer", target="tensorrt")
