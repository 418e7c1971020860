"""Layers on counts in integers: uint8 counts, int8 weights, int32 sums.

    v = W'·n + c          of layers.py, v in counts
    floor(v + 1/2) = round(v) but for ties                                                                   (2)
    W' ≈ s·q, q int8, s per output: s = max |W'| / Q      Q = min(127, ⌊32767/(2·L)⌋)                        (3)
    q: W'/s rounded so that errors cancel                 maths/rounding.py
    c ← c + (W' − s·q)·z                                  z: the counts that stand for 0, A·z + o = 0         (4)
    y = saturate(round((q·n + round(c/s))·s / y_scale) + y_zero)                                             (5)

By (4) rounded weights cost nothing where values are 0, however large o is.

(5) is written as every runtime takes it (decision 0034): the layer between a DequantizeLinear of each of n, q and
round(c/s) and a QuantizeLinear, which onnxruntime, OpenVINO and TensorRT compute as one integer operator.

So a layer whose outputs are counts again needs y_scale = 1, y_zero = 0 and a Clip(0, L). Q keeps the sum of two
products within int16, which processors without VNNI instructions compute first.
"""

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.integer.layers import Linear, sampled
from graphpass.maths.rounding import rounded_together

INT16, INT32, BIAS = 2**15 - 1, 2**31 - 1, 2**24  # float32 holds integers up to 2^24

Array = NDArray[np.float64]


def settled(linear: Linear) -> Linear | str:
    """The layer, in counts, or why its sums and scales do not fit."""
    inputs = linear.weight[0].size if linear.convolution else len(linear.weight)
    if inputs * max(linear.largest, -linear.least) * _largest_weight(linear) + BIAS > INT32:
        return "its sums do not fit int32"
    if not (_scales(linear) <= np.finfo(np.float32).max).all():
        return "its scales do not fit float32"
    return linear


def has_normal_scales(linear: Linear) -> bool:
    """Whether no output is made of weights so small that their scale would be none that float32 holds precisely."""
    scales = _scales(linear)
    return bool(((scales == 0) | (scales >= np.finfo(np.float32).tiny)).all())


def rounding_errors(linear: Linear) -> Array:
    """What int8 weights may take from the sums of every output, in the unit of v, as the root of a mean square, [O].

    s·√(K·E(n − z)²/12): K weights, each off by up to s/2, on counts n that are equally likely.
    """
    inputs = linear.weight[0].size if linear.convolution else len(linear.weight)
    counts = np.arange(linear.least, linear.largest + 1, dtype=np.float64) - linear.zero
    return np.asarray(_scales(linear) * np.sqrt(inputs * np.square(counts).mean() / 12))


def _scales(linear: Linear) -> Array:
    """s of formula (3) in float64, [O]; 0 for an output that is 0 throughout."""
    rows = linear.weight.reshape(linear.outputs, -1) if linear.convolution else linear.weight.T
    largest = np.abs(rows).max(1, initial=0.0)
    return np.asarray(np.maximum(largest / _largest_weight(linear), np.abs(linear.constant) / BIAS))


def quantise(linear: Linear) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
    """(q, round(c/s), s) of formula (3): int8, int32, float32."""
    weight, constant = linear.weight, linear.constant
    rows = weight.reshape(linear.outputs, -1) if linear.convolution else weight.T
    own = _scales(linear)
    scale = np.where(own > np.finfo(np.float32).tiny, own, 1.0).astype(np.float32)
    exact = scale.astype(np.float64)
    taps = weight[0, 0].size if linear.convolution else 1
    kernels = (rows / exact[:, None]).reshape(linear.outputs, -1, taps)
    integers = rounded_together(kernels, _largest_weight(linear)).reshape(rows.shape)
    shaped = integers.reshape(weight.shape) if linear.convolution else np.ascontiguousarray(integers.T)
    constant = constant + _rounded_away(linear, rows - integers * exact[:, None])
    return shaped, np.rint(constant / exact).astype(np.int32), scale


def _rounded_away(linear: Linear, rows: Array) -> Array:
    """(W' − s·q)·z of formula (4), [O]. rows: W' − s·q, a row for each output."""
    if not linear.convolution:
        return np.asarray(rows @ linear.counts_of_zero)
    per_group = linear.weight.shape[1]
    taps = rows.reshape(linear.groups, -1, per_group, linear.weight[0, 0].size).sum(3)
    return np.asarray((taps @ linear.counts_of_zero.reshape(linear.groups, per_group, 1)).ravel())


def nodes_of(linear: Linear, output: gs.Variable, scale: float = 1.0, zero: int = 0, name: str = "") -> list[gs.Node]:
    """The settled layer as nodes: output = saturate(round(v/scale) + zero), uint8. A float output is v."""
    linear = sampled(linear)
    weight, bias, scales = quantise(linear)
    name, nodes = name or output.name, list[gs.Node]()
    data = gathered(linear, name, nodes)
    rows = None if linear.convolution or (data.shape is not None and len(data.shape) == 2) else data
    if rows is not None:
        data = _rows(linear, rows, name, nodes)
    axis = 0 if linear.convolution else 1
    inputs = [
        dequantised(data, 1, linear.zero, f"{name}/data", nodes),
        dequantised(gs.Constant(f"{name}/integers", weight), scales, 0, f"{name}/weight", nodes, axis),
        dequantised(gs.Constant(f"{name}/sum_of_zeros", bias), scales, 0, f"{name}/bias", nodes, 0),
    ]
    result = output if rows is None else gs.Variable(f"{name}/sums", output.dtype)
    real = gs.Variable(f"{name}/real", np.float32, result.shape) if output.dtype == np.uint8 else result
    if linear.convolution:
        nodes.append(gs.Node("Conv", f"{name}/conv", linear.attributes, inputs, [real]))
    else:
        nodes.append(gs.Node("Gemm", f"{name}/product", {}, inputs, [real]))
    if real is not result:
        nodes.append(quantised(real, scale, zero, result))
    return nodes if rows is None else [*nodes, *_whole(linear, rows, result, output, name)]


