"""fuse_batch_norm_into_layer: a BatchNormalization goes into the weights of the layer in front of it, or of the layers
whose results it reads side by side.
"""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.edit import used_once
from graphpass.graph.weights import (
    Array,
    Weights,
    is_op,
    layer_ending_at,
    misfit,
    producer,
    ranks_of,
    scale_outputs,
    write,
)
from graphpass.passes.base import Rewriting
from graphpass.passes.fusing import batch_norms, fuse_into_layer


def fuse_batch_norm_into_layer(work: Rewriting) -> None:
    """BN(W·x + b):  W' = W·γ/σ, b' = (b − μ)·γ/σ + β, σ = √(variance + ε);  BN([y₁, y₂ …]) = [BN(y₁), BN(y₂) …]."""
    ranks = ranks_of(work.graph)
    for norm, affine in batch_norms(work):
        if isinstance(affine, str):
            continue
        layer = layer_ending_at(norm.inputs[0], work.edit.held)
        if layer is not None:
            work.settle(norm, fuse_into_layer(work, layer, norm, *affine, ranks))
        elif parts := _side_by_side(norm.inputs[0], work.edit.held):
            work.settle(norm, _fuse_into_all(work, parts, norm, *affine))


def _side_by_side(tensor: gs.Tensor, held: frozenset[str]) -> list[Weights]:
    """The convolutions whose channels a tensor joins, if nothing else reads these and nothing else is joined."""
    concat = producer(tensor)
    if concat is None or not is_op(concat, "Concat") or concat.attrs["axis"] != 1:
        return []
    if not all(used_once(each, held) for each in (tensor, *concat.inputs)):
        return []
    layers = [layer_ending_at(each, held) for each in concat.inputs]
    found = [each for each in layers if isinstance(each, Weights) and is_op(each.node, "Conv", "ConvTranspose")]
    return found if len(found) == len(layers) else []


def _fuse_into_all(work: Rewriting, layers: list[Weights], norm: gs.Node, scale: Array, shift: Array) -> str | None:
    """Fuse s·y + t into layers whose results are joined to y; returns the reason if that is not possible."""
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return "its scale or shift is not finite"
    ends = np.cumsum([layer.layer.outputs for layer in layers])[:-1]
    shares = zip(layers, np.split(scale, ends), np.split(shift, ends), strict=True)
    fused = [(layer, *scale_outputs(layer, own_scale, own_shift)) for layer, own_scale, own_shift in shares]
    reason = next((why for each in fused if (why := misfit(*each))), None)
    if reason is None:
        for each in fused:
            write(work.edit, *each)
        joined = norm.inputs[0]
        work.edit.take_over(joined.inputs[0], joined, norm)
    return reason
