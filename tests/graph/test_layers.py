"""What operators mean to spikes: weight layers, linear operators, reached layers, channel axes."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import helper, numpy_helper

from graphpass.graph import layers
from graphpass.graph.channels import channel_axis
from graphpass.graph.layers import (
    count_weights,
    data_inputs,
    is_linear,
    moves,
    passes,
    reached_layers,
    weight_layer,
    weight_layers,
)
from tests.models import FLOAT, build, node, run

CONV = np.ones((4, 4, 3, 3), np.float32)
MATRIX = np.ones((4, 4), np.float32)
IMAGE = {"x": ["N", 4, 8, 8]}


def graph_of(nodes, inputs=None, outputs=("y",), **constants):
    model = build(nodes, inputs or IMAGE, dict.fromkeys(outputs), constants)
    return gs.import_onnx(model)


def named(graph, name):
    return next(each for each in graph.nodes if each.name == name)


@pytest.mark.parametrize(
    ("op", "inputs", "found"),
    [
        ("Conv", "x c", (0, 1)),
        ("ConvTranspose", "x c", (0, 1)),
        ("Conv", "c x", None),
        ("Gemm", "x w", (0, 1)),
        ("Gemm", "w x", (1, 0)),
        ("Gemm", "x w b", (0, 1)),
        ("MatMul", "x w", (0, 1)),
        ("MatMul", "w x", (1, 0)),
        ("MatMul", "x b", None),
        ("MatMul", "x x", None),
        ("MatMul", "w w", None),
        ("Add", "x w", None),
    ],
)
def test_weight_layers(op, inputs, found):
    constants = {"c": CONV, "w": MATRIX, "b": np.ones(4, np.float32)}
    tensors = {"x": gs.Variable("x", np.float32), **{name: gs.Constant(name, v) for name, v in constants.items()}}
    layer = weight_layer(gs.Node(op, "layer", {}, [tensors[name] for name in inputs.split()], [gs.Variable("y")]))
    if found is None:
        assert layer is None
        return
    assert (layer.data_index, layer.weight_index) == found
    assert (layer.data.name, layer.output.name) == ("x", "y")
    assert (layer.bias is not None) == inputs.endswith("b")


def test_weights_are_counted_in_branches_too():
    """4×4 and 4×3 in a branch each, one 4×4 that is shared, and an LSTM of 4 units; no bias."""

    def branch(weight: np.ndarray, name: str) -> object:
        own = numpy_helper.from_array(weight, name)
        nodes = (
            [node("Constant", "", name, value=own), node("MatMul", f"x {name}", f"{name}_y", name)]
            if weight.shape[1] == 3
            else [node("MatMul", f"x {name}", f"{name}_y", name)]
        )
        outputs = [helper.make_tensor_value_info(f"{name}_y", FLOAT, None)]
        return helper.make_graph(nodes, name, [], outputs, [] if weight.shape[1] == 3 else [own])

    branches = {"then_branch": branch(MATRIX, "p"), "else_branch": branch(np.ones((4, 3), np.float32), "q")}
    graph = graph_of(
        [
            node("If", "flag", "y", "choice", **branches),
            node("Gemm", "x w b", "g", "gemm"), node("Gemm", "g w", "z", "again"),
            node("Unsqueeze", "x axis", "s", "steps"), node("Unsqueeze", "kernels axis", "k", "k"),
            node("LSTM", "s k recurrence bias", "h", "lstm", hidden_size=4),
        ],
        {"x": ["N", 4]}, ("y", "z", "h"), flag=np.array(True), w=MATRIX, b=np.ones(4, np.float32), axis=np.array([0]),
        kernels=np.ones((16, 4), np.float32), recurrence=np.ones((1, 16, 4), np.float32),
        bias=np.ones((1, 32), np.float32),
    )  # fmt: skip
    assert count_weights(graph) == 16 + 12 + 16 + 64 + 64
    assert sum(layer.weight.values.size for layer in weight_layers(graph)) == 32


def test_a_bias_left_out_is_none():
    tensors = [gs.Variable("x"), gs.Constant("w", CONV), gs.Variable.empty()]
    assert weight_layer(gs.Node("Conv", "c", {}, tensors, [gs.Variable("y")])).bias is None


def test_operators_of_other_domains_are_no_weight_layers():
    inputs = [gs.Variable("x"), gs.Constant("w", CONV)]
    foreign = gs.Node("Conv", "c", {}, inputs, [gs.Variable("y")], domain="com.microsoft")
    assert weight_layer(foreign) is None
    assert not passes(gs.Node("Add", "a", {}, inputs, [gs.Variable("y")], domain="com.microsoft"))


def test_integer_weights_are_no_weights():
    inputs = [gs.Variable("x"), gs.Constant("w", MATRIX.astype(np.int64))]
    assert weight_layer(gs.Node("MatMul", "m", {}, inputs, [gs.Variable("y")])) is None


X, Z = gs.Variable("x"), gs.Variable("z")
TWO = gs.Constant("two", np.float32([2]))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "linear"),
    [
        ("Mul", [X, TWO], {}, True),
        ("Mul", [TWO, X], {}, True),
        ("Mul", [X, Z], {}, False),
        ("Div", [X, TWO], {}, True),
        ("Div", [TWO, X], {}, False),
        ("Add", [X, Z], {}, True),
        ("Sub", [TWO, X], {}, True),
        ("Cast", [X], {"to": 10}, True),
        ("Cast", [X], {"to": 7}, False),
        ("Pad", [X], {"mode": "reflect"}, True),
        ("Pad", [X], {"mode": "other"}, False),
        ("Resize", [X], {"mode": "cubic"}, True),
        ("BatchNormalization", [X, TWO, TWO, TWO, TWO], {}, True),
        ("BatchNormalization", [X, TWO, TWO, TWO, TWO], {"training_mode": 1}, False),
        ("BatchNormalization", [X, TWO, TWO, Z, TWO], {}, False),
        ("AveragePool", [X], {}, True),
        ("MaxPool", [X], {}, False),
        ("ReduceMax", [X], {}, False),
        ("Softmax", [X], {}, False),
        ("LayerNormalization", [X], {}, False),
        ("Relu", [X], {}, False),
        ("Pow", [X, TWO], {}, False),
    ],
)
def test_linear_operators(op, inputs, attributes, linear):
    one = gs.Node(op, op, attributes, list(inputs), [gs.Variable("y")])
    assert is_linear(one) == linear
    assert passes(one) == (linear or op == "MaxPool")


@pytest.mark.parametrize(
    ("op", "attributes", "copied"),
    [("Transpose", {}, True), ("Resize", {}, True), ("Resize", {"mode": "nearest"}, True), ("Upsample", {}, True),
     ("Resize", {"mode": "linear"}, False), ("AveragePool", {}, False), ("Add", {}, False)],
)  # fmt: skip
def test_operators_that_copy(op, attributes, copied):
    assert moves(gs.Node(op, op, attributes, [X], [gs.Variable("y")])) == copied


def test_indices_and_shapes_carry_no_data():
    reshape = gs.Node("Reshape", "r", {}, [X, Z], [gs.Variable("y")])
    assert data_inputs(reshape) == [X]
    assert data_inputs(gs.Node("Add", "a", {}, [X, Z, TWO, gs.Variable.empty()], [])) == [X, Z]


def test_reached_layers_through_everything_that_passes():
    graph = graph_of(
        [
            node("Relu", "x", "a", "act"),
            node("MaxPool", "a", "p", "pool", kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", "p c", "direct", "conv"),
            node("GlobalAveragePool", "p", "g", "mean"),
            node("Flatten", "g", "f", "flat"),
            node("Concat", "f f", "ff", "twice", axis=1),
            node("Gemm", "ff w8", "y", "head"),
            node("Mul", "a x", "gated", "gate"),
            node("Conv", "gated c", "u", "behind_gate"),
            node("Sigmoid", "direct", "s", "squash"),
            node("Conv", "s c", "v", "behind_sigmoid"),
        ],
        outputs=("y", "u", "v"), c=CONV, w8=np.ones((8, 4), np.float32),
    )  # fmt: skip
    reached = [layer.node.name for layer in reached_layers(graph.tensors()["a"])]
    assert sorted(reached) == ["conv", "head"]


def test_a_tensor_that_shapes_another_reaches_nothing():
    graph = graph_of(
        [node("Relu", "x", "a", "act"), node("Shape", "a", "s", "shape"), node("Reshape", "z s", "r", "reshape"),
         node("MatMul", "r w", "y", "fc")],
        {"x": ["N", 4], "z": ["N", 4]}, w=MATRIX,
    )  # fmt: skip
    assert list(reached_layers(graph.tensors()["a"])) == []


@pytest.mark.parametrize(
    ("nodes", "axis"),
    [
        ([node("Conv", "x c", "h", "a")], 1),
        ([node("ConvTranspose", "x c", "h", "a")], 1),
        ([node("MatMul", "x w8", "h", "a")], -1),
        ([node("MatMul", "w8 x", "h", "a")], -2),
        ([node("MatMul", "x x", "h", "a")], None),
        ([node("MatMul", "w8 x", "t", "a"), node("Add", "column t", "u", "b"), node("Selu", "u", "h", "d")], -2),
        ([node("MatMul", "w8 x", "t", "a"), node("MatMul", "x w8", "u", "b"), node("Add", "u t", "h", "d")], None),
        ([node("MatMul", "w8 x", "t", "a"), node("Slice", "t zero two", "h", "b")], -2),
        ([node("Conv", "x c", "t", "a"), node("Transpose", "t", "h", "b", perm=[0, 2, 3, 1])], 3),
        ([node("MatMul", "x w8", "t", "a"), node("Transpose", "t", "h", "b", perm=[0, 3, 1, 2])], 1),
        ([node("Conv", "x c", "t", "a", pads=[1] * 4), node("Add", "x t", "h", "b")], 1),
        ([node("Conv", "x c", "t", "a"), node("Conv", "x c", "u", "b"), node("Add", "u t", "h", "d")], 1),
        ([node("MatMul", "x w8", "t", "a"), node("Add", "t b", "h", "b")], -1),
        ([node("LayerNormalization", "x s", "h", "a")], -1),
        ([node("Conv", "x c", "t", "a"), node("Reshape", "t shape", "h", "b")], None),
        ([node("Shape", "x", "t", "a"), node("Reshape", "all t", "h", "b")], None),
        ([node("Conv", "x c", "t", "a"), node("Transpose", "t", "h", "b")], None),
    ],
)
def test_channel_axis_from_the_producer(nodes, axis):
    graph = graph_of(
        [*nodes, node("Neg", "h", "y", "end")], c=CONV, w8=np.ones((8, 8), np.float32), b=np.ones(8, np.float32),
        s=np.ones(8, np.float32), shape=np.array([0, -1]), column=np.ones((8, 1), np.float32),
        zero=np.array([0]), two=np.array([2]),
        all=np.ones((1, 4, 8, 8), np.float32),
    )  # fmt: skip
    named(graph, "end").inputs[0].shape = None
    assert channel_axis(graph.tensors()["h"]) == axis


@pytest.mark.parametrize(
    ("readers", "axis"),
    [
        ([node("Gemm", "h w", "y", "fc")], -1),
        ([node("Gemm", "h w", "y", "fc"), node("MatMul", "h w", "z", "fc2")], -1),
        ([node("MatMul", "w h", "y", "fc")], -2),
        ([node("Gemm", "h w", "y", "fc", transA=1)], -2),
        ([node("Gemm", "w h", "y", "fc")], -2),
        ([node("Gemm", "w h", "y", "fc", transB=1)], -1),
        ([node("MatMul", "h w", "y", "fc"), node("MatMul", "w h", "z", "fc2")], None),
        ([node("Neg", "h", "y", "end")], None),
    ],
)
def test_channel_axis_from_the_consumers_of_a_reshape(readers, axis):
    nodes = [node("Conv", "x c", "t", "conv"), node("Reshape", "t shape", "h", "r"), *readers]
    outputs = [each.output[0] for each in readers]
    graph = graph_of(nodes, outputs=outputs, c=CONV, w=MATRIX, shape=np.array([-1, 4]))
    assert channel_axis(graph.tensors()["h"]) == axis


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "input_axis", "output_axis"),
    [
        ("Conv", "x4 c", {}, 1, 1),
        ("Gemm", "x w", {}, -1, -1),
        ("Gemm", "x w", {"transB": 1}, -1, -1),
        ("Gemm", "x w", {"transA": 1}, -2, -1),
        ("Gemm", "w x", {}, -2, -2),
        ("Gemm", "w x", {"transB": 1}, -1, -2),
        ("Gemm", "w x", {"transA": 1}, -2, -2),
        ("MatMul", "x w", {}, -1, -1),
        ("MatMul", "w x", {}, -2, -2),
        ("MatMul", "v w", {}, -1, -1),
        ("MatMul", "w v", {}, -1, -1),
        ("MatMul", "x4 m", {}, -1, -1),
        ("MatMul", "m x4", {}, -2, -2),
    ],
)
def test_axes_of_weight_layers(op, inputs, attributes, input_axis, output_axis):
    """Scaling what lies along the input axis is scaling W's inputs; adding to W's outputs moves the output axis."""
    random = np.random.default_rng(0)
    shapes = {"x": (4, 4), "x4": (2, 4, 4, 4), "v": (4,)}
    constants = {"c": CONV, "w": random.standard_normal((4, 4)), "m": random.standard_normal((2, 4, 4, 4))}
    constants = {name: values.astype(np.float32) for name, values in constants.items() if name in inputs.split()}
    name = next(each for each in inputs.split() if each in shapes)
    model = build([node(op, inputs, "y", "layer", **attributes)], {name: shapes[name]}, {"y": None}, constants)
    (layer,) = weight_layers(gs.import_onnx(model))
    assert (layer.input_axis, layer.output_axis) == (input_axis, output_axis)
    x = np.zeros(shapes[name], np.float32)
    np.moveaxis(x, input_axis, 0)[1] = 1  # one input feature alone
    y = np.moveaxis(run(model, x)[0], output_axis, 0)
    for feature in y:  # each output feature sees it the same everywhere: the other axes are positions
        inner = feature
        if op == "MatMul" and "m" in inputs:  # a matrix for each
            inner = inner.reshape(2, 4, -1)[0, 0]
        np.testing.assert_allclose(inner, np.broadcast_to(inner.flat[0], inner.shape), rtol=1e-6)


def test_channel_axis_takes_no_exponential_time():
    """x·sigmoid(x), forty times: each doubles the number of paths up to the input."""
    nodes, last = [], "x"
    for k in range(40):
        nodes += [node("Sigmoid", last, f"s{k}", f"s{k}"), node("Mul", f"{last} s{k}", f"m{k}", f"m{k}")]
        last = f"m{k}"
    graph = graph_of([*nodes, node("Conv", f"{last} c", "y", "conv")], c=CONV)
    assert channel_axis(graph.tensors()[last]) == 1


def test_weight_layers_are_in_the_order_of_the_nodes():
    graph = graph_of(
        [node("Conv", "x c", "h", "one"), node("Relu", "h", "a", "r"), node("Conv", "a c", "y", "two")], c=CONV
    )
    assert [layer.node.name for layer in weight_layers(graph)] == ["one", "two"]


def test_what_is_fixed_is_looked_for_once_on_each_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a long chain, the work grows with its length, not with its square. What is remembered changes no answer."""
    nodes = [node("MatMul", f"t{k} w", f"t{k + 1}", f"layer{k}") for k in range(200)]
    nodes += [node("Identity", "w", "v0", "copy"), node("Add", "v0 v0", "v1", "twice")]
    nodes += [node("MatMul", "t200 v1", "t201", "made"), node("MatMul", "t201 t201", "y", "product")]
    graph = gs.import_onnx(build(nodes, {"t0": [4, 4]}, {"y": [4, 4]}, {"w": np.eye(4, dtype=np.float32)}))
    calls: list[str] = []
    drawn = layers.draws
    monkeypatch.setattr(layers, "draws", lambda each: calls.append(each.name) or drawn(each))
    known = layers.Known()
    together = [(each.name, layers.holds_weights(each, known)) for each in graph.nodes]
    assert len(calls) <= len(nodes)
    assert together == [(each.name, layers.holds_weights(each)) for each in graph.nodes]
    assert [name for name, holds in together if not holds] == ["copy", "twice", "product"]
