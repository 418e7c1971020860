"""Operators on single elements between Transposes that undo each other, as tf2onnx leaves them."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.sites.activations import find_activations
from tests.models import build, node
from tests.passes.checking import check, normal, reasons

X = normal(2, 3, 4, 5)
TO, FRO = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}
CUBE = [
    node("Transpose", "x", "t", **TO), node("Pow", "t three", "p"), node("Mul", "small p", "c"),
    node("Transpose", "c", "u", **FRO),
]  # fmt: skip
GELU = [
    *CUBE, node("Add", "x u", "a"), node("Mul", "root a", "b"), node("Tanh", "b", "h"), node("Add", "one h", "g"),
    node("Mul", "half x", "k"), node("Mul", "k g", "y"),
]  # fmt: skip
CONSTANTS = {"three": 3.0, "small": 0.044715, "root": float(np.sqrt(2 / np.pi)), "one": 1.0, "half": 0.5, "n": [2.0]}
CONSTANTS["row"] = np.ones(3, np.float32)
CONSTANTS["deep"] = np.ones((1, 1, 1, 1, 1), np.float32)


def model_of(nodes, inputs="x", **outputs):
    used = {name for each in nodes for name in each.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in used}
    return build(nodes, {name: [2, 3, 4, 5] for name in inputs.split()}, outputs or {"y": [2, 3, 4, 5]}, constants)


def test_gelu_of_keras_is_one_activation():
    left = ["Pow", "Mul", "Mul", "Add", "Mul", "Tanh", "Add", "Mul"]
    graph, _ = check(model_of(GELU), left, X, cancel_transposes=1)
    assert [each.kind for each in find_activations(graph)] == ["gelu_tanh"]


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ([CUBE[0], node("Transpose", "t", "u", **FRO), node("Abs", "u", "y")], ["Abs"]),
        ([CUBE[0], node("Relu", "t", "r"), node("Transpose", "r", "y", **FRO)], ["Relu"]),
        ([CUBE[0], node("Clip", "t - one", "r"), node("Transpose", "r", "y", **FRO)], ["Clip"]),
        ([CUBE[0], node("Sigmoid", "t", "s"), node("Mul", "t s", "m"), node("Transpose", "m", "y", **FRO)],
         ["Sigmoid", "Mul"]),
        ([CUBE[0], node("Relu", "t", "r"), node("Transpose", "r", "u", **FRO),
          node("Abs", "t", "b"), node("Transpose", "b", "v", **FRO), node("Add", "u v", "y")], ["Relu", "Abs", "Add"]),
        ([node("Abs", "x", "b"), node("Transpose", "x", "t", **TO), node("Transpose", "b", "v", **TO),
          node("Add", "t v", "m"), node("Mul", "m n", "r"), node("Transpose", "r", "y", **FRO)], ["Abs", "Add", "Mul"]),
    ],
    ids=["nothing", "at an output", "left out", "two paths", "read twice", "of two tensors"],
)  # fmt: skip
def test_transposes_go(nodes, left):
    count = sum(each.op_type == "Transpose" and list(each.attribute[0].ints) == FRO["perm"] for each in nodes)
    graph, _ = check(model_of(nodes), left, X, cancel_transposes=count)
    assert all(tensor.shape in (None, [2, 3, 4, 5]) for tensor in made(graph))


def made(graph: gs.Graph):
    return [tensor for each in graph.nodes for tensor in each.outputs]


@pytest.mark.parametrize(
    ("nodes", "outputs", "wanted"),
    [
        ([CUBE[0], node("Transpose", "t", "y", **FRO)], {"y": [2, 3, 4, 5]},
         ["it is a graph output, or a subgraph captures it"]),
        ([CUBE[0], node("Relu", "t", "r"), node("Transpose", "r", "y", **TO)], {"y": [2, 4, 5, 3]}, []),
        ([CUBE[0], node("Relu", "t", "r"), node("Transpose", "r", "y")], {"y": [3, 5, 4, 2]}, []),
        ([CUBE[0], node("Mul", "t row", "r"), node("Transpose", "r", "y", **FRO)], {"y": [2, 3, 4, 5]}, []),
        ([CUBE[0], node("Softmax", "t", "r", axis=-1), node("Transpose", "r", "y", **FRO)], {"y": [2, 3, 4, 5]}, []),
        ([CUBE[0], node("Relu", "t", "r"), node("Transpose", "r", "y", **FRO)], {"y": [2, 3, 4, 5], "r": [2, 4, 5, 3]},
         []),
        ([CUBE[0], node("Relu", "t", "r"), node("Transpose", "r", "y", **FRO), node("Softmax", "r", "z", axis=1)],
         {"y": [2, 3, 4, 5], "z": [2, 4, 5, 3]}, []),
        ([CUBE[0], node("ReduceMax", "t", "m", keepdims=1), node("Add", "t m", "r"),
          node("Transpose", "r", "y", **FRO)], {"y": [2, 3, 4, 5]}, []),
    ],
    ids=["held", "the same order", "reversed", "a value a channel", "along an axis", "inside held", "inside read",
         "other entry"],
)  # fmt: skip
def test_transposes_that_stay(nodes, outputs, wanted):
    _, reports = check(model_of(nodes, **outputs), [each.op_type for each in nodes], X, cancel_transposes=0)
    assert reasons(reports, "cancel_transposes") == wanted


def test_a_constant_of_more_axes_stays():
    nodes = [CUBE[0], node("Mul", "t deep", "r"), node("Squeeze", "r", "q"), node("Transpose", "q", "y", **FRO)]
    check(model_of(nodes), [each.op_type for each in nodes], X, cancel_transposes=0)


def test_long_ways_are_not_walked():
    """From every Transpose, or else the cost would grow with the square of the network."""
    nodes = [CUBE[0], *(node("Relu", "r" * k or "t", "r" * (k + 1)) for k in range(70))]
    nodes.append(node("Transpose", "r" * 70, "y", **FRO))
    check(model_of(nodes), [each.op_type for each in nodes], X, cancel_transposes=0)
