"""How a map with one value for each element (the scale or offset of a train) passes a node that moves the elements.

A map is float32 of the tensor's rank with size 1 on axis 0 and on every axis along which it does not vary. Labels take
its place: they say for each position of the result which value of the map it gets, so that the axes along which the
result varies follow from the node and the sizes alone. Where a node fills in a constant (Pad, Where), the offset is
that constant. The scale may be any number there, since there is no spike; one that adds no axis is chosen.
"""

from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.layers import is_padded, rank_of
from graphpass.graph.time_axis import axes_of, constant_values, free_target, given, given_pads

LARGEST_MAP = 1 << 22  # values of a map; a larger one is applied at run time instead
FILLED = -1  # the label of positions that a node fills in

Array = NDArray[np.float32]
Labels = NDArray[np.int64]


class Travel(Enum):
    """Whether a map is a scale or an offset; they differ in the values that are filled in."""

    SCALE = "scale"
    OFFSET = "offset"


TravelRule = Callable[[gs.Node, Labels, int, Travel], Labels | list[Labels] | None]


def travels(node: gs.Node, values: Array, what: Travel) -> list[Array] | None:
    """The maps of the node's outputs; None if sizes are unknown, a map is too large, or the node is of another kind.

    A map that does not change is returned as the same array.
    """
    rank = rank_of(node.outputs[0])
    if rank is None:
        return None
    if node.op in ("Where", "Trilu"):
        masked = _masked(node, values, rank, what)
        return None if masked is None else [masked]
    rule = RULES.get(node.op)
    labels = np.arange(values.size, dtype=np.int64).reshape(values.shape)
    found = None if rule is None else rule(node, labels, rank, what)
    if found is None:
        return None
    table = np.append(values.ravel(), np.float32(_fill(node))).astype(np.float32)
    each = found if isinstance(found, list) else [found] * len(node.outputs)
    return [values if np.array_equal(part, labels) else table[part] for part in each]


def _fill(node: gs.Node) -> float:
    if node.op != "Pad":
        return 0.0
    value = constant_values(node, 2)
    return float(value.ravel()[0]) if value is not None and value.size else float(node.attrs.get("value", 0.0))


def _sizes(tensor: gs.Tensor) -> list[int] | None:
    """The sizes behind axis 0, None where one is not known."""
    return _whole_numbers(tensor.shape[1:]) if tensor.shape else None


def _whole_numbers(sizes: Sequence[object]) -> list[int] | None:
    """The sizes, None where one is not known."""
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    return known if len(known) == len(sizes) else None


def _full(labels: Labels, sizes: Sequence[int]) -> Labels | None:
    """The labels of every element of one sample."""
    if int(np.prod(sizes)) > LARGEST_MAP:
        return None
    return np.broadcast_to(labels, (1, *sizes))


def _squashed(labels: Labels) -> Labels:
    """The labels with axes along which they do not differ reduced to size 1."""
    for axis in range(labels.ndim):
        first = labels.take([0], axis)
        if labels.shape[axis] > 1 and (labels == first).all():
            labels = first
    return labels


