"""The axis along which a tensor's channels lie: found from the layers that make it, or else from those that read it."""

from collections.abc import Iterable

import onnx_graphsurgeon as gs

from graphpass.graph.layers import KEEPS_AXES, MAXIMA, SCALES, SUMS, data_inputs, rank_of, weight_layer


def channel_axis(x: gs.Variable, output: gs.Variable | None = None) -> int | None:
    """The axis of x along which channels lie: 1 (negative: from the end), None where unknown.

    Follows the producers back to the weight or normalisation layer that made the channels. Where there is none, the
    weight layers that read `output`, an elementwise function of x, decide. So weights fix the size of the axis, and it
    does not differ from input to input.
    """
    axis = _produced_axis(x, 0, {})
    return _consumed_axis(x if output is None else output) if axis is None else axis


def _produced_axis(tensor: gs.Variable, depth: int, known: dict[int, int | None]) -> int | None:
    """known: results by id of the tensor, so that paths that meet again are walked once."""
    if not tensor.inputs or depth > 64:
        return None
    if id(tensor) not in known:
        known[id(tensor)] = _axis_behind(tensor.inputs[0], depth, known)
    return known[id(tensor)]


def _axis_behind(node: gs.Node, depth: int, known: dict[int, int | None]) -> int | None:
    inner = data_inputs(node)
    if not inner:  # a constant, reshaped to a size that is computed
        return None
    if node.op in (
        "Conv",
        "ConvTranspose",
        "BatchNormalization",
        "InstanceNormalization",
        "GroupNormalization",
    ):
        return 1
    if node.op in ("Gemm", "MatMul"):
        layer = weight_layer(node)
        return layer.output_axis if layer else None
    if node.op in ("LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization"):
        return -1
    if node.op == "Transpose":
        permutation = node.attrs.get("perm")
        axis = _produced_axis(inner[0], depth + 1, known) if permutation else None
        return None if axis is None else permutation.index(axis % len(permutation))
    if node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _kept_axis(inner[0], node.outputs[0], depth, known)
    if node.op not in SUMS | SCALES | MAXIMA | KEEPS_AXES:
        return None
    return _agreed((_produced_axis(t, depth + 1, known), rank_of(t)) for t in inner)


def _agreed(axes: Iterable[tuple[int | None, int | None]]) -> int | None:
    """The one axis that tensors, each with its (axis, rank), have in common when they are broadcast; None if none."""
    known = {(axis, rank) for axis, rank in axes if axis is not None}
    from_the_end = {axis if axis < 0 or rank is None else axis - rank for axis, rank in known}
    if len(from_the_end) != 1:
        return None
    return next(iter(known))[0] if len(known) == 1 else from_the_end.pop()


def _kept_axis(inner: gs.Variable, outer: gs.Variable, depth: int, known: dict[int, int | None]) -> int | None:
    """The channel axis behind a reshape that leaves it where it is: the first two sizes, or the last, are the same."""
    axis = _produced_axis(inner, depth + 1, known)
    if axis is None or not inner.shape or not outer.shape:
        return None
    before, after = list(inner.shape), list(outer.shape)
    if axis in (-1, len(before) - 1) and before[-1] == after[-1] and isinstance(after[-1], int):
        return -1
    return 1 if axis == 1 and before[:2] == after[:2] and isinstance(after[1], int) else None


def _consumed_axis(tensor: gs.Variable) -> int | None:
    layers = (layer for node in tensor.outputs if (layer := weight_layer(node)) and layer.data is tensor)
    return _agreed((layer.input_axis, rank_of(tensor)) for layer in layers)