def product_nodes(linear: Linear, output: gs.Variable, name: str) -> list[gs.Node]:
    """The settled layer as nodes: output = v, float32. name: begins the names of nodes and tensors."""
    return nodes_of(linear, output, name=name)


def sum_nodes(parts: list[tuple[gs.Variable, float, int]], output: gs.Variable, zero: int = 0) -> list[gs.Node]:
    """output = saturate(round(Σ scale·(part − its zero)) + zero) of two uint8 tensors."""
    name, nodes = output.name, list[gs.Node]()
    terms = [
        dequantised(tensor, scale, own, f"{name}/term_{number}", nodes)
        for number, (tensor, scale, own) in enumerate(parts)
    ]
    real = gs.Variable(f"{name}/real", np.float32, output.shape)
    return [*nodes, gs.Node("Add", f"{name}/sum", {}, terms, [real]), quantised(real, 1.0, zero, output)]


def dequantised(
    data: gs.Tensor, scale: float | NDArray[np.float32], zero: int, name: str, nodes: list[gs.Node], axis: int = 1
) -> gs.Variable:
    """scale·(data − zero) as float32, by a node behind `nodes`; scale: a number, or one for each along the axis.

    The zero is written even where it is 0: onnxruntime's QGemm wants it.
    """
    real, factor = gs.Variable(f"{name}/value", np.float32, data.shape), np.asarray(scale, np.float32)
    zeros = gs.Constant(f"{name}/zero", np.full(factor.shape, zero, data.dtype))
    inputs = [data, gs.Constant(f"{name}/scale", factor), zeros]
    nodes.append(gs.Node("DequantizeLinear", f"{name}/decode", {"axis": axis} if factor.ndim else {}, inputs, [real]))
    return real


def quantised(real: gs.Tensor, scale: float, zero: int, output: gs.Variable) -> gs.Node:
    """output = saturate(round(real/scale) + zero), in the type of the output, uint8 or int8."""
    name = output.name
    parts = [scalar(f"{name}/scale", scale, np.float32), scalar(f"{name}/zero", zero, output.dtype)]
    return gs.Node("QuantizeLinear", f"{name}/encode", {}, [real, *parts], [output])


def scalar(name: str, value: float, dtype: Any) -> gs.Constant:
    """A constant without axes."""
    return gs.Constant(name, np.array(value, dtype))


def gathered(linear: Linear, name: str, nodes: list[gs.Node]) -> gs.Variable:
    """The sources of a layer as one tensor: strided, concatenated."""
    parts, rank, dtype = [], linear.weight.ndim, linear.sources[0].tensor.dtype
    for number, source in enumerate(linear.sources):
        tensor = source.tensor
        if any(stride > 1 for stride in source.strides):
            tensor = gs.Variable(f"{name}/strided_{number}", dtype)
            ends = np.full(rank - 2, np.iinfo(np.int64).max)
            given = (np.zeros(rank - 2, np.int64), ends, np.arange(2, rank), np.asarray(source.strides, np.int64))
            limits = [gs.Constant(f"{tensor.name}/{key}", each) for key, each in zip("abcd", given, strict=True)]
            nodes.append(gs.Node("Slice", tensor.name, {}, [source.tensor, *limits], [tensor]))
        if source.channels is not None:
            selected = gs.Variable(f"{name}/chosen_{number}", dtype)
            index = gs.Constant(f"{selected.name}/channels", np.asarray(source.channels, np.int64))
            nodes.append(gs.Node("Gather", selected.name, {"axis": 1}, [tensor, index], [selected]))
            tensor = selected
        parts.append(tensor)
    data = parts[0]
    if len(parts) > 1:
        data = gs.Variable(f"{name}/joined", dtype)
        nodes.append(gs.Node("Concat", data.name, {"axis": 1}, parts, [data]))
    return data


def _rows(linear: Linear, data: gs.Variable, name: str, nodes: list[gs.Node]) -> gs.Variable:
    """Data [..., I] as [rows, I]: a Gemm has two axes."""
    rows = gs.Variable(f"{name}/rows", np.uint8)
    flat = gs.Constant(f"{name}/flat", np.array([-1, len(linear.weight)]))
    nodes.append(gs.Node("Reshape", rows.name, {}, [data, flat], [rows]))
    return rows


def _whole(linear: Linear, data: gs.Variable, sums: gs.Variable, output: gs.Variable, name: str) -> list[gs.Node]:
    """Sums [rows, O] in the shape of the data, [..., O]."""
    whole, outer, target = (gs.Variable(f"{name}/{each}", np.int64) for each in ("whole", "outer", "target"))
    zero, last = (gs.Constant(f"{name}/{key}", np.array([value])) for key, value in (("first", 0), ("last", -1)))
    width = gs.Constant(f"{name}/width", np.array([linear.outputs]))
    return [
        gs.Node("Shape", whole.name, {}, [data], [whole]),
        gs.Node("Slice", outer.name, {}, [whole, zero, last], [outer]),
        gs.Node("Concat", target.name, {"axis": 0}, [outer, width], [target]),
        gs.Node("Reshape", f"{name}/back", {}, [sums, target], [output]),
    ]


def _largest_weight(linear: Linear) -> int:
    """Q of formula (3); of signed data 127: only runtimes with int32 sums are meant to read that."""
    return min(127, INT16 // (2 * linear.largest)) if linear.unsigned else 127
