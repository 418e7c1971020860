"""fuse_affine: arithmetic with constants goes into the weights of the layer in front of it."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.weights import Array, Weights, floats_of, layer_ending_at, ranks_of
from graphpass.passes.base import Rewriting
from graphpass.passes.fusing import fuse_into_layer
from graphpass.sites.activations import find_activations

# op → (s, t) of the node as s·y + t; k is the place of the constant c among its inputs
AFFINE: dict[str, Callable[[Array, int], tuple[Array, Array]]] = {
    "Mul": lambda c, k: (c, np.zeros_like(c)),
    "Div": lambda c, k: (1 / c, np.zeros_like(c)),
    "Add": lambda c, k: (np.ones_like(c), c),
    "Sub": lambda c, k: (np.ones_like(c), -c) if k == 1 else (-np.ones_like(c), c),
}


def fuse_affine(work: Rewriting) -> None:
    """(W·x + b)·s + t:  W' = W·s, b' = b·s + t;  s, t of Mul, Div, Add, Sub: scalars or [C_out].

    MatMul + Add stays, since the Add is the bias of the MatMul. A node that is part of an activation (the x + 3 of
    HardSwish, the x/θ of QCFS) stays, so that the activation is still recognised.
    """
    ranks = ranks_of(work.graph)
    reserved = {id(node) for activation in find_activations(work.graph) for node in activation.nodes}
    for node in [node for node in work.nodes(*AFFINE) if id(node) not in reserved]:
        k = next((k for k in (0, 1) if floats_of(node.inputs[k]) is not None), None)
        if k is None or isinstance(node.inputs[1 - k], gs.Constant) or (node.op == "Div" and k == 0):
            continue
        layer = layer_ending_at(node.inputs[1 - k], work.edit.held)
        if layer is None or (isinstance(layer, Weights) and layer.last.op == "MatMul" and node.op == "Add"):
            continue
        work.settle(node, _fuse(work, layer, node, k, ranks))


def _fuse(work: Rewriting, layer: Weights | str, node: gs.Node, k: int, ranks: dict[str, int]) -> str | None:
    """Fuse the node, whose input k is a constant, into the layer; returns the reason if that is not possible."""
    if isinstance(layer, str):
        return layer
    values = _per_channel(node.inputs[k], layer, ranks)
    if values is None:
        return "its constant is not one value per output channel"
    with np.errstate(divide="ignore"):
        scale, shift = AFFINE[node.op](values, k)
    return fuse_into_layer(work, layer, node, scale, shift, ranks)


def _per_channel(constant: gs.Constant, layer: Weights, ranks: dict[str, int]) -> Array | None:
    """The constant as float64 [C_out], or None if it varies along any other axis or adds axes."""
    convolution = layer.node.op in ("Conv", "ConvTranspose")
    rank = layer.weight.ndim if convolution else ranks.get(layer.last.outputs[0].name, 2)
    shape = tuple(constant.shape)
    axis = len(shape) - (rank - 1 if convolution else 1)
    values = floats_of(constant)
    if values is None or len(shape) > rank or any(n != 1 and k != axis for k, n in enumerate(shape)):
        return None
    outputs = layer.layer.outputs
    return np.broadcast_to(values.reshape(-1), (outputs,)) if values.size in (1, outputs) else None
