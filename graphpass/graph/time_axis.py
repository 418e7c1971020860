"""Which nodes treat the time-steps apart: tensors are [T·N, …], time-major, and axis 0 must pass untouched.

A node keeps the steps apart when stacking its inputs over t on axis 0 stacks its output:
f([I_1; …; I_T]) = [f(I_1); …; f(I_T)]. Because time is the outermost part of axis 0, row-major reshapes that leave the
leading size free keep the steps apart, whatever they merge behind it. What the graph does not prove counts as false.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.layers import WeightLayer, is_linear, rank_of, weight_layer

ELEMENTWISE = frozenset(["Add", "Sub", "Mean", "Mul", "Div"])
ALWAYS = frozenset(["Identity", "Cast", "Neg", "DepthToSpace", "SpaceToDepth", "AveragePool", "GlobalAveragePool"])


def first_size(tensor: gs.Tensor) -> Any:
    """Size of axis 0: an int, a symbol, or None where unknown."""
    return tensor.shape[0] if tensor.shape else None


def constant_values(node: gs.Node, index: int) -> np.ndarray | None:
    """Values of a constant input, None where it is computed or left out."""
    if index >= len(node.inputs) or not isinstance(node.inputs[index], gs.Constant):
        return None
    return np.asarray(node.inputs[index].values)


def given(node: gs.Node, index: int) -> bool:
    """Whether an optional input is given."""
    return index < len(node.inputs) and not node.inputs[index].is_empty()


def axes_of(node: gs.Node) -> tuple[int, ...] | None:
    """The axes that a node names in its attribute or its constant input 1; None if it names none or computes them."""
    if "axes" in node.attrs:
        return tuple(node.attrs["axes"])
    values = constant_values(node, 1)
    return None if values is None else tuple(int(v) for v in values.ravel())


def keeps_steps_apart(node: gs.Node, trains: Sequence[int]) -> bool:
    """Whether the node may run on trains (the input numbers in `trains`) step by step and stay exact in the mean."""
    layer = weight_layer(node)
    if layer:
        return list(trains) == [layer.data_index] and _LAYERS[node.op](node, layer.weight_index)
    if not is_linear(node):
        return False
    if node.op in ELEMENTWISE:
        return _aligned(node, trains)
    if node.op == "Where":
        return len(trains) == 1 and _chooses(node, trains[0])
    if node.op == "Concat":
        rank = rank_of(node.inputs[0])
        return rank is not None and node.attrs["axis"] % rank != 0
    if list(trains) != [0] or rank_of(node.inputs[0]) in (None, 0):
        return False
    rank = len(node.inputs[0].shape)
    return node.op in ALWAYS or (node.op in _RULES and _RULES[node.op](node, rank))


def needs_repeat(tensor: gs.Tensor, rank: int) -> bool:
    """Whether a static operand beside trains of this rank has the samples on axis 0."""
    return rank_of(tensor) == rank and first_size(tensor) != 1


def _aligned(node: gs.Node, trains: Sequence[int]) -> bool:
    """Whether all trains have one rank, and static operands broadcast over axis 0 or have the trains' samples there."""
    ranks = {rank_of(node.inputs[index]) for index in trains}
    rank = ranks.pop()
    if ranks or rank in (None, 0):
        return False
    sizes = {first_size(node.inputs[index]) for index in trains}
    for tensor in node.inputs:
        own = rank_of(tensor)
        if own is None or own > rank:
            return False
        if own == rank and first_size(tensor) != 1:
            sizes.add(first_size(tensor))
    numbers = {size for size in sizes if isinstance(size, int)}
    return len(numbers) <= 1 and not (1 in numbers and len(sizes) > 1)


def _chooses(node: gs.Node, train: int) -> bool:
    """Whether it is a Where between a train and a constant whose mask and constant are the same for all samples."""
    rank, others = rank_of(node.inputs[train]), [k for k in range(3) if k != train]
    values = [constant_values(node, k) for k in others]
    if rank in (None, 0) or rank_of(node.outputs[0]) != rank or any(each is None for each in values):
        return False
    return all(each.ndim < rank or each.shape[0] == 1 for each in values if each is not None)


def _conv(node: gs.Node, weight_index: int) -> bool:
    return weight_index == 1


def _gemm(node: gs.Node, weight_index: int) -> bool:
    if weight_index != 1 or WeightLayer(node, 0, 1).transposes_data:
        return False
    bias = node.inputs[2] if given(node, 2) else None
    return bias is None or (isinstance(bias, gs.Constant) and (len(bias.shape) < 2 or bias.shape[0] == 1))