def _same(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    return labels if labels.ndim == out else None


def _transpose(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    return labels.transpose(node.attrs["perm"])


def _reshape(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    """A map that varies along no axis, or along leading or trailing axes that stay, or behind leading axes that stay if
    all sizes there are known.
    """
    varying = [axis for axis, size in enumerate(labels.shape) if size > 1]
    if not varying:
        return labels.reshape((1,) * out)
    before, after, rank = node.inputs[0].shape, node.outputs[0].shape, labels.ndim
    if before is None or after is None:
        return None
    head = tail = 0
    if _keeps_samples(node):
        head = 1
        while head < min(rank, out) and _equal(before[head], after[head]):
            head += 1
    if max(varying) < head:
        return labels.reshape(labels.shape[:head] + (1,) * (out - head))
    while tail < min(rank, out) - 1 and _equal(before[-1 - tail], after[-1 - tail]):
        tail += 1
    if min(varying) >= rank - tail:
        return labels.reshape((1,) * (out - tail) + labels.shape[rank - tail :])
    head = min(head or 1, *varying)
    old, new = _whole_numbers(before[head:]), _whole_numbers(after[head:])
    if old is None or new is None or np.prod(old) != np.prod(new):
        return None
    whole = _full(labels.reshape(1, *labels.shape[head:]), old)
    return None if whole is None else _squashed(whole.reshape((1,) * head + tuple(new)))


def _keeps_samples(node: gs.Node) -> bool:
    """Whether a Reshape or Flatten leaves axis 0 as it is, instead of merging others with it."""
    if node.op == "Flatten":
        return bool(node.attrs.get("axis", 1) == 1)
    target = free_target(node)
    return _equal(node.inputs[0].shape[0], node.outputs[0].shape[0]) or (target is not None and target[0] == 0)


def _equal(one: object, other: object) -> bool:
    """Whether two sizes are known to be equal: one number, or one symbol."""
    return one is not None and one == other and not (isinstance(one, int) and one < 0)


def _squeeze(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    return np.squeeze(labels, axes_of(node) or ())


def _unsqueeze(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    return np.expand_dims(labels, axes_of(node) or ())


def _slice(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    limits = [constant_values(node, k) for k in (1, 2)]
    axes, steps = constant_values(node, 3), constant_values(node, 4)
    if axes is None:
        return None
    for k, axis in enumerate(int(each) % out for each in axes):
        if labels.shape[axis] == 1:
            continue
        if any(limit is None for limit in limits) or (len(node.inputs) > 4 and steps is None):
            return None
        start, stop = (int(limit[k]) for limit in limits if limit is not None)
        step = 1 if steps is None else int(steps[k])
        labels = labels.take(_positions(start, stop, step, labels.shape[axis]), axis)
    return labels


def _positions(start: int, stop: int, step: int, size: int) -> range:
    """The positions that a Slice takes of an axis. Limits outside the axis move to its edge; unlike in Python's slices
    with a negative step, a start in front of the axis is its first position.
    """
    start, stop = (limit + size if limit < 0 else limit for limit in (start, stop))
    lowest, highest = (0, size) if step > 0 else (-1, size - 1)
    return range(min(max(start, 0), highest), min(max(stop, lowest), highest), step)


def _split(node: gs.Node, labels: Labels, out: int, what: Travel) -> list[Labels] | None:
    axis = node.attrs.get("axis", 0) % out
    if labels.shape[axis] == 1:
        return [labels] * len(node.outputs)
    sizes = [tensor.shape[axis] if tensor.shape else None for tensor in node.outputs]
    if not all(isinstance(size, int) for size in sizes):
        return None
    edges = np.cumsum([0, *sizes])
    return [labels.take(range(edges[k], edges[k + 1]), axis) for k in range(len(sizes))]


def _gather(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    axis, index = node.attrs.get("axis", 0) % labels.ndim, constant_values(node, 1)
    if labels.shape[axis] > 1:
        return None if index is None else labels.take(index.astype(np.int64), axis)
    added = out - labels.ndim + 1
    return labels.reshape(labels.shape[:axis] + (1,) * added + labels.shape[axis + 1 :])


def _compress(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    axis, kept_places = node.attrs["axis"] % out, constant_values(node, 1)
    if labels.shape[axis] == 1:
        return labels
    return None if kept_places is None else labels.take(np.flatnonzero(kept_places), axis)


def _pad(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    """Crop, or pad by the mode, axis by axis; filled positions get FILLED or, where there is no spike, any label."""
    pads, mode = given_pads(node, out), node.attrs.get("mode", "constant")
    if pads is None or (mode == "constant" and given(node, 2) and constant_values(node, 2) is None):
        return None
    sizes = list(node.inputs[0].shape) if node.inputs[0].shape else None
    for axis in np.flatnonzero(pads.any(0)):
        ends = [int(end) for end in pads[:, axis]]
        fills = mode == "constant" and what is Travel.OFFSET and max(ends) > 0
        if labels.shape[axis] == 1:
            if not fills:
                continue
            size = sizes[axis] if sizes else None
            if not isinstance(size, int) or labels.size * (size + sum(ends)) > LARGEST_MAP:
                return None
            labels = np.repeat(labels, size, axis)
        stop = labels.shape[axis] + min(ends[1], 0)
        labels = labels.take(range(max(-ends[0], 0), stop), axis)
        around = [(0, 0)] * out
        around[axis] = (max(ends[0], 0), max(ends[1], 0))
        if mode != "constant":
            labels = np.pad(labels, around, mode)
        elif fills:
            labels = np.pad(labels, around, constant_values=FILLED)
        else:
            labels = np.pad(labels, around, "edge")
    return labels


def _tile(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    repeats = constant_values(node, 1)
    for axis, size in enumerate(labels.shape):
        if size > 1:
            if repeats is None:
                return None
            labels = np.concatenate([labels] * int(repeats[axis]), axis)
    return labels


def _depth_to_space(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    """[1, C, H, W] → [1, C/b², H·b, W·b]; a pattern that repeats every b positions needs known sizes."""
    channels = node.inputs[0].shape[1] if node.inputs[0].shape else None
    if labels.size == 1 or not isinstance(channels, int):
        return labels if labels.size == 1 else None
    small = _to_space(node, labels, [channels, *labels.shape[2:]])
    if small is not None and all(one > 1 or other == 1 for one, other in zip(labels.shape, small.shape, strict=True)):
        return small
    whole = _sizes(node.inputs[0])
    return None if whole is None else _to_space(node, labels, whole)


def _to_space(node: gs.Node, labels: Labels, sizes: list[int]) -> Labels | None:
    """DepthToSpace of labels on an image of these sizes."""
    whole, block = _full(labels, sizes), int(node.attrs["blocksize"])
    if whole is None:
        return None
    channels, height, width = sizes
    if node.attrs.get("mode", "DCR") == "CRD":
        moved = whole.reshape(1, -1, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    else:
        moved = whole.reshape(1, block, block, -1, height, width).transpose(0, 3, 4, 1, 5, 2)
    return _squashed(moved.reshape(1, channels // block**2, height * block, width * block))


def _space_to_depth(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    """[1, C, H, W] → [1, C·b², H/b, W/b]."""
    block = int(node.attrs["blocksize"])
    channels = node.inputs[0].shape[1] if node.inputs[0].shape else None
    if labels.size == 1 or not isinstance(channels, int):
        return labels if labels.size == 1 else None
    inner = [channels, block, block] if list(labels.shape[2:]) == [1, 1] else _sizes(node.inputs[0])
    whole = None if inner is None else _full(labels, inner)
    if whole is None or inner is None:
        return None
    height, width = inner[1] // block, inner[2] // block
    moved = whole.reshape(1, channels, height, block, width, block).transpose(0, 3, 5, 1, 2, 4)
    return _squashed(moved.reshape(1, channels * block**2, height, width))


def _masked(node: gs.Node, values: Array, out: int, what: Travel) -> Array | None:
    """Where with a constant on one side, and Trilu: the constant is the offset at masked positions."""
    if what is Travel.SCALE:
        return values if values.ndim == out else None
    if node.op == "Trilu":
        sizes = _sizes(node.outputs[0])
        if sizes is None or int(np.prod(sizes)) > LARGEST_MAP:
            return None
        cut = np.triu if node.attrs.get("upper", 1) else np.tril
        shift = constant_values(node, 1)
        if shift is None and len(node.inputs) > 1 and not node.inputs[1].is_empty():
            return None
        whole = np.broadcast_to(values, (*values.shape[:-2], *sizes[-2:]))
        return cut(whole, 0 if shift is None else int(shift.ravel()[0]))
    mask, parts = constant_values(node, 0), [constant_values(node, k) for k in (1, 2)]
    if mask is None or (parts[0] is None) == (parts[1] is None):
        return None
    one, other = (values if part is None else np.asarray(part, np.float32) for part in parts)
    filled = np.where(mask, one, other)
    filled = filled.reshape((1,) * (out - filled.ndim) + filled.shape)
    return filled.astype(np.float32) if filled.ndim == out and filled.shape[0] == 1 else None


def _pool(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    """Averages over positions, along which the map may not vary. Zeros that padding adds have no offset."""
    zeros = (is_padded(node.attrs) or node.attrs.get("ceil_mode", 0)) and node.attrs.get("count_include_pad", 0)
    varies = any(size > 1 for size in labels.shape[2:])
    return None if varies or (zeros and what is Travel.OFFSET) else labels


def _mean(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    axes = tuple(axis % labels.ndim for axis in axes_of(node) or ())
    if any(labels.shape[axis] > 1 for axis in axes):
        return None
    return labels if node.attrs.get("keepdims", 1) else np.squeeze(labels, axes)


def _resize(node: gs.Node, labels: Labels, out: int, what: Travel) -> Labels | None:
    scales = constant_values(node, 2)
    if scales is None or node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    full = np.ones(out)
    full[list(node.attrs["axes"]) if "axes" in node.attrs else slice(None)] = scales
    return labels if all(full[axis] == 1 for axis, size in enumerate(labels.shape) if size > 1) else None


RULES: dict[str, TravelRule] = {
    "Identity": _same,
    "Dropout": _same,
    "Cast": _same,
    "Expand": _same,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Compress": _compress,
    "Pad": _pad,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "AveragePool": _pool,
    "GlobalAveragePool": _pool,
    "ReduceMean": _mean,
    "Resize": _resize,
}
