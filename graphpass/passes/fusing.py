"""Shared by the rules that put scales and shifts into the weights of a layer."""

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.affine import of_batch_norm
from graphpass.graph.edit import used_once
from graphpass.graph.weights import Array, Weights, floats_of, misfit, scale_outputs, write
from graphpass.passes.base import Rewriting


def batch_norms(work: Rewriting) -> Iterator[tuple[gs.Node, tuple[Array, Array] | str]]:
    """Each BatchNormalization with (γ/σ, β − μ·γ/σ), float64 [C], or the reason why it has no such constants."""
    for node in work.nodes("BatchNormalization"):
        values = [floats_of(tensor) for tensor in node.inputs[1:5]]
        old = work.graph.opset < 7 and not node.attrs.get("is_test", 0)
        if old or node.attrs.get("training_mode", 0) or any(not each.is_empty() for each in node.outputs[1:]):
            yield node, "it is in training mode"
        elif not node.attrs.get("spatial", 1):
            yield node, "it normalises each position by itself (spatial = 0)"
        elif len(values) != 4 or any(each is None for each in values):
            yield node, "its scale, bias, mean or variance is not a constant"
        else:
            yield node, of_batch_norm(node, values)


def fuse_into_layer(
    work: Rewriting, layer: Weights | str, node: gs.Node, scale: Array, shift: Array, ranks: dict[str, int]
) -> str | None:
    """Fuse node(y) = s·y + t, y the layer's result, into the layer; returns the reason if that is not possible."""
    if isinstance(layer, str):
        return layer
    result = layer.last.outputs[0]
    if not used_once(result, work.edit.held):
        return f"{result.name} is used elsewhere too"
    if node.op == "BatchNormalization" and layer.node.op == "MatMul" and ranks.get(result.name) != 2:
        return "its channel axis is not known to be the last axis of the MatMul"
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return "its scale or shift is not finite"
    weight, bias = scale_outputs(layer, scale, shift)
    reason = misfit(layer, weight, bias)
    if reason is None:
        maker = write(work.edit, layer, weight, bias)
        work.edit.take_over(maker, maker.outputs[0], node)
    return reason
