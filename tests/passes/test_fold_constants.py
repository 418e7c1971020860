"""Results that depend on constants alone become constants: any operator, bounded in memory, random ones left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphpass.graph.layers import weight_layers
from graphpass.graph.model import load
from graphpass.network import Network, prepare
from graphpass.passes import fold_constants as module
from graphpass.passes.base import RuleReport, run_rule
from graphpass.passes.fold_constants import fold_constants
from graphpass.runtime.session import open_session
from tests.models import FLOAT, build, export, node, ops, run

RNG = np.random.default_rng(0)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape).astype(np.float32)


def folded(
    nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Any], x: Sequence[int] = (2, 3), opset: int = 21
) -> tuple[gs.Graph, RuleReport]:
    """x → nodes → y with its constants computed; the outputs are those of before."""
    model = build(nodes, {"x": x}, {"y": None}, constants, opset=opset)
    graph = gs.import_onnx(model)
    report = run_rule(fold_constants, graph)
    graph.cleanup()
    feed = normal(*x)
    for was, now in zip(run(model, feed), run(export(graph), feed), strict=True):
        np.testing.assert_array_equal(now, was)
    return graph, report


def reasons(report: RuleReport) -> dict[str, str]:
    return {miss.node: miss.reason for miss in report.misses}


def test_any_operator_is_computed() -> None:
    nodes = [
        node("Einsum", "a b", "ab", equation="ij,jk->ik"),
        node("Softmax", "ab", "s", axis=-1),
        node("TopK", "s two", "values places"),
        node("Cast", "places", "f", to=FLOAT),
        node("Sum", "values f values", "w"),
        node("MatMul", "x w", "y"),
    ]
    graph, report = folded(nodes, {"a": normal(3, 4), "b": normal(4, 5), "two": np.array([2])})
    assert ops(graph) == ["MatMul"] and report.rewrites == 5 and not report.misses
    assert isinstance(graph.nodes[0].inputs[1], gs.Constant)


def test_integers_are_what_the_runtime_makes_of_them() -> None:
    """Division of negative numbers and overflow are where numpy would give something else."""
    nodes = [
        node("Div", "k two", "d"),
        node("Mod", "k three", "m"),
        node("Cast", "large", "i", to=TensorProto.INT32),
        node("Cast", "i", "j", to=TensorProto.INT64),
        node("Add", "d m", "s"),
        node("Add", "s j", "t"),
        node("Cast", "t", "c", to=FLOAT),
        node("Add", "x c", "y"),
    ]
    constants = {"k": np.array([-7, 7, -8]), "two": np.array([2]), "three": np.array([3]), "large": [1.5, -2.5, 3.5]}
    assert ops(folded(nodes, constants)[0]) == ["Add"]


def test_random_numbers_and_training_mode_are_left() -> None:
    nodes = [
        node("RandomNormalLike", "w", "n", "noise"),
        node("Dropout", "w ratio true", "d", "drop", seed=1),
        node("Mul", "n zero", "z", "times"),
        node("Dropout", "w", "e", "inference"),
        node("Add", "e z", "f", "sum"),
        node("MatMul", "x f", "y"),
        node("Identity", "d", "unread"),
    ]
    model = build(nodes, {"x": [2, 3]}, {"y": None, "unread": None},
                  {"w": normal(3, 2), "zero": 0.0, "ratio": 0.5, "true": np.array(True)})  # fmt: skip
    graph = gs.import_onnx(model)
    report = run_rule(fold_constants, graph)
    assert ops(graph) == ["RandomNormalLike", "Dropout", "Mul", "Add", "MatMul", "Identity"]
    assert reasons(report) == {"noise": "it draws random numbers", "drop": "it draws random numbers"}


@pytest.mark.parametrize("channels", [4, 16])  # a few numbers, and so many that they are fed
def test_weights_standardised_by_a_normalisation_in_training_mode(tmp_path: Path, channels: int) -> None:
    """As timm's networks without normalisation layers spell it: reshape, normalise each filter by itself, scale."""
    nodes = []
    for number, (data, out) in enumerate((("x", "c1"), ("r1", "c2"), ("r2", "y"))):
        name = f"w{number}"
        nodes += [
            node("Reshape", f"{name} flat", f"{name}_rows", f"{name}/reshape"),
            node("BatchNormalization", f"{name}_rows ones zeros zeros ones", f"{name}_std {name}_m {name}_v",
                 f"{name}/standardise", training_mode=1, epsilon=1e-6),
            node("Mul", f"{name}_std gain", f"{name}_scaled", f"{name}/scale"),
            node("Shape", name, f"{name}_shape", f"{name}/shape"),
            node("Reshape", f"{name}_scaled {name}_shape", f"{name}_kernel", f"{name}/back"),
            node("Conv", f"{data} {name}_kernel b", out, f"conv{number}", pads=[1, 1, 1, 1]),
        ]  # fmt: skip
        nodes += [node("Relu", out, f"r{number + 1}", f"relu{number + 1}")] if out != "y" else []
    weights = {f"w{number}": normal(channels, 3 if number == 0 else channels, 3, 3) for number in range(3)}
    constants = {
        "flat": np.array([1, channels, -1]),
        "ones": np.ones(channels, "f"),
        "zeros": np.zeros(channels, "f"),
        "gain": 0.2,
        "b": normal(channels),
    }
    proto = build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", channels, 8, 8]}, {**weights, **constants})
    onnx.save(proto, tmp_path / "m.onnx")
    network = prepare(load(tmp_path / "m.onnx"))
    assert ops(network.graph) == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    assert (network.coverage.weight_layers, network.coverage.spiking_layers) == (3, 2)
    x = normal(2, 3, 8, 8)
    before, after = (open_session(each).run(None, {"x": x})[0] for each in (proto, export(network.graph)))
    # the runtime reorders at most a few hundred float32 products of size about 1
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_weights_in_bfloat16_behind_a_cast_are_weights(tmp_path: Path) -> None:
    half = helper.make_tensor(
        "w", TensorProto.BFLOAT16, [3, 4], (normal(3, 4).view("u4") >> 16).astype("u2").tobytes(), True
    )
    nodes = [
        node("Transpose", "w", "t", perm=[1, 0]),
        node("Transpose", "t", "s", perm=[1, 0]),
        node("Cast", "s", "f", to=FLOAT),
        node("MatMul", "x f", "y"),
    ]
    proto = build([node("Identity", "x", "y")], {"x": ["N", 3]}, {"y": None}, {})
    del proto.graph.node[:], proto.graph.value_info[:], proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, ["N", 4]))
    proto.graph.node.extend(nodes)
    proto.graph.initializer.append(half)
    onnx.save(proto, tmp_path / "m.onnx")
    network = prepare(load(tmp_path / "m.onnx"))
    assert ops(network.graph) == ["MatMul"] and network.coverage.weight_layers == 1
    np.testing.assert_array_equal(run(export(network.graph), x := normal(2, 3))[0], run(proto, x)[0])


