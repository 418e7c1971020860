"""What TensorRT takes of an integer network, checked at every conversion for it (decision 0035).

    QuantizeLinear      float → int8, one scale
    DequantizeLinear    int8 → float, one scale; of constants also one for each output channel
    scales              float32 constants above 0
    zero points         written, int8, all 0
    int8                made by QuantizeLinear or constant, read by DequantizeLinear alone
    uint8               an input or output of the network at most
    operators           of ONNX alone, none of them on integers of 8 bits

Source: onnxOpImporters.cpp and operators.md of TensorRT's parser (onnx/onnx-tensorrt, TensorRT 10.15), and TensorRT's
guide to explicit quantisation; tests/forms/test_tensorrt_rtx.py asks the parser of TensorRT for RTX.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.helper import get_node_attr_value

from graphpass.errors import FormError
from graphpass.graph.domains import STANDARD_DOMAINS
from graphpass.graph.refusals import QUANTISED, QUANTISED_PREFIXES
from graphpass.graph.tensors import graphs_of, walk

MOST_LEVELS = 128  # counts 0 … 127
LEAVE_OUT = "leave out --target, or convert it in the folded form (--form folded)"
BYTES = (TensorProto.INT8, TensorProto.UINT8)


def require_levels(levels: Mapping[str, int]) -> None:
    """Raises FormError for a site with more levels than int8 has. levels: by the name of the site."""
    for name, found in levels.items():
        if found > MOST_LEVELS:
            raise FormError(
                f"site {name!r} has {found} levels, and int8 counts have {MOST_LEVELS}",
                f"give --time-steps {MOST_LEVELS - 1} or fewer with --coding rate, 7 or fewer with --coding phase",
            )


def require_tensorrt(proto: onnx.ModelProto) -> None:
    """Raises FormError, which names the node, unless TensorRT takes every node, as far as this module says."""
    nodes = walk(proto.graph)
    stored = [tensor for graph in graphs_of(proto.graph) for tensor in graph.initializer]
    constants = {tensor.name: tensor for tensor in stored} | dict(_made_constants(nodes))
    rounded = frozenset(node.output[0] for node in nodes if node.op_type == "QuantizeLinear")
    outputs = frozenset(value.name for value in proto.graph.output)
    facts = _Facts(constants, rounded, outputs)
    for node in nodes:
        if problem := _problem(node, facts):
            raise FormError(f"node {node.name!r} ({node.op_type}) {problem}, which TensorRT does not take", LEAVE_OUT)


@dataclass(frozen=True)
class _Facts:
    """Constants by name, the names of what QuantizeLinear makes, and those of the network's outputs."""

    constants: Mapping[str, TensorProto]
    rounded: frozenset[str]
    outputs: frozenset[str]


def _made_constants(nodes: Iterable[NodeProto]) -> Iterable[tuple[str, TensorProto]]:
    for node in nodes:
        if node.op_type == "Constant":
            yield from ((node.output[0], each.t) for each in node.attribute if each.name == "value")


def _problem(node: NodeProto, facts: _Facts) -> str | None:
    """Why TensorRT does not take a node, or None."""
    op = node.op_type
    if node.domain not in STANDARD_DOMAINS:
        return f"is of the domain {node.domain}"
    if op in ("QuantizeLinear", "DequantizeLinear"):
        return _problem_of_numbers(node, facts)
    if op in QUANTISED or op.startswith(QUANTISED_PREFIXES):
        return "computes on integers of 8 bits"
    for name in node.input:
        constant = facts.constants.get(name)
        if name in facts.rounded or (constant is not None and constant.data_type in BYTES):
            return f"reads {name!r}, integers of 8 bits"
    if op == "Cast" and get_node_attr_value(node, "to") in BYTES and node.output[0] not in facts.outputs:
        return "makes integers of 8 bits"
    return None


def _problem_of_numbers(node: NodeProto, facts: _Facts) -> str | None:
    """Why TensorRT does not take a QuantizeLinear or DequantizeLinear, or None."""
    parts = [facts.constants.get(name) for name in node.input[1:]]
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return "has a scale or a zero point that is not written as a constant"
    scale, zero = (numpy_helper.to_array(part) for part in parts if part is not None)
    if zero.dtype != np.int8 or zero.any() or zero.size != scale.size:
        return f"has a zero point of {zero.dtype}" if zero.dtype != np.int8 else "has a zero point that is not 0"
    if scale.dtype != np.float32 or not (np.isfinite(scale) & (scale > 0)).all():
        return "has a scale that is not above 0"
    data = facts.constants.get(node.input[0])
    if node.op_type == "QuantizeLinear":
        several, shown = scale.size != 1, node.output[0] in facts.outputs
        return "has a scale for each channel" if several else "makes an output of the network" if shown else None
    if data is None:
        if node.input[0] not in facts.rounded:
            return f"reads {node.input[0]!r}, which no QuantizeLinear makes"
        return "has a scale for each channel" if scale.size != 1 else None
    if data.data_type != TensorProto.INT8:
        return f"reads constants of {TensorProto.DataType.Name(data.data_type).lower()}"
    axes = [each.i for each in node.attribute if each.name == "axis"] or [1]
    fits = scale.size == 1 or (scale.ndim == 1 and data.dims[axes[0]] == scale.size)
    return None if fits else "has scales that are not one for each channel"
