"""Weight layers as matrices: the inputs that one output position sees, and weights to and from matrix form.

Every supported layer is z[p, o] = Σ_k U[p, k]·M[k, o] + b[o] per group: U the unfolded input at output position p, M
the weights as a matrix [G, K, outputs/G]. Linear regression on a layer needs nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.graph.layers import WeightLayer, rank_of
from graphpass.maths.threads import slices

Array = NDArray[Any]

PATCHES = 1 << 16  # values that are taken at once: they and their places stay in the processor's cache


@dataclass(frozen=True)
class Geometry:
    """How a layer unfolds. kind: Conv, Gemm or MatMul; the rest as in the ONNX attributes, spatial axes only.

    transposed: the weights are stored as [outputs, inputs]. left: they come first, W·x, so that features lie along the
    last axis but one of x and of the output.
    """

    kind: str
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"
    transposed: bool = False
    left: bool = False
    scale: float = 1.0


def geometry(layer: WeightLayer) -> Geometry | str:
    """The layer's geometry, or the reason why it has no matrix form here."""
    node, weight = layer.node, layer.weight
    if node.op == "Conv":
        rank = len(weight.shape) - 2
        return Geometry(
            "Conv",
            layer.groups,
            tuple(weight.shape[2:]),
            tuple(node.attrs.get("strides", [1] * rank)),
            tuple(node.attrs.get("dilations", [1] * rank)),
            tuple(node.attrs.get("pads", [0] * 2 * rank)),
            node.attrs.get("auto_pad", "NOTSET"),
        )
    if node.op == "Gemm":
        if layer.weight_index == 0 or layer.transposes_data:
            return "its data is transposed"
        if layer.bias is not None and np.prod(layer.bias.shape) not in (1, layer.outputs):
            return "its bias is not one value an output"
        return Geometry("Gemm", transposed=layer.transposes_weight, scale=layer.alpha)
    if node.op == "MatMul":
        if len(weight.shape) != 2:
            return "its weights are not one matrix"
        if rank_of(layer.data) == 1:
            return "its data is one vector"
        left = layer.output_axis == -2
        return Geometry("MatMul", transposed=left, left=left)
    return f"{node.op} is not compensated"


def to_matrix(weight: Array, shape: Geometry) -> NDArray[np.float32]:
    """Weights as the layer stores them → M, float32 [G, K, outputs/G]."""
    values = np.asarray(weight, np.float32)
    if shape.kind == "Conv":
        outputs = len(values)
        return values.reshape(shape.groups, outputs // shape.groups, -1).transpose(0, 2, 1)
    return (values.T if shape.transposed else values)[None] * np.float32(shape.scale)


def from_matrix(matrix: Array, weight: Array, shape: Geometry) -> Array:
    """M → weights in the layout and dtype of `weight`."""
    if shape.kind == "Conv":
        return matrix.transpose(0, 2, 1).reshape(weight.shape).astype(weight.dtype)
    values = matrix[0] / np.float32(shape.scale)
    return np.ascontiguousarray(values.T if shape.transposed else values).astype(weight.dtype)


def bias_of(layer: WeightLayer) -> NDArray[np.float32]:
    """b of a layer that has a geometry: float32, broadcasts to [outputs]."""
    if layer.bias is None:
        return np.zeros(1, np.float32)
    return np.ravel(np.asarray(layer.bias.values, np.float32)) * np.float32(layer.beta)


def unfold(
    data: Array,
    positions: Sequence[NDArray[np.int64]],
    shape: Geometry,
    out: Array,
    memory: dict[tuple[int, ...], Array] | None = None,
) -> None:
    """U at output positions, into out: float32 [G, P, K].

    data: the layer's input. positions: one index array [P] per axis of the output but the channel axis (Conv:
    batch, then the spatial axes; Gemm and MatMul: all others in order). memory: for padded data, by its shape,
    which the next call for the same layer may use again.
    """
    if shape.kind != "Conv":
        rows = data.swapaxes(-1, -2) if shape.left else data
        out[0] = rows[tuple(positions)]
        return
    batch, spatial = positions[0], positions[1:]
    pads = _pads(data.shape[2:], shape)
    padded = _padded(data, pads, {} if memory is None else memory)
    strides = [stride // padded.itemsize for stride in padded.strides]
    first, taps = batch * strides[0], np.arange(padded.shape[1]) * strides[1]  # where a patch starts, and its taps
    for axis, step in enumerate(strides[2:]):
        first = first + spatial[axis] * (shape.strides[axis] * step)
        taps = np.add.outer(taps, np.arange(shape.kernel[axis]) * (shape.dilations[axis] * step))
    values, (groups, _, width) = padded.ravel(), out.shape
    for part in slices(len(batch), max(1, PATCHES // taps.size)):
        patches = values.take(np.add.outer(first[part], taps.ravel()))
        out[:, part] = patches.reshape(-1, groups, width).transpose(1, 0, 2)


def _padded(data: Array, pads: Sequence[tuple[int, int]], memory: dict[tuple[int, ...], Array]) -> Array:
    """The data with zeros around it, contiguous."""
    if not np.any(pads):
        return np.ascontiguousarray(data)
    padded = memory.get(data.shape)
    if padded is None:
        memory.clear()  # samples of many sizes
        sizes = (size + sum(pad) for size, pad in zip(data.shape[2:], pads, strict=True))
        padded = memory[data.shape] = np.zeros((*data.shape[:2], *sizes), data.dtype)
    inner = tuple(slice(low, low + size) for size, (low, _) in zip(data.shape[2:], pads, strict=True))
    padded[:, :, *inner] = data
    return padded


def _pads(sizes: Sequence[int], shape: Geometry) -> list[tuple[int, int]]:
    rank = len(shape.kernel)
    if shape.auto_pad in ("NOTSET", ""):
        return [(shape.pads[axis], shape.pads[axis + rank]) for axis in range(rank)]
    if shape.auto_pad == "VALID":
        return [(0, 0)] * rank
    pads = []
    for size, kernel, stride, dilation in zip(sizes, shape.kernel, shape.strides, shape.dilations, strict=True):
        outputs = -(-size // stride)
        total = max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if shape.auto_pad == "SAME_UPPER" else (large, small))
    return pads
