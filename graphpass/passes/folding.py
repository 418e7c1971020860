"""The folding rules: BatchNormalization and per-channel arithmetic go into the weights next to them."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.edit import Editor, used_once
from graphpass.graph.weights import (
    FLOATS,
    WEIGHT_OPS,
    Array,
    Weights,
    floats_of,
    is_op,
    layer_ending_at,
    misfit,
    ranks_of,
    read_weights,
    scale_inputs,
    scale_outputs,
    write,
)
from graphpass.passes.base import HELD, Miss, RuleReport
from graphpass.sites.activations import find_activations


def batch_norm_into_weights(graph: gs.Graph) -> RuleReport:
    """BN(W·x + b):  W' = W·γ/σ, b' = (b − μ)·γ/σ + β, σ = √(variance + ε)."""
    rule, edit, ranks, rewrites, misses = "batch_norm_into_weights", Editor(graph), ranks_of(graph), 0, []
    for norm, affine in _batch_norms(graph):
        x = norm.inputs[0]
        layer = layer_ending_at(x, edit.held)
        if layer is None or isinstance(affine, str):
            continue
        reason = _fold_into_outputs(edit, layer, norm, *affine, ranks)
        rewrites += reason is None
        if reason:
            misses.append(Miss(rule, norm.name, reason))
    edit.finish()
    return RuleReport(rule, rewrites, tuple(misses))


def _fold_into_outputs(
    edit: Editor, layer: Weights | str, node: gs.Node, scale: Array, shift: Array, ranks: dict[str, int]
) -> str | None:
    """node(y) = s·y + t, y the layer's result, becomes part of the layer; or the reason why not."""
    if isinstance(layer, str):
        return layer
    result = layer.last.outputs[0]
    if not used_once(result, edit.held):
        return f"{result.name} is used elsewhere too"
    if node.op == "BatchNormalization" and layer.node.op == "MatMul" and ranks.get(result.name) != 2:
        return "its channel axis is not known to be the last axis of the MatMul"
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return "its scale or shift is not finite"
    weight, bias = scale_outputs(layer, scale, shift)
    reason = misfit(layer, weight, bias)
    if reason is None:
        maker = write(edit, layer, weight, bias)
        edit.take_over(maker, maker.outputs[0], node)
    return reason


def _batch_norms(graph: gs.Graph) -> Iterator[tuple[gs.Node, tuple[Array, Array] | str]]:
    """Each BatchNormalization with (γ/σ, β − μ·γ/σ), float64 [C], or why it has none."""
    for node in [node for node in graph.nodes if is_op(node, "BatchNormalization")]:
        values = [floats_of(tensor) for tensor in node.inputs[1:5]]
        old = graph.opset < 7 and not node.attrs.get("is_test", 0)
        if old or node.attrs.get("training_mode", 0) or any(not each.is_empty() for each in node.outputs[1:]):
            yield node, "it is in training mode"
        elif not node.attrs.get("spatial", 1):
            yield node, "it normalises each position by itself (spatial = 0)"
        elif len(values) != 4 or any(each is None for each in values):
            yield node, "its scale, bias, mean or variance is not a constant"
        else:
            gamma, beta, mean, variance = values
            with np.errstate(all="ignore"):  # a variance below −ε gives NaN, as it does at run time
                scale = gamma / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
                shift = beta - mean * scale
            yield node, (scale, shift)


def batch_norm_after(graph: gs.Graph) -> RuleReport:
    """W·BN(x) + b, BN(x) = s·x + t:  W' = W·s on input channels, b' = b + Σ W·t.

    Exact if all readers of BN(x) are weight layers (through Flatten and average pooling, which commute with
    s·x + t) and, where t ≠ 0, nothing is padded with zeros: padding adds 0, not t.
    """
    rule, edit, rewrites, misses = "batch_norm_after", Editor(graph), 0, []
    ranks = ranks_of(graph)
    for norm, affine in _batch_norms(graph):
        if isinstance(affine, str) or not _reaches_weights(norm.outputs[0]):
            continue
        leaves = list(_readers(norm.outputs[0], *affine, edit.held, ranks))
        changes = [(leaf[0], *scale_inputs(*leaf)) for leaf in leaves if not isinstance(leaf, str)]
        reasons = [leaf for leaf in leaves if isinstance(leaf, str)] + [misfit(*change) for change in changes]
        reason = next(filter(None, reasons), None)
        if reason:
            misses.append(Miss(rule, norm.name, reason))
            continue
        for change in changes:
            write(edit, *change)
        edit.bypass(norm)
        rewrites += 1
    edit.finish()
    return RuleReport(rule, rewrites, tuple(misses))


def _reaches_weights(tensor: gs.Tensor) -> bool:
    return any(
        is_op(node, *WEIGHT_OPS) or (is_op(node, *COMMUTING) and _reaches_weights(node.outputs[0]))
        for node in tensor.outputs
    )


COMMUTING = ("Flatten", "GlobalAveragePool", "AveragePool")


def _readers(
    tensor: gs.Tensor, scale: Array, shift: Array, held: frozenset[str], ranks: dict[str, int]
) -> Iterator[tuple[Weights, Array, Array] | str]:
    """The weight layers that read `tensor`, with s and t per input channel; a str: why one cannot fold."""
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
        elif not is_op(node, *WEIGHT_OPS):
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
                # Flatten lays the positions of one channel side by side
                repeats = layer.inputs // len(scale)
                yield layer, np.repeat(scale, repeats), np.repeat(shift, repeats)


