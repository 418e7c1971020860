"""The outline of a network: which nodes are kept, and how they are connected."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

import graphpass
from graphpass.evaluation.results import conversion_of
from graphpass.forms.registry import spiking_graph
from graphpass.graph import outline as outlines
from graphpass.graph.outline import Outline, outline_of
from tests.models import build, node

X = np.random.default_rng(0).normal(size=(4, 2, 6, 6)).astype(np.float32)


def residual():
    random = np.random.default_rng(1)
    shapes = {"w0": (2, 2, 3, 3), "w1": (2, 2, 3, 3), "wf": (18, 3)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        node("Conv", "x w0", "c0", "conv0", pads=[1, 1, 1, 1]), node("Relu", "c0", "r0", "relu0"),
        node("MaxPool", "r0", "p0", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p0 w1", "c1", "conv1", pads=[1, 1, 1, 1]), node("Add", "c1 p0", "a", "add"),
        node("Sigmoid", "a", "s", "sigmoid"), node("Mul", "a s", "r1", "silu"),
        node("Flatten", "r1", "f", "flatten"), node("Gemm", "f wf", "y", "fc"),
    ]  # fmt: skip
    return build(nodes, {"x": ["N", 2, 6, 6]}, {"y": ["N", 3]}, weights)


def outlined(form: str = "folded") -> Outline:
    proto = graphpass.convert(residual(), X, time_steps=3, form=form, threads=1).proto
    found = outline_of(spiking_graph(proto), {site.name for site in conversion_of(proto).sites})
    assert found
    return found


@pytest.mark.parametrize("form", ["folded", "unrolled"])
def test_pooling_reshapes_and_activations_are_left_out(form: str) -> None:
    found = outlined(form)
    kinds = [(node.kind, node.site or node.name) for node in found.nodes if node.kind != "meeting"]
    assert kinds == [
        ("input", "x"), ("layer", "conv0"), ("site", "relu0"), ("layer", "conv1"), ("site", "silu"), ("layer", "fc"),
        ("output", "y"),
    ]  # fmt: skip
    assert [node.name for node in found.nodes if node.kind == "meeting"] == ["add"]
    place = {node.site or node.name: number for number, node in enumerate(found.nodes)}
    steps = ["x conv0", "conv0 relu0", "relu0 conv1", "conv1 add", "relu0 add", "add silu", "silu fc", "fc y"]
    assert sorted(found.edges) == sorted(tuple(place[name] for name in step.split()) for step in steps)
    assert all(start < end for start, end in found.edges)


def chain(length: int) -> gs.Graph:
    graph, tensor = gs.Graph(opset=21), gs.Variable("x", np.float32, [1, 2])
    graph.inputs = [tensor]
    for number in range(length):
        made = gs.Variable(f"y{number}", np.float32, [1, 2])
        graph.nodes.append(
            gs.Node(
                "MatMul", f"layer{number}", {}, [tensor, gs.Constant(f"w{number}", np.eye(2, dtype=np.float32))], [made]
            )
        )
        tensor = made
    graph.outputs = [tensor]
    return graph


def test_layers_of_large_networks_are_left_out() -> None:
    found = outline_of(chain(outlines.MOST_NODES), set())
    assert found and not found.layers and [node.kind for node in found.nodes] == ["input", "output"]
    assert (small := outline_of(chain(10), set())) and small.layers and len(small.nodes) == 12


def test_too_large_networks_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "MOST_NODES", 1)
    monkeypatch.setattr(outlines, "LARGEST", 1)
    assert outline_of(chain(3), set()) is None


def test_what_computes_sizes_is_no_branch() -> None:
    nodes = [
        node("Shape", "x", "s", "shape"), node("Gemm", "x w", "h", "fc"), node("Reshape", "h s", "y", "reshape"),
    ]  # fmt: skip
    graph = gs.import_onnx(build(nodes, {"x": [4, 2]}, {"y": None}, {"w": np.eye(2, dtype=np.float32)}))
    found = outline_of(graph, set())
    assert found and [node.kind for node in found.nodes] == ["input", "layer", "output"]


def test_long_names_are_cut() -> None:
    graph = chain(1)
    graph.nodes[0].name = "n" * 5000
    found = outline_of(graph, set())
    assert found and max(len(node.name) for node in found.nodes) == outlines.LONGEST
