"""Constant nodes become initialisers."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper, numpy_helper

from graphpass.passes.normalise import normalise
from tests.models import FLOAT, build, export, node
from tests.passes.checking import check, normal, reasons


def test_constant_nodes_become_initializers():
    nodes = [
        node("Constant", "", "a", value=numpy_helper.from_array(normal(3))),
        node("Constant", "", "b", value_float=2.0),
        node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0]),
        node("Constant", "", "i", value_int=1),
        node("Constant", "", "j", value_ints=[0, 2]),
        node("Add", "x a", "p"),
        node("Mul", "p b", "q"),
        node("Mul", "q c", "r"),
        node("Gather", "r j", "s", axis=0),
        node("Gather", "s i", "y", axis=0),
    ]
    graph, _ = check(
        build(nodes, {"x": [3]}, {"y": []}, {}),
        ["Add", "Mul", "Mul", "Gather", "Gather"],
        normal(3),
        extract_constants=5,
    )
    assert isinstance(graph.nodes[0].inputs[1], gs.Constant)


def test_constants_of_other_floats_are_cast():
    tensor = helper.make_tensor("t", onnx.TensorProto.BFLOAT16, [2], [1.5, -3.0])
    half = numpy_helper.from_array(np.float16([1.5, 1e-7]))
    nodes = [
        node("Constant", "", "c", value=tensor),
        node("Cast", "c", "d", to=FLOAT),
        node("Add", "x d", "s"),
        node("Constant", "", "h", value=half),
        node("Cast", "h", "g", to=FLOAT),
        node("Add", "s g", "y"),
    ]
    graph = gs.import_onnx(build(nodes, {"x": [2]}, {"y": [2]}, {}))
    normalise(graph)
    kept = {each.name: each for each in export(graph).graph.initializer}
    assert numpy_helper.to_array(kept["d"]).tolist() == [1.5, -3.0]
    assert numpy_helper.to_array(kept["g"]).tolist() == np.float16([1.5, 1e-7]).astype(np.float32).tolist()


def test_constants_that_are_outputs_stay():
    nodes = [node("Constant", "", "c", value_float=2.0), node("Mul", "x c", "y")]
    _, reports = check(
        build(nodes, {"x": [3]}, {"y": [3], "c": []}, {}), ["Constant", "Mul"], normal(3), extract_constants=0
    )
    assert reasons(reports, "extract_constants") == ["it is a graph output, or a subgraph captures it"]
