"""eliminate_identities: operators that return their input are removed."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphpass.graph.weights import is_op, producer
from graphpass.passes.base import Rewriting


def eliminate_identities(work: Rewriting) -> None:
    """Identity(x) → x;  Dropout(x) at inference → x;  Cast(x, to = dtype of x) → x."""
    graph, edit = work.graph, work.edit
    outputs = {tensor.name for tensor in graph.outputs}
    kept = {tensor.name for tensor in graph.inputs} | edit.held
    for node in graph.nodes:
        reason = _not_an_identity(graph, node, edit.held)
        if reason is None:
            x, y = node.inputs[0], node.outputs[0]
            if y.name not in edit.held:
                edit.bypass(node)
            elif y.name not in outputs:
                reason = "a subgraph captures its output"
            elif isinstance(x, gs.Constant) or producer(x) is None or x.name in kept:
                reason = "it joins a graph output to a graph input, a constant or another held tensor"
            else:
                edit.take_over(producer(x), x, node)
        if reason != "":
            work.settle(node, reason)


def _not_an_identity(graph: gs.Graph, node: gs.Node, held: frozenset[str]) -> str | None:
    """None for an identity, the reason for a node that is almost one, "" for any other."""
    if is_op(node, "Identity"):
        return None
    if is_op(node, "Cast"):
        source = node.inputs[0].dtype
        if source is not None and not isinstance(
            source, int
        ):  # graphsurgeon keeps an ONNX code where numpy has no type
            source = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(source))
        return None if source is not None and source == node.attrs.get("to") else ""
    if not is_op(node, "Dropout"):
        return ""
    if len(node.outputs) > 1 and (node.outputs[1].outputs or node.outputs[1].name in held):
        return "its mask is used"
    if graph.opset < 7 and not node.attrs.get("is_test", 0):
        return "it is in training mode"
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        mode = node.inputs[2]
        if not isinstance(mode, gs.Constant) or mode.values.any():
            return "it may run in training mode"
    return None
