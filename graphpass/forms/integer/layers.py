"""Weight layers on counts: what they compute, before and after they are scaled and joined.

    v = (W·(A·n + o) + b + ψ)/θ − 1/2 = W'·n + c          W' = W·A/θ, c = (W·o + b + ψ)/θ − 1/2             (1)

Padding adds zeros, not o. So a padded convolution reads n − z for the count that stands for 0, A·z + o = 0, and is
padded with that one. Where there is none: offsets.py. What becomes of the weights: quantised.py.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.affine import Affine
from graphpass.graph.layers import WeightLayer, is_padded
from graphpass.graph.weights import values_of

WHOLE = 1e-3  # counts: what float32 rounds of a zero point up to 255, and no border notices
DIAGONAL = 32  # channels, up to which a diagonal of weights is faster than a convolution of each channel
COPIES = 4  # of a channel whose weights are too large beside others

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LayerSource:
    """A tensor of counts [N, I, …] or [N, I] that a layer reads: every `strides`-th position, some channels or all."""

    tensor: gs.Variable
    strides: tuple[int, ...] = ()
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Linear:
    """v = W·n + c. weight: [O, I/groups, …] of a convolution, else [I, O]; constant: c [O].

    zero: the sources hold n + zero, padding included, which is from least to largest. centre: z, the counts that stand
    for 0, [I]; None for 0.
    """

    sources: tuple[LayerSource, ...]
    attributes: dict[str, Any]
    weight: Array
    constant: Array
    largest: int
    zero: int = 0
    centre: Array | None = None
    least: int = 0

    @property
    def convolution(self) -> bool:
        return self.weight.ndim > 2

    @property
    def unsigned(self) -> bool:
        """Whether the sources hold uint8, which a zero point may be subtracted from; else int8."""
        return bool(self.sources[0].tensor.dtype != np.int8)

    @property
    def groups(self) -> int:
        return int(self.attributes.get("group", 1))

    @property
    def outputs(self) -> int:
        return len(self.constant)

    def scaled(self, factor: Array, shift: Array) -> "Linear":
        """factor·v + shift, both [O]."""
        outer = factor.reshape(-1, *(1,) * (self.weight.ndim - 1)) if self.convolution else factor
        return replace(self, weight=self.weight * outer, constant=self.constant * factor + shift)

    def of_zero(self, zero: int) -> "Linear":
        """The same of sources that hold n + zero, where nothing is padded: W·(n − z) = W·(n − z') + W·(z' − z)."""
        if zero == self.zero:
            return self
        added = (zero - self.zero) * self.weight.reshape(self.outputs, -1).sum(1)
        return replace(self, zero=zero, constant=self.constant + added, centre=self.counts_of_zero + self.zero - zero)

    @property
    def counts_of_zero(self) -> Array:
        """z of every input, [I]."""
        inputs = self.weight.shape[1] * self.groups if self.convolution else len(self.weight)
        return np.zeros(inputs) if self.centre is None else self.centre


def linear_of(
    layer: WeightLayer, data: gs.Variable, affine: Affine, ends: tuple[int, int], zero: int = 0
) -> Linear | str:
    """A weight layer that reads scale·(data − zero) + offset, or why it cannot be computed in integers.

    ends: the least and the largest number of the data. Only uint8 may get a zero point here.
    """
    node, (least, largest) = layer.node, ends
    weight = np.asarray(values_of(layer.weight), np.float64)
    if node.op == "ConvTranspose":
        return "a transposed convolution has no integer operator"
    if layer.weight_index != 1 or layer.transposes_data or (node.op != "Conv" and weight.ndim != 2):
        return "its weights come first or have several matrices"
    bias: Array = np.zeros(1)
    if layer.bias is not None:
        if not isinstance(layer.bias, gs.Constant):
            return "its bias is computed at run time"
        bias = np.asarray(layer.bias.values, np.float64)
    if node.op == "Gemm":
        weight = (weight.T if layer.transposes_weight else weight) * layer.alpha
        bias = bias * layer.beta
    axis = 1 if node.op == "Conv" else affine.scale.ndim - 1
    outputs = len(weight) if node.op == "Conv" else weight.shape[1]
    if affine.varying - {axis} or bias.size != (bias.shape or (1,))[-1] or bias.size not in (1, outputs):
        return "its bias or what it reads is scaled along other axes than its channels"
    constant: Array = np.broadcast_to(bias.reshape(-1), (outputs,)).copy()
    if node.op != "Conv":
        scale, offset = (part.astype(np.float64) for part in affine.vectors(axis, len(weight)))
        centre = _centre(scale, offset, ends, zero)
        constant = constant + offset @ weight
        return Linear((LayerSource(data),), {}, weight * scale[:, None], constant, largest, zero, centre, least)
    groups, taps = layer.groups, (1,) * (weight.ndim - 2)
    scale, offset = (part.astype(np.float64) for part in affine.vectors(1, weight.shape[1] * groups))
    if affine.shifted and is_padded(node.attrs):
        if data.dtype != np.int8:
            offset = offset - scale * zero
            zero = count_of_zero(scale, offset, largest)
            offset = offset + scale * zero
        if not fits_padding(scale, offset):
            return "no count stands for the zeros that it is padded with"
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    new = (grouped * scale.reshape(groups, 1, -1, *taps)).reshape(weight.shape)
    constant = constant + (grouped * offset.reshape(groups, 1, -1, *taps)).reshape(outputs, -1).sum(1)
    centre = _centre(scale, offset, ends, zero)
    return Linear((LayerSource(data),), dict(node.attrs), new, constant, largest, zero, centre, least)


def count_of_zero(scale: Array, offset: Array, largest: int) -> int:
    """The whole number z from 0 on that leaves least of scale·z + offset; both [I]."""
    total = float(np.square(scale).sum())
    return int(np.clip(np.rint(-float((scale * offset).sum()) / total), 0, largest)) if total > 0 else 0


def fits_padding(scale: Array, offset: Array) -> bool:
    """Whether 0 stands for 0, but for a part of a count that no border notices. scale·n + offset; both [I]."""
    return bool((np.abs(offset) <= WHOLE * np.abs(scale)).all())


def _centre(scale: Array, offset: Array, ends: tuple[int, int], zero: int) -> Array:
    """The counts of scale·(n − zero) + offset that come nearest to 0, from zero on; 0 where nothing is scaled."""
    counts = np.divide(-offset, scale, out=np.zeros_like(offset), where=scale > 0)
    return np.clip(counts, ends[0] - zero, ends[1] - zero)


def scaling(
    data: gs.Variable, scale: Array, constant: Array, rank: int, largest: int, dense: bool | None = None
) -> Linear:
    """scale·n + constant, a value a channel, as a convolution of one tap: one for every channel, or a diagonal (dense).

    By default the faster one: onnxruntime takes half as long for the diagonal at 16 channels, and twice as long at 64.
    """
    dense = len(scale) <= DIAGONAL if dense is None else dense
    weight = (np.diag(scale) if dense else scale).reshape(len(scale), -1, *(1,) * (rank - 2))
    return Linear((LayerSource(data),), {} if dense else {"group": len(scale)}, weight, constant, largest)


def picked(data: gs.Variable, scale: Array, channels: NDArray[np.int64], beside: Linear, largest: int) -> Linear:
    """scale·n in some channels and 0 in the others, as a convolution of one tap to be merged with `beside`.

    Channels come up to COPIES times, so that a large scale does not take all of int8 from the weights beside it.
    """
    rows = np.abs(beside.weight).reshape(beside.outputs, -1).max(1)
    wanted = np.abs(scale[channels]) / np.maximum(rows[channels], np.finfo(np.float32).tiny)
    copies = np.clip(np.ceil(wanted), 1, COPIES).astype(int)
    index = np.repeat(channels, copies)
    weight = np.zeros((len(scale), len(index)))
    weight[index, np.arange(len(index))] = np.repeat(scale[channels] / copies, copies)
    some = None if np.array_equal(index, np.arange(len(scale))) else tuple(index.tolist())
    shaped = weight.reshape(*weight.shape, *(1,) * (beside.weight.ndim - 2))
    return Linear((LayerSource(data, channels=some),), {}, shaped, np.zeros(len(scale)), largest)


def merged(one: Linear, two: Linear) -> Linear | None:
    """The sum of two convolutions as one over concatenated channels, None where positions do not correspond.

    One of them has a single tap; the other as well, or keeps its positions (stride 1, odd kernel, padded by half).
    """
    if not (one.convolution and two.convolution) or one.groups != 1 or two.groups != 1:
        return None
    if _pointwise(two):
        main, other = one, two
    elif _pointwise(one):
        main, other = two, one
    else:
        return None
    if not (_pointwise(main) or _keeps_positions(main)):
        return None
    other = other.of_zero(main.zero)
    taps = main.weight.shape[2:]
    strides = tuple(other.attributes.get("strides", (1,) * len(taps)))
    if _pointwise(main):
        own = tuple(main.attributes.get("strides", (1,) * len(taps)))
        sources = tuple(replace(source, strides=own) for source in main.sources)
        attributes: dict[str, Any] = {}
    else:
        sources, attributes = main.sources, main.attributes
    embedded = _embedded(other, taps)
    return Linear(
        (*sources, *(replace(source, strides=strides) for source in other.sources)),
        attributes,
        np.concatenate([main.weight, embedded], 1),
        main.constant + other.constant,
        max(main.largest, other.largest),
        main.zero,
        np.concatenate([main.counts_of_zero, other.counts_of_zero]),
    )


def summed(one: Linear, two: Linear) -> Linear | None:
    """The sum of two convolutions of the same counts as one, None where positions or groups do not correspond.

    One of them has a single tap; the other as well, or is padded by half.
    """
    main, other = (two, one) if _pointwise(one) else (one, two)
    if not _pointwise(other) or not (_pointwise(main) or _is_padded_by_half(main)):
        return None
    apart = main.sources != other.sources or main.groups != other.groups or main.outputs != other.outputs
    if apart or main.weight.shape[1] != other.weight.shape[1] or _strides(main) != _strides(other):
        return None
    other = other.of_zero(main.zero)
    weight = main.weight + _embedded(other, main.weight.shape[2:])
    return replace(main, weight=weight, constant=main.constant + other.constant)


def _embedded(pointwise: Linear, taps: tuple[int, ...]) -> Array:
    """The weight of a convolution of one tap in the middle of so many."""
    weight = np.zeros((*pointwise.weight.shape[:2], *taps))
    middle: tuple[slice | int, ...] = (slice(None), slice(None), *((size - 1) // 2 for size in taps))
    weight[middle] = pointwise.weight.reshape(weight.shape[:2])
    return weight


def sampled(linear: Linear) -> Linear:
    """The same; a convolution of one tap takes every so many positions of what it reads, in place of strides.

    OpenVINO would do so with a pooling of floats, and then compute the layer in floats, too.
    """
    strides = tuple(linear.attributes.get("strides", ()))
    if not _pointwise(linear) or max(strides, default=1) == 1:
        return linear
    attributes = {key: value for key, value in linear.attributes.items() if key != "strides"}
    return replace(linear, attributes=attributes, sources=tuple(replace(s, strides=strides) for s in linear.sources))


def _pointwise(linear: Linear) -> bool:
    return linear.convolution and set(linear.weight.shape[2:]) == {1} and not is_padded(linear.attributes)


def _strides(linear: Linear) -> tuple[int, ...]:
    return tuple(linear.attributes.get("strides", (1,) * (linear.weight.ndim - 2)))


def _keeps_positions(linear: Linear) -> bool:
    return _is_padded_by_half(linear) and set(_strides(linear)) == {1}


def _is_padded_by_half(linear: Linear) -> bool:
    taps, attributes = linear.weight.shape[2:], linear.attributes
    dilations = attributes.get("dilations", (1,) * len(taps))
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "") or any(size % 2 == 0 for size in taps):
        return False
    half = [(size - 1) // 2 * dilation for size, dilation in zip(taps, dilations, strict=True)]
    return list(attributes.get("pads", (0,) * 2 * len(taps))) == half * 2
