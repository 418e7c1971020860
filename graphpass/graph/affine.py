"""The scale and offset of a train of binary spikes that are not applied yet: y = scale·s + offset.

    neuron            scale = L_T·A, offset = o           L_T = Σ_t w_t, so that Σ_t (w_t/L_T)·(scale·s_t) = A·n
    constants         c·y + d = (c·scale)·s + (c·offset + d)        also as a BatchNormalization
    moves, means      scale and offset travel with their elements; a value that a move fills in is offset, and s = 0
    weight layer      W·(scale·s + o) + b = (W·scale)·s + (b + W·o)

Both are float32 arrays of the tensor's rank, with size 1 on axis 0 and on every axis along which they do not vary. The
axes along which they vary follow from the graph alone, never from values, so that `graph.trains` knows before a
calibration which layers will see spikes. Two trains have the same scale if it is the same array; equal values in two
arrays do not count.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.layers import WeightLayer, is_padded, rank_of
from graphpass.graph.travel import LARGEST_MAP, Travel, travels
from graphpass.graph.weights import values_of

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Affine:
    """y = scale·s + offset."""

    scale: Array
    offset: Array

    @property
    def varying(self) -> set[int]:
        """The axes along which scale or offset vary."""
        return axes_along(self.scale) | axes_along(self.offset)

    @property
    def shifted(self) -> bool:
        return bool(np.any(self.offset))

    @property
    def squashed(self) -> "Affine":
        """The same scale and offset, with size 1 along axes on which all values happen to be equal."""
        return Affine(_squashed(self.scale), _squashed(self.offset))

    def vectors(self, axis: int, size: int) -> tuple[Array, Array]:
        """Scale and offset along the only axis they vary on, float32 [size]."""
        scale, offset = (vector(part, axis, size) for part in (self.scale, self.offset))
        return scale, offset


def axes_along(values: NDArray[Any]) -> set[int]:
    """The axes along which an array varies."""
    return {axis for axis, size in enumerate(values.shape) if size > 1}


def vector(values: Array, axis: int, size: int) -> Array:
    """The array along the only axis on which it varies, float32 [size]."""
    return np.broadcast_to(np.moveaxis(values, axis, 0).reshape(-1), (size,))


def neuron_affine(amplitude: NDArray[Any], offset: NDArray[Any], total: float, rank: int) -> Affine:
    """Scale and offset of the spikes of neurons on a tensor of this rank. total: L_T."""

    def full(values: NDArray[Any]) -> Array:
        array = np.asarray(values, np.float32)
        return array.reshape((1,) * (rank - array.ndim) + array.shape)

    return Affine(full(amplitude) * np.float32(total), full(offset))


def through(node: gs.Node, affine: Affine) -> list[Affine] | None:
    """Scale and offset of the outputs of a node that moves or averages a train; None if they must be applied before it,
    as where they would vary along axis 0 behind it.

    The train itself goes through the node with zeros in place of the values that a move fills in (`unfilled`).
    """
    scales = travels(node, affine.scale, Travel.SCALE)
    offsets = travels(node, affine.offset, Travel.OFFSET)
    if scales is None or offsets is None:
        return None
    moved = [Affine(scale, offset) for scale, offset in zip(scales, offsets, strict=True)]
    return None if any(0 in each.varying for each in moved) else moved


def unfilled(node: gs.Node, train: gs.Variable, zeros: Callable[[gs.Constant], gs.Constant]) -> None:
    """Let a node that moves a train fill in zeros, since its fill values are in the offset. zeros: makes a constant."""
    if node.op == "Pad":
        node.attrs.pop("value", None)
        if len(node.inputs) > 2:
            node.inputs[2] = gs.Variable.empty()
    elif node.op == "Where":
        for number in (1, 2):
            if node.inputs[number] is not train:
                node.inputs[number] = zeros(node.inputs[number])


def joined(node: gs.Node, affines: Sequence[Affine]) -> Affine | None:
    """Scale and offset of the output of a Concat; None where a part's size along the axis is unknown, or where they
    would vary along axis 0.
    """
    rank = rank_of(node.outputs[0])
    if rank is None or any(a.scale.ndim != rank for a in affines):
        return None
    axis = node.attrs["axis"] % rank
    known = [tensor.shape[axis] for tensor in node.inputs if tensor.shape]
    sizes = [size for size in known if isinstance(size, int)]
    if len(sizes) != len(node.inputs):
        return None

    def join(parts: list[Array]) -> Array | None:
        if parts[0].shape[axis] == 1 and all(part is parts[0] for part in parts):
            return parts[0]  # parts of one train, side by side again
        rest = np.broadcast_shapes(*((*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts))
        if np.prod(rest) * sum(sizes) > LARGEST_MAP:
            return None
        full = [
            np.broadcast_to(part, (*rest[:axis], size, *rest[axis + 1 :]))
            for part, size in zip(parts, sizes, strict=True)
        ]
        return np.concatenate(full, axis)

    scale, offset = join([a.scale for a in affines]), join([a.offset for a in affines])
    whole = None if scale is None or offset is None else Affine(scale, offset)
    return None if whole is None or 0 in whole.varying else whole


def arithmetic(node: gs.Node, affine: Affine) -> Affine | None:
    """Scale and offset behind an Add, Sub, Mul or Div with a constant, a BatchNormalization with constants, or a Neg;
    None if the constant does not fit.
    """
    if node.op == "Neg":
        return Affine(-affine.scale, -affine.offset)
    if node.op == "BatchNormalization":
        return _normalised(node, affine)
    if len(node.inputs) != 2 or node.op not in ("Add", "Sub", "Mul", "Div"):
        return None
    number = next((k for k, tensor in enumerate(node.inputs) if isinstance(tensor, gs.Constant)), None)
    rank = affine.scale.ndim
    if number is None or rank_of(node.outputs[0]) != rank or rank_of(node.inputs[1 - number]) != rank:
        return None
    values = np.asarray(node.inputs[number].values, np.float32)
    if values.ndim > rank or values.size > LARGEST_MAP:
        return None
    values = _squashed(values.reshape((1,) * (rank - values.ndim) + values.shape))
    sizes = node.inputs[1 - number].shape
    if values.shape[0] != 1 or any(size not in (1, sizes[axis]) for axis, size in enumerate(values.shape)):
        return None  # a constant that widens its train
    scale, offset = affine.scale, affine.offset
    if any(np.prod(np.broadcast_shapes(values.shape, part.shape)) > LARGEST_MAP for part in (scale, offset)):
        return None
    if node.op == "Add":
        return Affine(scale, offset + values)
    if node.op == "Sub":
        return Affine(scale, offset - values) if number == 1 else Affine(-scale, values - offset)
    if node.op == "Mul":
        return Affine(scale * values, offset * values)
    return Affine(scale / values, offset / values) if values.all() and number == 1 else None


def of_batch_norm(node: gs.Node, constants: Sequence[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(γ/σ, β − μ·γ/σ), float64 [C], σ = √(variance + ε). A variance below −ε gives NaN, as it does at run time.

    constants: γ, β, μ and the variance, float64 [C].
    """
    gamma, beta, mean, variance = constants
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
        return scale, beta - mean * scale


