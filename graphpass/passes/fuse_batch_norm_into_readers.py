"""fuse_batch_norm_into_readers: a BatchNormalization goes into the weights of the layers that read it."""

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.layers import WEIGHTS, is_padded
from graphpass.graph.weights import (
    Array,
    Weights,
    is_op,
    misfit,
    ranks_of,
    read_weights,
    scale_inputs,
    write,
)
from graphpass.passes.base import HELD, Rewriting
from graphpass.passes.fusing import batch_norms

COMMUTING = ("Flatten", "GlobalAveragePool", "AveragePool")


def fuse_batch_norm_into_readers(work: Rewriting) -> None:
    """W·BN(x) + b, BN(x) = s·x + t:  W' = W·s on input channels, b' = b + Σ W·t.

    Exact if all readers of BN(x) are weight layers (through Flatten and average pooling, which commute with
    s·x + t) and, where t ≠ 0, nothing is padded with zeros: padding adds 0, not t.
    """
    ranks = ranks_of(work.graph)
    for norm, affine in batch_norms(work):
        if isinstance(affine, str) or not _reaches_weights(norm.outputs[0]):
            continue
        leaves = list(_readers(norm.outputs[0], *affine, work.edit.held, ranks))
        changes = [(leaf[0], *scale_inputs(*leaf)) for leaf in leaves if not isinstance(leaf, str)]
        reasons = [leaf for leaf in leaves if isinstance(leaf, str)] + [misfit(*change) for change in changes]
        reason = next(filter(None, reasons), None)
        if reason is None:
            for change in changes:
                write(work.edit, *change)
            work.edit.bypass(norm)
        work.settle(norm, reason)


def _reaches_weights(tensor: gs.Tensor) -> bool:
    return any(
        is_op(node, *WEIGHTS) or (is_op(node, *COMMUTING) and _reaches_weights(node.outputs[0]))
        for node in tensor.outputs
    )


def _readers(
    tensor: gs.Tensor, scale: Array, shift: Array, held: frozenset[str], ranks: dict[str, int]
) -> Iterator[tuple[Weights, Array, Array] | str]:
    """The weight layers that read `tensor`, with s and t per input channel; a str: why one cannot take it."""
    if tensor.name in held:
        yield f"{tensor.name}: {HELD}"
    for node in tensor.outputs:
        where = f"{node.op} {node.name}"
        if is_op(node, "Flatten") and node.attrs.get("axis", 1) == 1:
            yield from _readers(node.outputs[0], scale, shift, held, ranks)
        elif is_op(node, "GlobalAveragePool", "AveragePool"):
            if shift.any() and node.attrs.get("count_include_pad", 0):
                yield f"{where} counts its padding"
            yield from _readers(node.outputs[0], scale, shift, held, ranks)
        elif not is_op(node, *WEIGHTS):
            yield f"{where} reads it and is not a weight layer"
        elif node.inputs[0] is not tensor:
            yield f"{where} reads it as a weight"
        elif shift.any() and _pads_with_zeros(node):
            yield f"{where} pads with zeros, and the shift is not zero"
        elif node.op == "MatMul" and ranks.get(tensor.name) != 2:
            yield f"{where}: the channel axis is not known to be its last axis"
        else:
            layer = read_weights(node, held)
            if isinstance(layer, str):
                yield f"{where}: {layer}"
            else:
                # Flatten puts the positions of one channel next to each other
                repeats = layer.layer.inputs // len(scale)
                yield layer, np.repeat(scale, repeats), np.repeat(shift, repeats)


def _pads_with_zeros(node: gs.Node) -> bool:
    if node.op == "ConvTranspose":
        return True  # it sees fewer taps at its borders, which has the same effect
    return node.op == "Conv" and is_padded(node.attrs)
