"""Tiny ONNX graphs for tests, and onnxruntime to run them."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
Shape = Sequence[int | str]


def node(op: str, inputs: str, outputs: str, name: str = "", domain: str = "", **attributes) -> onnx.NodeProto:
    """A node; inputs and outputs are names separated by blanks, "-" is an optional input left out."""
    names = [["" if each == "-" else each for each in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, name=name, domain=domain, **attributes)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape | None],
    constants: Mapping[str, ArrayLike],
    *,
    opset: int = 17,
    dtype: int = FLOAT,
) -> onnx.ModelProto:
    """A checked model with inferred shapes. dtype: of inputs and outputs. Constants: arrays, or float32.

    outputs: a shape of None is inferred.
    """
    tensors = [
        numpy_helper.from_array(value if isinstance(value, np.ndarray) else np.float32(value)[...], name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
        tensors,
    )
    domains = sorted({each.domain for each in nodes} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    return model


def run(model: onnx.ModelProto, *feeds: NDArray, optimised: bool = False) -> list[NDArray]:
    """The outputs for inputs in the order of the graph's inputs, without graph optimisations unless asked for."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, feeds, strict=True)))


def mended_in(minor: int, fault: str) -> pytest.MarkDecorator:
    """A mark of tests that a fault of onnxruntime before 1.minor lets fail."""
    old = tuple(map(int, ort.__version__.split(".")[:2])) < (1, minor)
    return pytest.mark.skipif(old, reason=f"onnxruntime before 1.{minor} {fault}")


def optimised_ops(model: onnx.ModelProto) -> list[str]:
    """The operators that onnxruntime runs, after all of its optimisations."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # the saved graph is for this machine alone, which onnxruntime warns of
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [each.op_type for each in onnx.load(options.optimized_model_filepath).graph.node]


def export(graph: gs.Graph) -> onnx.ModelProto:
    """The graph as a checked model."""
    model = gs.export_onnx(graph)
    onnx.checker.check_model(model)
    return model


def same(one: object, other: object) -> bool:
    """Equal dataclasses, field by field; arrays bit for bit and of one type."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)
        )
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def ops(graph: gs.Graph) -> list[str]:
    return [each.op for each in graph.nodes]