def _normalised(node: gs.Node, affine: Affine) -> Affine | None:
    """γ·(y − μ)/√(σ² + ε) + β with a value for each channel along axis 1; None where one is no finite constant."""
    rank, constants = affine.scale.ndim, node.inputs[1:]
    if rank < 2 or rank_of(node.inputs[0]) != rank or node.attrs.get("training_mode", 0):
        return None
    if len(constants) != 4 or not all(isinstance(tensor, gs.Constant) for tensor in constants):
        return None
    scale, shift = of_batch_norm(node, [np.asarray(tensor.values, np.float64) for tensor in constants])
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    scale, shift = (_squashed(part.reshape(1, -1, *(1,) * (rank - 2))) for part in (scale, shift))
    if any(
        np.prod(np.broadcast_shapes(scale.shape, part.shape)) > LARGEST_MAP for part in (affine.scale, affine.offset)
    ):
        return None
    return Affine(affine.scale * scale, affine.offset * scale + shift)


def _squashed(values: NDArray[Any]) -> Array:
    """The array with axes along which it is constant reduced to size 1."""
    for axis in range(values.ndim):
        first = values.take([0], axis) if values.shape[axis] else values
        if values.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, values.shape), values, equal_nan=True):
            values = first
    return np.ascontiguousarray(values, np.float32)


