"""The scale and offset that a train of binary spikes still owes: y = scale·s + offset.

    neuron            scale = L_T·A, offset = o           L_T = Σ_t w_t, so that Σ_t (w_t/L_T)·(scale·s_t) = A·n
    shape-only, mean  both travel with their channels
    weight layer      W·(scale·s + o) + b = (W·scale)·s + (b + W·o)

Both are float32 arrays of the tensor's rank, size 1 on axis 0 and on every axis along which they do not vary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.time_axis import axes_of, constant_values, given_pads
from graphpass.graph.layers import WeightLayer, is_padded, rank_of

LARGEST_EXPANSION = 1 << 22  # values; a larger map of scales is applied at run time instead


@dataclass(frozen=True)
class Affine:
    """y = scale·s + offset."""

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]

    @property
    def varying(self) -> set[int]:
        """The axes along which scale or offset vary."""
        return {axis for part in (self.scale, self.offset) for axis, size in enumerate(part.shape) if size > 1}

    @property
    def shifted(self) -> bool:
        return bool(np.any(self.offset))

    def of_rank(self, rank: int) -> "Affine":
        """A scale and offset that vary along no axis, for another rank."""
        return Affine(self.scale.reshape((1,) * rank), self.offset.reshape((1,) * rank))

    def vectors(self, axis: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scale and offset along the only axis they vary on, float32 [size]."""
        parts = (np.moveaxis(part, axis, 0).reshape(-1) for part in (self.scale, self.offset))
        scale, offset = (np.broadcast_to(part, (size,)) for part in parts)
        return scale, offset


def neuron_affine(amplitude: NDArray[Any], offset: NDArray[Any], total: float, rank: int) -> Affine:
    """What the spikes of neurons owe on a tensor of this rank. total: L_T."""

    def full(values: NDArray[Any]) -> NDArray[np.float32]:
        array = np.asarray(values, np.float32)
        return array.reshape((1,) * (rank - array.ndim) + array.shape)

    return Affine(full(amplitude) * np.float32(total), full(offset))


def through(node: gs.Node, affine: Affine) -> list[Affine] | None:
    """What the outputs of a linear node owe when its input owes `affine`; None where it must be paid before."""
    rule = _RULES.get(node.op)
    out = rank_of(node.outputs[0])
    if rule is None or out is None:
        return None
    result = rule(node, affine, out)
    return None if result is None else [result] * len(node.outputs) if isinstance(result, Affine) else result


def joined(node: gs.Node, affines: Sequence[Affine]) -> Affine | None:
    """What the output of a Concat owes; None where a part's size along the axis is unknown."""
    rank = rank_of(node.outputs[0])
    if rank is None or any(a.scale.ndim != rank for a in affines):
        return None
    axis = node.attrs["axis"] % rank
    known = [tensor.shape[axis] for tensor in node.inputs if tensor.shape]
    sizes = [size for size in known if isinstance(size, int)]
    if len(sizes) != len(node.inputs):
        return None

    def join(parts: list[NDArray[Any]]) -> NDArray[np.float32]:
        rest = np.broadcast_shapes(*((*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts))
        full = [
            np.broadcast_to(part, (*rest[:axis], size, *rest[axis + 1 :]))
            for part, size in zip(parts, sizes, strict=True)
        ]
        return _squashed(np.concatenate(full, axis))

    return Affine(join([a.scale for a in affines]), join([a.offset for a in affines]))


def arithmetic(node: gs.Node, affine: Affine) -> Affine | None:
    """An Add, Sub, Mul or Div with a constant, taken into what its train owes; None where it does not fit."""
    if len(node.inputs) != 2 or node.op not in ("Add", "Sub", "Mul", "Div"):
        return None
    number = next((k for k, tensor in enumerate(node.inputs) if isinstance(tensor, gs.Constant)), None)
    if number is None or rank_of(node.outputs[0]) != affine.scale.ndim:
        return None
    values = np.asarray(node.inputs[number].values, np.float32)
    rank = affine.scale.ndim
    if values.ndim > rank or values.size > LARGEST_EXPANSION:
        return None
    values = values.reshape((1,) * (rank - values.ndim) + values.shape)
    sizes = node.inputs[1 - number].shape
    if values.shape[0] != 1 or any(size not in (1, sizes[axis]) for axis, size in enumerate(values.shape)):
        return None  # a constant that widens its train
    scale, offset = affine.scale, affine.offset
    if node.op == "Add":
        return Affine(scale, _squashed(offset + values))
    if node.op == "Sub":
        return Affine(scale, _squashed(offset - values)) if number == 1 else Affine(-scale, _squashed(values - offset))
    if node.op == "Mul":
        return Affine(_squashed(scale * values), _squashed(offset * values))
    if not values.all():
        return None
    return Affine(_squashed(scale / values), _squashed(offset / values))


def _squashed(values: NDArray[Any]) -> NDArray[np.float32]:
    """The array with axes along which it is constant reduced to size 1."""
    for axis in range(values.ndim):
        first = values.take([0], axis)
        if values.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, values.shape), values):
            values = first
    return np.ascontiguousarray(values, np.float32)