def test_a_constant_that_other_types_read_stays_beside_its_cast() -> None:
    half = helper.make_tensor("h", TensorProto.BFLOAT16, [3], np.array([0x3F80, 0x4000, 0x4040], "u2").tobytes(), True)
    nodes = [
        node("Identity", "h", "i", "copy"),
        node("Cast", "i", "f", "cast", to=FLOAT),
        node("Add", "x f", "y"),
        node("Shape", "i", "n", "size"),
        node("Cast", "x", "b", "narrow", to=TensorProto.BFLOAT16),
        node("Where", "c b i", "z", "choose"),
    ]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("x", FLOAT, [2, 3])],
        [helper.make_tensor_value_info(*each, [2, 3]) for each in (("y", FLOAT), ("z", TensorProto.BFLOAT16))],
        [half, numpy_helper.from_array(np.array(True), "c")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = gs.import_onnx(onnx.shape_inference.infer_shapes(model))
    report = run_rule(fold_constants, found)
    found.cleanup()
    assert ops(found) == ["Identity", "Add", "Cast", "Where"]  # the Cast is the network's own
    assert report.rewrites == 2
    onnx.checker.check_model(gs.export_onnx(found))


def test_memory_is_bounded() -> None:
    """A constant of four gigabytes is not made, one that a layer needs is, and one that is small."""
    nodes = [
        node("ConstantOfShape", "huge", "a", "gigabytes"),
        node("ReduceMax", "a", "b", "greatest", keepdims=0),
        node("Expand", "one shape", "c", "megabytes"),
        node("ReduceMax", "c", "d", "other", keepdims=0),
        node("Expand", "one small", "e", "kilobytes"),
        node("Expand", "one weight", "w", "weights"),
        node("MatMul", "x w", "p"),
        node("Sum", "p b d", "q"),
        node("Add", "q e", "y"),
    ]
    constants = {
        "huge": np.array([1 << 10, 1 << 10, 1 << 10]), "one": 1.0, "shape": np.array([1 << 10, 1 << 10]),
        "small": np.array([2, 512]), "weight": np.array([3, 512]),
    }  # fmt: skip
    model = build(nodes, {"x": [2, 3]}, {"y": None}, constants)
    graph = gs.import_onnx(model)
    report = run_rule(fold_constants, graph)
    assert ops(graph) == ["ConstantOfShape", "ReduceMax", "Expand", "ReduceMax", "MatMul", "Sum", "Add"]
    assert reasons(report) == {
        "gigabytes": "its result of 4,294,967,296 bytes would be larger than its inputs",
        "megabytes": "its result of 4,194,304 bytes would be larger than its inputs",
    }


def test_a_weight_may_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_GROWN", 16)
    nodes = [node("Expand", "row shape", "w", "expand"), node("Neg", "w", "v"), node("MatMul", "x v", "y")]
    graph, _ = folded(nodes, {"row": normal(1, 50), "shape": np.array([3, 50])})
    assert ops(graph) == ["MatMul"] and weight_layers(graph)[0].weight.shape == (3, 50)


def test_what_the_runtime_cannot_run_is_left_with_its_words() -> None:
    nodes = [
        node("Neg", "a", "b", "first"),
        node("Reshape", "b wrong", "c", "broken"),
        node("Abs", "a", "d", "last"),
        node("Add", "x d", "y"),
    ]
    constants = {"a": normal(3), "wrong": np.array([2, 2])}
    graph = gs.import_onnx(build(nodes[:1] + nodes[2:], {"x": [2, 3]}, {"y": None}, constants))
    tensors = graph.tensors()
    broken = gs.Variable("c", np.float32)
    wrong = gs.Constant("wrong", constants["wrong"])
    graph.nodes.insert(1, gs.Node("Reshape", "broken", {}, [tensors["b"], wrong], [broken]))
    graph.nodes.append(gs.Node("Shape", "reader", {}, [graph.inputs[0]], [gs.Variable("s", np.int64)]))
    graph.nodes.append(
        gs.Node("Reshape", "again", {}, [broken, graph.nodes[-1].outputs[0]], [gs.Variable("r", np.float32)])
    )
    graph.outputs.append(graph.nodes[-1].outputs[0])
    report = run_rule(fold_constants, graph)
    assert "Reshape" in ops(graph) and "Abs" not in ops(graph) and "Neg" not in ops(graph)
    assert "onnxruntime failed" in reasons(report)["broken"]


def test_outputs_and_what_subgraphs_read_are_left() -> None:
    nodes = [node("Neg", "a", "b", "minus"), node("Add", "x b", "y")]
    model = build(nodes, {"x": [2, 3]}, {"y": None, "b": None}, {"a": normal(3)})
    report = run_rule(fold_constants, graph := gs.import_onnx(model))
    assert ops(graph) == ["Neg", "Add"] and reasons(report) == {
        "minus": "it is a graph output, or a subgraph captures it"
    }


def test_large_constants_are_fed_and_not_kept_twice(tmp_path: Path) -> None:
    weight = normal(3, 2000)
    nodes = [
        node("Transpose", "w", "t", perm=[1, 0]),
        node("Gemm", "x t", "y", "first", transB=1),
        node("Gemm", "x w", "z", "second"),
    ]
    proto = build(nodes, {"x": ["N", 3]}, {"y": None, "z": None}, {"w": weight})
    onnx.save(proto, tmp_path / "m.onnx")
    network: Network = prepare(load(tmp_path / "m.onnx"))
    layers = {layer.node.name: layer.weight for layer in weight_layers(network.graph)}
    np.testing.assert_array_equal(layers["first"].values, weight.T)
    assert not isinstance(layers["second"]._values, np.ndarray)  # still where the file was read to
