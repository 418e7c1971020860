"""Where a model's tensors are; large weights set aside and put back."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphpass.graph import tensors
from graphpass.graph.inference import with_shapes
from graphpass.graph.tensors import all_tensors, dense, fits_a_message, with_weights, without_weights
from graphpass.graph.types import is_float, is_number, onnx_type, type_name
from tests.models import build, node, run

X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def test_every_place_is_looked_at() -> None:
    proto = build([node("Relu", "x", "y")], {"x": [2]}, {"y": [2]}, {"initialiser": WEIGHT})
    graph = proto.graph

    def tensor(name: str) -> TensorProto:
        return numpy_helper.from_array(WEIGHT, name)

    def constant(name: str) -> onnx.NodeProto:
        return node("Constant", "", f"out_{name}", value=tensor(name))

    graph.node.append(constant("in a node"))
    body = helper.make_graph([constant("in a body")], "b", [], [], [tensor("of a body")])
    graph.node.append(node("If", "x", "z", then_branch=body, else_branch=body))
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.float32([1]), "sparse"), numpy_helper.from_array(np.array([0]), "places"), [4]
    )
    graph.sparse_initializer.append(sparse)
    function = helper.make_function("d", "F", [], ["v"], [constant("in a function")], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("default", tensor("a default")))
    proto.functions.append(function)
    training = proto.training_info.add()
    training.algorithm.initializer.append(tensor("for training"))
    names = [each.name for each in all_tensors(proto)]
    assert sorted(set(names)) == sorted([
        "initialiser", "in a node", "in a body", "of a body", "sparse", "places", "in a function", "a default",
        "for training",
    ])  # fmt: skip


@pytest.mark.parametrize("held", ["initialiser", "constant"])
def test_large_weights_are_set_aside_and_put_back(monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    monkeypatch.setattr(tensors, "LARGE", 40)
    nodes = [node("MatMul", "x w", "h"), node("Add", "h b", "y")]
    small: dict[str, NDArray[np.float32]] = {"b": WEIGHT[0]}
    if held == "constant":
        nodes.insert(0, node("Constant", "", "w", value=numpy_helper.from_array(WEIGHT)))
    proto = build(nodes, {"x": ["N", 4]}, {"y": None}, small if held == "constant" else {**small, "w": WEIGHT})
    bare, weights = without_weights(proto)
    assert [each.name for each in weights] == ["w"] and [each.name for each in bare.graph.initializer] == ["b"]
    assert [each.name for each in bare.graph.input] == ["x", "w"]
    onnx.checker.check_model(bare)
    whole = with_weights(with_shapes(bare), weights)
    assert [each.name for each in whole.graph.input] == ["x"]
    np.testing.assert_array_equal(run(whole, X)[0], run(proto, X)[0])


def test_a_large_constant_that_is_an_output_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "LARGE", 40)
    nodes = [node("Constant", "", "w", value=numpy_helper.from_array(WEIGHT)), node("MatMul", "x w", "y")]
    bare, weights = without_weights(build(nodes, {"x": ["N", 4]}, {"y": None, "w": None}, {}))
    assert not weights and len(bare.graph.node) == 2


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_tensors_with_their_zeros(linear: bool) -> None:
    values = np.where(np.abs(WEIGHT) < 0.5, 0, WEIGHT).astype(np.float16)
    places = np.flatnonzero(values) if linear else np.argwhere(values)
    held = numpy_helper.from_array(values[values != 0], "w")
    found = dense(helper.make_sparse_tensor(held, numpy_helper.from_array(places.astype(np.int64)), values.shape))
    assert found.name == "w"
    np.testing.assert_array_equal(numpy_helper.to_array(found), values)


def test_sparse_tensors_of_other_indices() -> None:
    held = numpy_helper.from_array(np.float32([1]), "w")
    places = numpy_helper.from_array(np.zeros((1, 3), np.int64))
    with pytest.raises(ValueError, match="indices of shape"):
        dense(helper.make_sparse_tensor(held, places, [2, 2]))


def test_sizes_in_the_model_count_where_nothing_is_inferred() -> None:
    """A size that held for the exporter's example does not hold for others."""
    proto = build([node("Relu", "x", "h"), node("Wiggle", "h", "k", domain="com.microsoft"), node("Neg", "k", "y")],
                  {"x": ["N", 4]}, {"y": ["N", 4]}, {})  # fmt: skip
    del proto.graph.value_info[:]
    wrong, right = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "hk")
    proto.graph.value_info.extend([wrong, right])
    found = {value.name: value.type.tensor_type.shape.dim[0] for value in with_shapes(proto).graph.value_info}
    assert found["h"].dim_param == "N" and found["k"].dim_value == 1


def test_types() -> None:
    bfloat16 = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    assert is_number(np.float16) and is_number(np.dtype(bool)) and not is_number(None)
    assert not is_number(TensorProto.BFLOAT16) and not is_number(bfloat16) and not is_number(np.dtype(object))
    assert is_float(np.float64) and not is_float(np.int8) and not is_float(TensorProto.BFLOAT16)
    assert [onnx_type(each) for each in (np.float32, TensorProto.BFLOAT16, bfloat16)] == [1, 16, 16]
    assert [type_name(each) for each in (np.float32, TensorProto.BFLOAT16, np.dtype(np.int8))] == [
        "float32",
        "bfloat16",
        "int8",
    ]


@pytest.mark.slow  # it takes 5 GB for a moment
def test_a_model_of_more_than_2_gib_fits_no_message() -> None:
    proto = onnx.ModelProto()
    for number in range(3):
        proto.graph.initializer.add(name=str(number), data_type=TensorProto.UINT8, dims=[1])
    assert fits_a_message(proto) and not fits_a_message(proto, 10)
    for tensor in proto.graph.initializer:
        tensor.raw_data = bytes(2**30 * 3 // 4)
    assert not fits_a_message(proto)
