"""Shapes of a graph's tensors, whatever its weights weigh."""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph import shapes
from graphpass.graph.shapes import infer_shapes
from tests.models import build, node


def test_shapes_through_weights_targets_and_neurons(monkeypatch):
    neuron = node("ParallelNeuron", "c t t t t", "s", "s", "ai.graphpass", time_steps=4, levels=5, coding="rate")
    constants = {
        "w": np.ones((16, 8, 3, 3), np.float32),
        "t": np.ones((16, 1, 1), np.float32),
        "to": np.array([0, -1]),
        "v": np.ones((16 * 36, 5), np.float32),
    }
    nodes = [node("Conv", "x w", "c", "c"), neuron, node("Reshape", "s to", "r", "r"), node("MatMul", "r v", "y", "y")]
    graph = gs.import_onnx(build(nodes, {"x": ["N", 8, 8, 8]}, {"y": ["N", "M"]}, constants))
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor.name not in ("x", "y"):
            tensor.shape = None
    sizes = []
    infer = shapes.with_shapes
    monkeypatch.setattr(shapes, "with_shapes", lambda proto: sizes.append(proto.ByteSize()) or infer(proto))
    infer_shapes(graph)
    found = {name: tensor.shape for name, tensor in graph.tensors().items()}
    assert (found["c"], found["s"], found["r"]) == (["N", 16, 6, 6], ["N", 16, 6, 6], ["N", 576])
    assert isinstance(graph.tensors()["w"], gs.Constant)
    assert sizes[0] < 4 * 1000 < 4 * constants["w"].size  # bytes: no weights were in it
    assert [tensor.name for tensor in graph.inputs] == ["x"]
