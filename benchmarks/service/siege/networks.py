"""Networks and data that the two tenants upload: small ones, wide ones, and ones that take long to describe."""

import io
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
CLASSES = 4


def dense(seed: int, widths: Sequence[int] = (8, 16, CLASSES)) -> bytes:
    """An ONNX file of Gemm layers with ReLU between them; every seed gives other bytes."""
    chance = np.random.default_rng(seed)
    nodes, tensors, last = [], [], "x"
    for layer, (before, after) in enumerate(pairwise(widths)):
        weight = (chance.normal(size=(before, after)) / before**0.5).astype(np.float32)
        tensors.append(numpy_helper.from_array(weight, f"w{layer}"))
        end = layer == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}"], ["y" if end else f"p{layer}"], f"gemm{layer}"))
        last = f"a{layer}"
        if not end:
            nodes.append(helper.make_node("Relu", [f"p{layer}"], [last], f"relu{layer}"))
    return _file(nodes, tensors, widths[0], widths[-1])


def slow_to_describe(seed: int, nodes: int = 200_000) -> bytes:
    """A chain of operators without a shortcut: the sandbox works on it until its time limit."""
    tensors = [numpy_helper.from_array(np.array([seed], np.int64), "seed")]
    chain = [helper.make_node("Neg", ["x" if n == 0 else f"t{n - 1}"], [f"t{n}"]) for n in range(nodes)]
    return _file([*chain, helper.make_node("Identity", [f"t{nodes - 1}"], ["y"])], tensors, CLASSES, CLASSES)


def samples(seed: int, number: int = 16, features: int = 8, *, labels: bool = False) -> bytes:
    """An .npz of samples for `dense`."""
    chance = np.random.default_rng(seed)
    arrays = {"x": chance.normal(size=(number, features)).astype(np.float32)}
    if labels:
        arrays["labels"] = chance.integers(0, CLASSES, number)
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _file(nodes: list[object], tensors: list[object], inputs: int, outputs: int) -> bytes:
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", float32, ["N", inputs])],
        [helper.make_tensor_value_info("y", float32, ["N", outputs])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())