def _same(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    return affine


def _uniform(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    return None if affine.varying else affine.of_rank(out)


def _transpose(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    permutation = node.attrs["perm"]
    return Affine(affine.scale.transpose(permutation), affine.offset.transpose(permutation))


def _reshape(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    if not affine.varying:
        return affine.of_rank(out)
    kept = _kept_at_the_end(node, affine, out)
    if kept is not None:
        return kept
    before, after = list(node.inputs[0].shape[1:]), list(node.outputs[0].shape[1:])
    if not all(isinstance(size, int) and size > 0 for size in before + after):
        return None
    if np.prod(before) != np.prod(after) or np.prod(before) > LARGEST_EXPANSION:
        return None
    parts = (
        _squashed(np.broadcast_to(part, (1, *before)).reshape(1, *after)) for part in (affine.scale, affine.offset)
    )
    return Affine(*parts)


def _kept_at_the_end(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    """The affine of a reshape that leaves the varying axes alone because they lie in a tail of equal sizes."""
    before, after = node.inputs[0].shape, node.outputs[0].shape
    tail = 0
    for old, new in zip(before[:0:-1], after[:0:-1], strict=False):
        if not isinstance(old, int) or old != new:
            break
        tail += 1
    rank = affine.scale.ndim
    if min(affine.varying) < rank - tail:
        return None
    parts = (part.reshape((1,) * (out - tail) + part.shape[rank - tail :]) for part in (affine.scale, affine.offset))
    return Affine(*parts)


def _squeeze(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    axes = axes_of(node) or ()
    return Affine(np.squeeze(affine.scale, axes), np.squeeze(affine.offset, axes))


def _unsqueeze(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    axes = axes_of(node) or ()
    return Affine(np.expand_dims(affine.scale, axes), np.expand_dims(affine.offset, axes))


def _slice(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    axes = constant_values(node, 3)
    return None if axes is None or affine.varying & {int(a) % out for a in axes} else affine


def _split(node: gs.Node, affine: Affine, out: int) -> list[Affine] | None:
    axis = node.attrs.get("axis", 0) % out
    sizes = [tensor.shape[axis] if tensor.shape else None for tensor in node.outputs]
    if axis not in affine.varying:
        return [affine] * len(sizes)
    if not all(isinstance(size, int) for size in sizes):
        return None
    edges = np.cumsum([0, *sizes])

    def cut(part: NDArray[Any], k: int) -> NDArray[np.float32]:
        return part if part.shape[axis] == 1 else part.take(range(edges[k], edges[k + 1]), axis)

    return [Affine(cut(affine.scale, k), cut(affine.offset, k)) for k in range(len(sizes))]


def _gather(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    axis = node.attrs.get("axis", 0) % affine.scale.ndim
    return affine if out == affine.scale.ndim and axis not in affine.varying else _uniform(node, affine, out)


def _pad(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    pads = given_pads(node, out)
    if pads is None or affine.varying & set(np.flatnonzero(pads.any(0)).tolist()):
        return None
    if node.attrs.get("mode", "constant") != "constant":
        return affine
    value = constant_values(node, 2)
    filled = float(value.ravel()[0]) if value is not None and value.size else float(node.attrs.get("value", 0.0))
    computed = value is None and len(node.inputs) > 2 and not node.inputs[2].is_empty()
    return None if computed or filled or affine.shifted else affine


def _pool(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    zeros = (is_padded(node.attrs) or node.attrs.get("ceil_mode", 0)) and node.attrs.get("count_include_pad", 0)
    return None if affine.varying - {1} or (zeros and affine.shifted) else affine


def _mean(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    rank = affine.scale.ndim
    axes = tuple(axis % rank for axis in axes_of(node) or ())
    if affine.varying & set(axes):
        return None
    return affine if node.attrs.get("keepdims", 1) else _squeeze(node, affine, out)


def _resize(node: gs.Node, affine: Affine, out: int) -> Affine | None:
    scales = constant_values(node, 2)
    if scales is None or node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    return affine if all(scales[axis] == 1 for axis in affine.varying) else None


_RULES = {
    "Identity": _same,
    "Dropout": _same,
    "Cast": _same,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Expand": _uniform,
    "Tile": _uniform,
    "DepthToSpace": _uniform,
    "SpaceToDepth": _uniform,
    "AveragePool": _pool,
    "GlobalAveragePool": _pool,
    "ReduceMean": _mean,
    "Resize": _resize,
}


@dataclass(frozen=True)
class Folded:
    """A layer that has taken what its train owed: W·scale, and W·offset as a bias [outputs] or as a map.

    bias: to be added, float32 [outputs], None for none. bordered: the offset gives another sum at the borders (padding
    adds zeros, not offsets), so that it must be computed as the layer's own response to the constant offset, float32
    [C], on one sample.
    """

    weight: NDArray[Any]
    bias: NDArray[np.float32] | None
    bordered: NDArray[np.float32] | None


def fold_into(layer: WeightLayer, affine: Affine) -> Folded | None:
    """The layer with scale and offset folded in (float32, then the weights' type), None where they do not fit."""
    node, old = layer.node, np.asarray(layer.weight.values)
    weight = old.astype(np.float32)
    if node.op == "MatMul":
        return _matmul(layer, weight, affine, old.dtype)
    if affine.varying - {1} or affine.scale.ndim != (2 if node.op == "Gemm" else weight.ndim):
        return None
    if node.op == "Gemm":
        inputs = 1 if node.attrs.get("transB", 0) else 0
        scale, offset = affine.vectors(1, weight.shape[inputs])
        product = np.tensordot(weight, offset, (inputs, 0)) * np.float32(node.attrs.get("alpha", 1.0))
        new = weight * (scale if inputs else scale[:, None])
        return Folded(new.astype(old.dtype), product if affine.shifted else None, None)
    groups = node.attrs.get("group", 1)
    taps = (1,) * (weight.ndim - 2)
    if node.op == "ConvTranspose":
        scale, offset = affine.vectors(1, len(weight))
        new = (weight * scale.reshape(-1, 1, *taps)).astype(old.dtype)
        return Folded(new, None, offset if affine.shifted else None)
    scale, offset = affine.vectors(1, weight.shape[1] * groups)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    new = (grouped * scale.reshape(groups, 1, -1, *taps)).reshape(weight.shape).astype(old.dtype)
    if not affine.shifted:
        return Folded(new, None, None)
    if is_padded(node.attrs):
        return Folded(new, None, offset)
    product = (grouped * offset.reshape(groups, 1, -1, *taps)).reshape(len(weight), -1).sum(1)
    return Folded(new, product, None)


def _matmul(layer: WeightLayer, weight: NDArray[Any], affine: Affine, dtype: np.dtype) -> Folded | None:
    if layer.weight_index == 0 or weight.ndim != 2:
        plain = not affine.varying and not affine.shifted
        return Folded((weight * affine.scale.reshape(())).astype(dtype), None, None) if plain else None
    last = affine.scale.ndim - 1
    if affine.varying - {last}:
        return None
    scale, offset = affine.vectors(last, len(weight))
    return Folded((weight * scale[:, None]).astype(dtype), offset @ weight if affine.shifted else None, None)
