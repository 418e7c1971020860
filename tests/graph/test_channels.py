"""The channel axis where no weight layer is next to the tensor: reductions, constants, layers further behind."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.graph.channels import channel_axis
from tests.models import build, node

CONSTANTS = {
    "c": np.ones((4, 4, 3, 3), np.float32), "w8": np.ones((8, 8), np.float32), "w4": np.ones((4, 4), np.float32),
    "left": np.ones((6, 4), np.float32), "scale": np.full((4, 1, 1), 2, np.float32),
    "rows": np.full((8, 1), 2, np.float32), "both": np.full((8, 8), 2, np.float32), "one": np.float32(2),
    "samples": np.full((2, 1, 1, 1), 2, np.float32), "wide": np.full((1, 4, 1, 1), 2, np.float32),
    "groups": np.array([0, 2, -1]), "back": np.array([0, 4, 8, 8]), "ones2": np.ones(2, np.float32),
    "a1": np.array([1]), "a2": np.array([2]), "a23": np.array([2, 3]), "a12": np.array([1, 2]), "last": np.array([-1]),
}  # fmt: skip


def axis_of(nodes, tensor="h", batch="N"):
    read = {name for each in nodes for name in each.input}
    made = {name for each in nodes for name in each.output}
    outputs = [name for name in made if name not in read]
    constants = {name: values for name, values in CONSTANTS.items() if name in read}
    model = build(nodes, {"x": [batch, 4, 8, 8]}, dict.fromkeys(outputs), constants, opset=21)
    graph = gs.import_onnx(model)
    for output in graph.outputs:
        output.shape = None
    return channel_axis(graph.tensors()[tensor])


@pytest.mark.parametrize(
    ("nodes", "axis"),
    [
        ([node("Conv", "x c", "t", "a"), node("Abs", "t", "u", "b"), node("Exp", "u", "h", "d")], 1),
        ([node("Conv", "x c", "t", "a"), node("Max", "t one", "h", "b")], 1),
        ([node("Conv", "x c", "t", "a"), node("ReduceMean", "t a23", "h", "b", keepdims=0)], 1),
        ([node("Conv", "x c", "t", "a"), node("ReduceMax", "t a23", "h", "b")], 1),
        ([node("Conv", "x c", "t", "a"), node("ReduceMean", "t a1", "h", "b", keepdims=0)], None),
        ([node("Conv", "x c", "t", "a"), node("ReduceMean", "t", "h", "b")], None),
        ([node("MatMul", "x w8", "t", "a"), node("ReduceMean", "t a2", "h", "b", keepdims=0)], 2),
        ([node("MatMul", "x w8", "t", "a"), node("ReduceSum", "t last", "h", "b", keepdims=0)], None),
        ([node("Conv", "x c", "t", "a"), node("Transpose", "t", "u", "b", perm=[0, 2, 3, 1]),
          node("ReduceMean", "u a12", "h", "d", keepdims=0)], 1),
    ],
)  # fmt: skip
def test_the_axis_passes_what_leaves_it_in_place(nodes, axis):
    assert axis_of([*nodes, node("Neg", "h", "y", "end")]) == axis


@pytest.mark.parametrize(
    ("readers", "axis"),
    [
        ([node("Relu", "h", "a", "act"), node("MaxPool", "a", "p", "pool", kernel_shape=[2, 2]),
          node("Conv", "p c", "y", "conv")], 1),
        ([node("Relu", "h", "a", "act"), node("Concat", "h a", "joined", "join", axis=2),
          node("MatMul", "joined w8", "y", "fc")], -1),
        ([node("Transpose", "h", "t", "turn", perm=[0, 2, 3, 1]), node("Sigmoid", "t", "a", "act"),
          node("MatMul", "a w4", "y", "fc")], 1),
        ([node("Relu", "h", "a", "act"), node("Conv", "a c", "y", "conv"), node("Abs", "h", "b", "act2"),
          node("MatMul", "b w8", "z", "fc")], None),
        ([node("Softmax", "h", "a", "act"), node("Conv", "a c", "y", "conv")], None),
        ([node("Relu", "h", "a", "act"), node("ReduceMean", "a a23", "m", "mean", keepdims=0),
          node("MatMul", "m w4", "y", "fc")], None),
    ],
)  # fmt: skip
def test_the_layers_further_behind_decide(readers, axis):
    assert axis_of([node("MatMul", "x x", "h", "mixing"), *readers]) == axis


@pytest.mark.parametrize(
    ("nodes", "batch", "axis"),
    [
        ([node("Mul", "m scale", "h", "a")], "N", -3),
        ([node("Mul", "wide m", "t", "a"), node("Relu", "t", "h", "b")], "N", -3),
        ([node("Mul", "m scale", "t", "a"), node("Add", "t one", "h", "b")], "N", -3),
        ([node("Add", "m rows", "h", "a")], "N", -2),
        ([node("Mul", "m both", "h", "a")], "N", None),
        ([node("Mul", "m one", "h", "a")], "N", None),
        ([node("Mul", "m samples", "h", "a")], 2, None),
        ([node("Mul", "m scale", "t", "a"), node("Mul", "m rows", "u", "b"), node("Add", "t u", "h", "d")], "N", None),
    ],
)
def test_constants_decide_where_no_layer_does(nodes, batch, axis):
    assert axis_of([node("MatMul", "x x", "m", "mixing"), *nodes, node("Neg", "h", "y", "end")], batch=batch) == axis


def test_layers_come_before_constants():
    """W·x after a scale along the rows: the layer says where the channels are."""
    nodes = [node("MatMul", "x x", "m", "mixing"), node("Mul", "m rows", "h", "scale"), node("Relu", "h", "a", "act")]
    assert axis_of([*nodes, node("MatMul", "a w8", "y", "fc")]) == -1


def test_group_normalisation_as_it_is_exported():
    """InstanceNormalization of groups, back to channels, scaled and moved a channel: in front of a joined tensor."""
    nodes = [
        node("Conv", "x c", "t", "conv", pads=[1] * 4), node("Reshape", "t groups", "g", "split"),
        node("InstanceNormalization", "g ones2 ones2", "n", "norm"), node("Reshape", "n back", "b", "join"),
        node("Mul", "b scale", "s", "scale"), node("Add", "s wide", "h", "move"), node("Relu", "h", "a", "act"),
        node("Concat", "a x", "y", "cat", axis=1),
    ]  # fmt: skip
    assert axis_of(nodes) == -3