def _matmul(node: gs.Node, weight_index: int) -> bool:
    data, weight = node.inputs[1 - weight_index], node.inputs[weight_index]
    rank = rank_of(data)
    if rank is None or rank < (2 if weight_index == 1 else 3):
        return False
    size = len(weight.shape)
    return size == 2 or size < rank or (size == rank and weight.shape[0] == 1)


_LAYERS = {"Conv": _conv, "ConvTranspose": _conv, "Gemm": _gemm, "MatMul": _matmul}


def _reshape(node: gs.Node, rank: int) -> bool:
    return not node.attrs.get("allowzero", 0) and free_target(node) is not None


def free_target(node: gs.Node) -> np.ndarray | None:
    """The constant target of a Reshape with axis 0 left free (0 or −1), None where there is none."""
    target = constant_values(node, 1)
    if target is None or target.size == 0:
        return None
    target = target.astype(np.int64).copy()
    if target[0] > 0:
        if target[0] == first_size(node.inputs[0]):
            target[0] = 0
        elif -1 in target:
            return None
        else:
            target[0] = -1
    return target


def _flatten(node: gs.Node, rank: int) -> bool:
    return bool(node.attrs.get("axis", 1) % rank != 0)


def _transpose(node: gs.Node, rank: int) -> bool:
    return bool(node.attrs.get("perm")) and node.attrs["perm"][0] == 0


def _named_axes(node: gs.Node, rank: int) -> bool:
    axes = axes_of(node)
    return bool(axes) and all(axis % rank for axis in axes)  # type: ignore[union-attr]


def _unsqueeze(node: gs.Node, rank: int) -> bool:
    axes = axes_of(node)
    return axes is not None and all(axis % (rank + len(axes)) for axis in axes)


def _slice(node: gs.Node, rank: int) -> bool:
    axes = constant_values(node, 3) if len(node.inputs) > 1 else node.attrs.get("axes")
    return axes is not None and all(bool(int(axis) % rank) for axis in axes)


def _one_axis(node: gs.Node, rank: int) -> bool:
    return bool(node.attrs.get("axis", 0) % rank != 0)


def _pad(node: gs.Node, rank: int) -> bool:
    return given_pads(node, rank) is not None and not given_pads(node, rank)[:, 0].any()  # type: ignore[index]


def given_pads(node: gs.Node, rank: int) -> np.ndarray | None:
    """Constant pads as int64 [2, rank], None where they are computed."""
    pads = np.asarray(node.attrs["pads"]) if "pads" in node.attrs else constant_values(node, 1)
    if pads is None:
        return None
    full = np.zeros((2, rank), np.int64)
    if given(node, 3):
        axes = constant_values(node, 3)
        if axes is None:
            return None
        full[:, axes.ravel() % rank] = pads.reshape(2, -1)
    elif pads.size == 2 * rank:
        full[:] = pads.reshape(2, rank)
    else:
        return None
    return full


def _broadcast(node: gs.Node, rank: int) -> bool:
    target = constant_values(node, 1)
    return target is not None and (target.size < rank or (target.size == rank and target[0] == 1))


def _tile(node: gs.Node, rank: int) -> bool:
    repeats = constant_values(node, 1)
    return repeats is not None and repeats.size == rank and repeats[0] == 1


def _resize(node: gs.Node, rank: int) -> bool:
    if "axes" in node.attrs:
        return all(axis % rank for axis in node.attrs["axes"])
    scales = constant_values(node, 2)
    return scales is not None and scales.size == rank and scales[0] == 1


def _batch_norm(node: gs.Node, rank: int) -> bool:
    return rank >= 2 and not node.attrs.get("training_mode", 0)


def _dropout(node: gs.Node, rank: int) -> bool:
    return all(mask.is_empty() for mask in node.outputs[1:])


def _compress(node: gs.Node, rank: int) -> bool:
    return "axis" in node.attrs and bool(node.attrs["axis"] % rank != 0)


def _trilu(node: gs.Node, rank: int) -> bool:
    return rank > 2


_RULES = {
    "Dropout": _dropout,
    "Compress": _compress,
    "Trilu": _trilu,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _named_axes,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _one_axis,
    "Gather": _one_axis,
    "Pad": _pad,
    "Expand": _broadcast,
    "Tile": _tile,
    "ReduceMean": _named_axes,
    "ReduceSum": _named_axes,
    "Resize": _resize,
    "BatchNormalization": _batch_norm,
}
