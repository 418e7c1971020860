"""The axis along which a tensor's channels lie: found from the layers that make it, from those that read it, or else
from the constants that it was scaled or moved by.
"""

from collections.abc import Callable, Iterable

import onnx_graphsurgeon as gs

from graphpass.graph.layers import KEEPS_AXES, MAXIMA, REDUCTIONS, SCALES, SUMS, data_inputs, rank_of, weight_layer
from graphpass.graph.time_axis import axes_of, constant_values

Constants = Callable[[gs.Node], int | None]
DEPTH = 64  # nodes that a walk passes


def channel_axis(x: gs.Variable, output: gs.Variable | None = None) -> int | None:
    """The axis of x along which channels lie: 1 (negative: from the end), None where unknown.

    Follows the producers back to the weight or normalisation layer that made the channels. Where there is none, the
    weight layers behind `output`, an elementwise function of x, decide. Where these do not agree, or there are none
    (GroupNormalization is often spelled as a Reshape to groups and back, in front of a Concat), the nearest constants
    decide that have a value for each channel. So weights or constants fix the size of the axis, and it does not differ
    from input to input.
    """
    end = x if output is None else output
    axis = _produced_axis(x, 0, {}, lambda _: None)
    if axis is None:
        axis = _consumed_axis(end, 0, {})
    return _produced_axis(x, 0, {}, _axis_of_constants) if axis is None else axis


def _produced_axis(tensor: gs.Variable, depth: int, known: dict[int, int | None], constants: Constants) -> int | None:
    """known: results by id of the tensor, so that paths that meet again are walked once."""
    if not tensor.inputs or depth > DEPTH:
        return None
    if id(tensor) not in known:
        known[id(tensor)] = _axis_behind(tensor.inputs[0], depth, known, constants)
    return known[id(tensor)]


def _axis_behind(node: gs.Node, depth: int, known: dict[int, int | None], constants: Constants) -> int | None:
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
    if node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _kept_axis(inner[0], node.outputs[0], depth, known, constants)
    if node.op in REDUCTIONS or node.op == "Transpose":
        axis = _produced_axis(inner[0], depth + 1, known, constants)
        return None if axis is None else _moved_axis(node, axis)
    if node.op not in SUMS | SCALES | MAXIMA | KEEPS_AXES:
        return None
    axis = _agreed((_produced_axis(t, depth + 1, known, constants), rank_of(t)) for t in inner)
    return constants(node) if axis is None else axis


def _moved_axis(node: gs.Node, axis: int) -> int | None:
    """Where an axis of its input is behind a Transpose, or behind a reduction, which must not be along it."""
    rank = rank_of(node.inputs[0])
    if node.op == "Transpose":
        permutation = node.attrs.get("perm")
        return permutation.index(axis % len(permutation)) if permutation else None
    axes = axes_of(node)
    if rank is None or not axes:
        return None
    axis, reduced = axis % rank, {each % rank for each in axes}
    if axis in reduced:
        return None
    return axis if node.attrs.get("keepdims", 1) else axis - sum(each < axis for each in reduced)


def _axis_of_constants(node: gs.Node) -> int | None:
    """The axis, from the end, that a constant of a sum or a product varies along, if it is one and not the batch."""
    if node.op not in SUMS | SCALES:
        return None
    sizes, found = node.outputs[0].shape or [], set()
    for index in range(len(node.inputs)):
        values = constant_values(node, index)
        shape = () if values is None else values.shape
        along = [place - len(shape) for place, size in enumerate(shape) if size > 1]
        if len(along) == 1 and -len(sizes) < along[0] and sizes[along[0]] == shape[along[0]]:
            found.add(along[0])
    return found.pop() if len(found) == 1 else None


def _agreed(axes: Iterable[tuple[int | None, int | None]]) -> int | None:
    """The one axis that tensors, each with its (axis, rank), have in common when they are broadcast; None if none."""
    known = {(axis, rank) for axis, rank in axes if axis is not None}
    from_the_end = {axis if axis < 0 or rank is None else axis - rank for axis, rank in known}
    if len(from_the_end) != 1:
        return None
    return next(iter(known))[0] if len(known) == 1 else from_the_end.pop()


def _kept_axis(
    inner: gs.Variable, outer: gs.Variable, depth: int, known: dict[int, int | None], constants: Constants
) -> int | None:
    """The channel axis behind a reshape that leaves it where it is: the first two sizes, or the last, are the same."""
    axis = _produced_axis(inner, depth + 1, known, constants)
    if axis is None or not inner.shape or not outer.shape:
        return None
    before, after = list(inner.shape), list(outer.shape)
    if axis in (-1, len(before) - 1) and before[-1] == after[-1] and isinstance(after[-1], int):
        return -1
    return 1 if axis == 1 and before[:2] == after[:2] and isinstance(after[1], int) else None


def _consumed_axis(tensor: gs.Variable, depth: int, known: dict[int, int | None]) -> int | None:
    """The one axis that the weight layers behind a tensor agree on, through nodes that leave each axis in its place.

    known: as of _produced_axis. The nearest layers decide: where some read the tensor itself, others are not asked.
    """
    layers = [layer for node in tensor.outputs if (layer := weight_layer(node)) and layer.data is tensor]
    if layers:
        return _agreed((layer.input_axis, rank_of(tensor)) for layer in layers)
    if depth > DEPTH or not tensor.shape:
        return None
    if id(tensor) not in known:
        known[id(tensor)] = None
        readers = [node for node in tensor.outputs if node.op in SUMS | MAXIMA | KEEPS_AXES | {"Transpose"}]
        readers = [node for node in readers if rank_of(node.outputs[0]) == rank_of(tensor)]
        axis = _agreed((_axis_in_front(node, depth, known), rank_of(tensor)) for node in readers)
        known[id(tensor)] = axis if axis is not None and isinstance(tensor.shape[axis], int) else None
    return known[id(tensor)]


def _axis_in_front(node: gs.Node, depth: int, known: dict[int, int | None]) -> int | None:
    """What the layers behind a node say of its input."""
    axis = _consumed_axis(node.outputs[0], depth + 1, known)
    if axis is None or node.op != "Transpose":
        return axis
    permutation = node.attrs.get("perm")
    return int(permutation[axis % len(permutation)]) if permutation else None