@dataclass(frozen=True)
class Folded:
    """A layer with the scale and offset of its train in its weights: W·scale, and W·offset in one of two ways.

    bias: what is added to the layer's bias, float32 [outputs], or None. field: an offset that adds another sum at each
    position (padding adds zeros, not offsets), so that it must be computed as the layer's response to this field,
    float32 of the data's rank, on one sample.
    """

    weight: NDArray[Any]
    bias: Array | None = None
    field: Array | None = None


def fits(layer: WeightLayer, affine: Affine) -> bool:
    """Whether a layer can take in the scale of its train: one value an input feature, or one for all."""
    node, rank = layer.node, affine.scale.ndim
    if node.op == "MatMul":
        return rank >= 2 and axes_along(affine.scale) <= {layer.input_axis % rank}
    data = 2 if node.op == "Gemm" else len(layer.weight.shape)
    return rank == data and axes_along(affine.scale) <= {1} and layer.input_axis in (1, -1)


def fold_into(layer: WeightLayer, affine: Affine) -> Folded:
    """The layer with the scale and offset of a train that `fits` in its weights, which keep their type.

    Sums are in float64, in an order that is the same on every machine.
    """
    node, old = layer.node, values_of(layer.weight)
    axis = layer.input_axis % affine.scale.ndim
    split, inner = _split_weight(layer, old.astype(np.float32))
    size = layer.inputs
    scale = vector(affine.scale, axis, size)
    scaled = (split * scale.reshape(inner)).reshape(old.shape).astype(old.dtype)
    offset = _squashed(affine.offset)
    if not offset.any():
        return Folded(scaled)
    plain = axes_along(offset) <= {axis} and (node.op != "MatMul" or old.ndim == 2)
    if not plain or node.op == "ConvTranspose" or (node.op == "Conv" and is_padded(node.attrs)):
        full = np.broadcast_to(offset, [size if k == axis else n for k, n in enumerate(offset.shape)])
        return Folded(scaled, field=np.ascontiguousarray(full))
    bias = _over_inputs(layer, split, vector(offset, axis, size))
    bias *= layer.alpha
    return Folded(scaled, bias=bias.astype(np.float32))


def _split_weight(layer: WeightLayer, weight: Array) -> tuple[Array, tuple[int, ...]]:
    """The weights, those of a grouped convolution by group, and the shape in which input features broadcast to them."""
    node, ones = layer.node, (1,) * (weight.ndim - 2)
    if node.op == "Conv":
        return weight.reshape(layer.groups, -1, *weight.shape[1:]), (layer.groups, 1, -1, *ones)
    if node.op == "ConvTranspose":
        return weight, (-1, 1, *ones)
    return weight, (-1, 1) if layer.weight_input_axis == -2 else (1, -1)


def _over_inputs(layer: WeightLayer, split: Array, offset: Array) -> NDArray[np.float64]:
    """W·offset summed over input features and taps, weights as of `_split_weight`: float64 [outputs]."""
    values = offset.astype(np.float64)
    if layer.node.op == "Conv":
        groups, outputs, inputs = split.shape[:3]
        taps = split.reshape(groups, outputs, inputs, -1)
        sums = np.einsum("gmit,gi->gm", taps, values.reshape(groups, inputs)).reshape(-1)
    else:
        sums = np.einsum("io,i->o" if layer.weight_input_axis == -2 else "oi,i->o", split, values)
    return np.asarray(sums, np.float64)
