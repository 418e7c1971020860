"""How each node treats trains."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.graph.affine import neuron_affine
from graphpass.graph.trains import Trains, Way
from tests.models import build, node

W = np.ones((4, 4, 1, 1), np.float32)


def ways(*nodes, channels=4, **constants):
    """Of the nodes behind spikes "s" [N, 4, 6, 6] with a scale and offset a channel, beside static x."""
    model = build(
        [node("Relu", "x", "s", "s"), *nodes], {"x": ["N", 4, 6, 6]}, {nodes[-1].output[0]: ["N", *"abc"]},
        {name: np.asarray(values) for name, values in constants.items()}, opset=18,
    )  # fmt: skip
    graph = gs.import_onnx(model)
    values = np.arange(1, 1 + channels, dtype=np.float32).reshape(-1, 1, 1)
    trains = Trains({"s": neuron_affine(values, values, 1.0, 4)})
    return [trains.take(each) for each in graph.nodes], trains


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Conv", "s w", "y")], [Way.LAYER]),
        ([node("Mul", "s two", "m"), node("Conv", "m w", "y")], [Way.ABSORB, Way.LAYER]),
        ([node("Transpose", "s", "t", perm=[0, 1, 3, 2]), node("Conv", "t w", "y")], [Way.MOVE, Way.LAYER]),
        ([node("Concat", "s s", "j", axis=2), node("Conv", "j w", "y")], [Way.JOIN, Way.LAYER]),
        ([node("Concat", "s x", "j", axis=2), node("Conv", "j w", "y")], [Way.SUM, Way.REST]),
        ([node("MaxPool", "s", "p", kernel_shape=[2, 2]), node("Conv", "p w", "y")], [Way.POOL, Way.LAYER]),
        ([node("AveragePool", "s", "p", kernel_shape=[2, 2]), node("Conv", "p w", "y")], [Way.MOVE, Way.REST]),
        ([node("AveragePool", "s", "p", kernel_shape=[2, 2]), node("MaxPool", "p", "y", kernel_shape=[2, 2])],
         [Way.MOVE, Way.REST]),
        ([node("Mul", "s minus", "m"), node("MaxPool", "m", "y", kernel_shape=[2, 2])], [Way.ABSORB, Way.REST]),
        ([node("Add", "s x", "a"), node("Conv", "a w", "y")], [Way.SUM, Way.REST]),
        ([node("Add", "s s", "a"), node("Conv", "a w", "y")], [Way.SUM, Way.REST]),
        ([node("Mul", "s x", "m"), node("Conv", "m w", "y")], [Way.REST, Way.REST]),
        ([node("Sigmoid", "s", "y")], [Way.REST]),
        ([node("Conv", "x w", "y")], [Way.REST]),
        ([node("Shape", "s", "n"), node("Reshape", "x n", "y")], [Way.SHAPE, Way.REST]),
        ([node("Transpose", "s", "t", perm=[1, 0, 2, 3]), node("Conv", "t w", "y")], [Way.REST, Way.REST]),
        ([node("Transpose", "s", "t", perm=[0, 2, 1, 3]), node("Conv", "t v", "y")], [Way.MOVE, Way.REST]),
    ],
)  # fmt: skip
def test_ways(nodes, expected):
    found, _ = ways(*nodes, w=W, v=np.ones((4, 6, 1, 1), np.float32), two=np.float32(2), minus=np.float32(-1))
    assert found == [Way.FIRE, *expected]


def test_neurons_whose_parameters_lie_along_the_samples_send_no_train():
    each = node("Relu", "x", "s")
    graph = gs.import_onnx(build([each, node("Neg", "s", "y")], {"x": [4, 3]}, {"y": None}, {}))
    trains = Trains({"s": None})
    assert [trains.take(each) for each in graph.nodes] == [Way.REST, Way.REST]
    assert not trains.known


def test_the_maximum_of_a_decreasing_function_is_not_that_of_spikes():
    """A·n with A < 0: the largest value has the fewest spikes."""
    pool = node("MaxPool", "s", "y", kernel_shape=[2, 2])
    graph = gs.import_onnx(build([node("Relu", "x", "s"), pool], {"x": ["N", 4, 6, 6]}, {"y": None}, {}))
    trains = Trains({"s": neuron_affine(np.float32([-1]), np.float32([0]), 1.0, 4)})
    assert [trains.take(each) for each in graph.nodes] == [Way.FIRE, Way.REST]