def _pads_with_zeros(node: gs.Node) -> bool:
    if node.op == "ConvTranspose":
        return True  # its borders see fewer taps, which is the same thing
    automatic = node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return node.op == "Conv" and (automatic or any(node.attrs.get("pads", [])))


def scale_and_shift(graph: gs.Graph) -> RuleReport:
    """BN(x) → x·s + t, s = γ/σ, t = β − μ·s, of shape [1, C, 1 …]: what no weight layer could take."""
    rule, edit, ranks, rewrites, misses = "scale_and_shift", Editor(graph), ranks_of(graph), 0, []
    for norm, affine in _batch_norms(graph):
        x, y = norm.inputs[0], norm.outputs[0]
        rank = ranks.get(x.name, ranks.get(y.name))
        # x has the dtype of y; γ, β may be kept in a wider one
        dtype = next((t.dtype for t in (x, y) if t.dtype is not None), norm.inputs[1].dtype)
        if isinstance(affine, str):
            misses.append(Miss(rule, norm.name, affine))
            continue
        if rank is None:
            misses.append(Miss(rule, norm.name, "the number of axes of its input is not known"))
            continue
        if dtype not in FLOATS or not all(np.all(np.abs(each) <= np.finfo(dtype).max) for each in affine):
            misses.append(Miss(rule, norm.name, f"its scale or shift does not fit {dtype}"))
            continue
        shape = (1, -1, *(1,) * (rank - 2)) if rank > 1 else (-1,)
        scale, shift = (
            gs.Constant(edit.names.fresh(f"{norm.name}_{part}"), values.astype(dtype).reshape(shape))
            for part, values in zip(("scale", "shift"), affine, strict=True)
        )
        scaled = gs.Variable(edit.names.fresh(f"{norm.name}_scaled"), y.dtype, y.shape)
        mul = gs.Node("Mul", edit.names.fresh(f"{norm.name}_mul"), inputs=[x, scale], outputs=[scaled])
        add = gs.Node("Add", edit.names.fresh(f"{norm.name}_add"), inputs=[scaled, shift])
        edit.insert_after(norm, mul)
        edit.insert_after(mul, add)
        edit.remove(norm)
        add.outputs.append(y)
        rewrites += 1
    edit.finish()
    return RuleReport(rule, rewrites, tuple(misses))


def affine(graph: gs.Graph) -> RuleReport:
    """(W·x + b)·s + t:  W' = W·s, b' = b·s + t;  s, t of Mul, Div, Add, Sub: scalars or [C_out].

    MatMul + Add stays: it is how a bias is spelled there. A node that is part of an activation (the x + 3 of
    HardSwish, the x/θ of QCFS) stays, so that the activation is still recognised.
    """
    rule, edit, ranks, rewrites, misses = "affine", Editor(graph), ranks_of(graph), 0, []
    reserved = {id(node) for activation in find_activations(graph) for node in activation.nodes}
    for node in [node for node in graph.nodes if is_op(node, *AFFINE) and id(node) not in reserved]:
        k = next((k for k in (0, 1) if floats_of(node.inputs[k]) is not None), None)
        if k is None or isinstance(node.inputs[1 - k], gs.Constant) or (node.op == "Div" and k == 0):
            continue
        layer = layer_ending_at(node.inputs[1 - k], edit.held)
        if layer is None or (isinstance(layer, Weights) and layer.last.op == "MatMul" and node.op == "Add"):
            continue
        reason: str | None
        values = None if isinstance(layer, str) else _per_channel(node.inputs[k], layer, ranks)
        if isinstance(layer, str) or values is None:
            reason = layer if isinstance(layer, str) else "its constant is not one value per output channel"
        else:
            with np.errstate(divide="ignore"):
                scale, shift = AFFINE[node.op](values, k)
            reason = _fold_into_outputs(edit, layer, node, scale, shift, ranks)
        rewrites += reason is None
        if reason:
            misses.append(Miss(rule, node.name, reason))
    edit.finish()
    return RuleReport(rule, rewrites, tuple(misses))


def _per_channel(constant: gs.Constant, layer: Weights, ranks: dict[str, int]) -> Array | None:
    """The constant as float64 [C_out], or None if it varies along any other axis or adds axes."""
    convolution = layer.node.op in ("Conv", "ConvTranspose")
    rank = layer.weight.ndim if convolution else ranks.get(layer.last.outputs[0].name, 2)
    shape = tuple(constant.shape)
    axis = len(shape) - (rank - 1 if convolution else 1)
    values = floats_of(constant)
    if values is None or len(shape) > rank or any(n != 1 and k != axis for k, n in enumerate(shape)):
        return None
    return np.broadcast_to(values.reshape(-1), (layer.outputs,)) if values.size in (1, layer.outputs) else None


# op → (s, t) of the node as s·y + t; k is the place of the constant c among its inputs
AFFINE: dict[str, Callable[[Array, int], tuple[Array, Array]]] = {
    "Mul": lambda c, k: (c, np.zeros_like(c)),
    "Div": lambda c, k: (1 / c, np.zeros_like(c)),
    "Add": lambda c, k: (np.ones_like(c), c),
    "Sub": lambda c, k: (np.ones_like(c), -c) if k == 1 else (-np.ones_like(c), c),
}
