"""Weight layers on counts in integer arithmetic: uint8 counts, int8 weights, int32 sums.

    v = (W·(A·n + o) + b + ψ)/θ − 1/2 = W'·n + c          W' = W·A/θ, c = (W·o + b + ψ)/θ − 1/2             (1)
    floor(v + 1/2) = round(v) but for ties                                                                   (2)
    W' ≈ s·q, q int8, s per output: s = max |W'| / Q      Q = min(127, ⌊32767/(2·L)⌋)                        (3)
    c ← c + (W' − s·q)·z                                  z: the counts that stand for 0, A·z + o = 0         (4)
    QLinearConv, QGemm: y = saturate(round((q·n + round(c/s))·s / y_scale) + y_zero)

By (4) rounded weights cost nothing where values are 0, however large o is.

So a layer whose outputs are counts again needs y_scale = 1, y_zero = 0 and a Clip(0, L). Q keeps the sum of two
products within int16, which processors without VNNI instructions compute first.

Padding adds zeros, not o, so that W·o differs at the borders. Counts then have the zero point that comes nearest to 0,
A·z + o ≈ 0, and are padded with it: what remains of the offset is o + A·z. Where that could still move a sum by more
than BORDER counts, the data gets channels of a constant v, whose weights are W·(o + A·z)/(v − z) tap by tap, since the
convolution pads them with z; otherwise W·(o + A·z) is part of the bias.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.affine import Affine
from graphpass.graph.layers import WeightLayer, is_padded

MICROSOFT = "com.microsoft"
BORDER = 1 / 16  # counts: about what int8 weights round away
GROUPED_BORDER = 1 / 4  # counts: groups have no room for constant channels
COPIES = 4
INT16, INT32, BIAS = 2**15 - 1, 2**31 - 1, 2**24  # float32 holds integers up to 2^24

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

    border: [O, …], what the offset adds to v at each tap that is not in c, since padding may cut it off; None for
    nothing. largest: the largest count of n. zero: the sources hold n + zero, padding included. centre: z of (4), a
    count for each input, [I]; None for 0.
    """

    sources: tuple[LayerSource, ...]
    attributes: dict[str, Any]
    weight: Array
    constant: Array
    border: Array | None
    largest: int
    zero: int = 0
    centre: Array | None = None

    @property
    def convolution(self) -> bool:
        return self.weight.ndim > 2

    @property
    def groups(self) -> int:
        return int(self.attributes.get("group", 1))

    @property
    def outputs(self) -> int:
        return len(self.constant)

    def scaled(self, factor: Array, shift: Array) -> "Linear":
        """factor·v + shift, both [O]."""
        outer = factor.reshape(-1, *(1,) * (self.weight.ndim - 1)) if self.convolution else factor
        taps = factor.reshape(-1, *(1,) * (self.weight.ndim - 2))
        border = None if self.border is None else self.border * taps
        return replace(self, weight=self.weight * outer, constant=self.constant * factor + shift, border=border)

    def with_zero(self, scale: Array, offset: Array) -> "Linear":
        """The same of n − z, for the whole number z that leaves least of scale·n + offset where n = z; both [I].

        W·n + W₁·o = W·(n − z) + W₁·(o + scale·z): what padding cuts off shrinks to the second sum.
        """
        total = float(np.square(scale).sum())
        zero = int(np.clip(np.rint(-float((scale * offset).sum()) / total), 0, self.largest)) if total > 0 else 0
        if not zero or self.border is None:
            return self
        moved = self.border + zero * self.weight.sum(1)
        smaller = np.abs(moved).sum() < np.abs(self.border).sum()
        return replace(self, border=moved, zero=zero, centre=self._centred(-zero)) if smaller else self

    def without_zero(self) -> "Linear":
        """The same of n + zero: W·(n + z) − W·z."""
        if not self.zero:
            return self
        free = replace(self, zero=0, centre=self._centred(self.zero))
        if not self.convolution:
            return replace(free, constant=self.constant - self.zero * self.weight.sum(0))
        taps = -self.zero * self.weight.sum(1)
        if not is_padded(self.attributes):
            return replace(free, constant=self.constant + taps.reshape(self.outputs, -1).sum(1))
        return replace(free, border=taps if self.border is None else self.border + taps)

    def _centred(self, by: int) -> Array:
        """z, of counts that are larger by so much."""
        return self.counts_of_zero + by

    @property
    def counts_of_zero(self) -> Array:
        """z of every input, [I]."""
        inputs = self.weight.shape[1] * self.groups if self.convolution else len(self.weight)
        return np.zeros(inputs) if self.centre is None else self.centre


def linear_of(layer: WeightLayer, data: gs.Variable, affine: Affine, largest: int, zero: int = 0) -> Linear | str:
    """A weight layer that reads scale·(data − zero) + offset, or why it cannot be computed in integers."""
    node = layer.node
    weight = np.asarray(layer.weight.values, np.float64)
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
        centre = _centre(scale, offset, largest, zero)
        constant = constant + offset @ weight
        return Linear((LayerSource(data),), {}, weight * scale[:, None], constant, None, largest, zero, centre)
    groups, taps = layer.groups, (1,) * (weight.ndim - 2)
    scale, offset = (part.astype(np.float64) for part in affine.vectors(1, weight.shape[1] * groups))
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    new = (grouped * scale.reshape(groups, 1, -1, *taps)).reshape(weight.shape)
    reach = (grouped * offset.reshape(groups, 1, -1, *taps)).sum(2).reshape(outputs, *weight.shape[2:])
    centre = _centre(scale, offset, largest, zero)
    linear = Linear((LayerSource(data),), dict(node.attrs), new, constant, None, largest, zero, centre)
    if affine.shifted and is_padded(linear.attributes):
        return replace(linear, border=reach) if zero else replace(linear, border=reach).with_zero(scale, offset)
    return replace(linear, constant=constant + reach.reshape(outputs, -1).sum(1))


def _centre(scale: Array, offset: Array, largest: int, zero: int) -> Array:
    """The counts of scale·(n − zero) + offset that come nearest to 0, from zero on; 0 where nothing is scaled."""
    counts = np.divide(-offset, scale, out=np.zeros_like(offset), where=scale > 0)
    return np.clip(counts, -zero, largest - zero)


def scaling(data: gs.Variable, scale: Array, constant: Array, rank: int, largest: int) -> Linear:
    """scale·n + constant, a value a channel, as a convolution of one tap for every channel."""
    weight = scale.reshape(-1, *(1,) * (rank - 1))
    return Linear((LayerSource(data),), {"group": len(scale)}, weight, constant, None, largest)


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
    return Linear((LayerSource(data, channels=some),), {}, shaped, np.zeros(len(scale)), None, largest)


def merged(one: Linear, two: Linear) -> Linear | None:
    """The sum of two convolutions as one over concatenated channels, None where positions do not correspond.

    One of them has a single tap; the other as well, or keeps its positions (stride 1, odd kernel, padded by half).
    """
    if not (one.convolution and two.convolution) or one.groups != 1 or two.groups != 1:
        return None
    if one.zero != two.zero:
        one, two = one.without_zero(), two.without_zero()
    if _pointwise(two):
        main, other = one, two
    elif _pointwise(one):
        main, other = two, one
    else:
        return None
    if not (_pointwise(main) or _keeps_positions(main)):
        return None
    taps = main.weight.shape[2:]
    strides = tuple(other.attributes.get("strides", (1,) * len(taps)))
    if _pointwise(main):
        own = tuple(main.attributes.get("strides", (1,) * len(taps)))
        sources = tuple(replace(source, strides=own) for source in main.sources)
        attributes: dict[str, Any] = {}
    else:
        sources, attributes = main.sources, main.attributes
    embedded = np.zeros((other.outputs, other.weight.shape[1], *taps))
    embedded[(slice(None), slice(None), *((size - 1) // 2 for size in taps))] = other.weight.reshape(other.outputs, -1)
    return Linear(
        (*sources, *(replace(source, strides=strides) for source in other.sources)),
        attributes,
        np.concatenate([main.weight, embedded], 1),
        main.constant + other.constant,
        main.border,
        max(main.largest, other.largest),
        main.zero,
        np.concatenate([main.counts_of_zero, other.counts_of_zero]),
    )


def settled(linear: Linear) -> Linear | str:
    """The layer with its border decided: None, or to be carried by constant channels. The layer is in counts."""
    if linear.border is not None:
        reach = np.abs(linear.border).reshape(linear.outputs, -1).sum(1).max(initial=0.0)
        if reach <= (BORDER if linear.groups == 1 else GROUPED_BORDER):
            inner = linear.border.reshape(linear.outputs, -1).sum(1)
            linear = replace(linear, border=None, constant=linear.constant + inner)
        elif linear.groups > 1:
            return "its groups see the padding, which has not the offset of the neurons"
    inputs = linear.weight[0].size if linear.convolution else len(linear.weight)
    if linear.border is not None:
        inputs += linear.border[0].size * _copies(linear)
    if inputs * linear.largest * _largest_weight(linear) + BIAS > INT32:
        return "its sums do not fit int32"
    if not (_scales(linear) <= np.finfo(np.float32).max).all():
        return "its scales do not fit float32"
    return linear


def has_normal_scales(linear: Linear) -> bool:
    """Whether no output is made of weights so small that their scale would be none that float32 holds precisely."""
    scales = _scales(linear)
    return bool(((scales == 0) | (scales >= np.finfo(np.float32).tiny)).all())


def rounding_error(linear: Linear) -> float:
    """What int8 weights may take from the sums of the worst output, in the unit of v, as the root of a mean square.

    s·√(K·E(n − z)²/12): K weights, each off by up to s/2, on counts n that are equally likely.
    """
    inputs = linear.weight[0].size if linear.convolution else len(linear.weight)
    counts = np.arange(linear.largest + 1, dtype=np.float64) - linear.zero
    return float((_scales(linear) * np.sqrt(inputs * np.square(counts).mean() / 12)).max(initial=0.0))


def _scales(linear: Linear) -> Array:
    """s of formula (3) in float64, [O]; 0 for an output that is 0 throughout."""
    rows = linear.weight.reshape(linear.outputs, -1) if linear.convolution else linear.weight.T
    largest = np.abs(rows).max(1, initial=0.0)
    if linear.border is not None:
        largest = np.maximum(largest, np.abs(_marked(linear)).reshape(linear.outputs, -1).max(1))
    return np.asarray(np.maximum(largest / _largest_weight(linear), np.abs(linear.constant) / BIAS))


def _marked(linear: Linear) -> Array:
    """The weights of one of the constant channels that carry a border, [O, …]."""
    border = np.zeros(()) if linear.border is None else linear.border
    return np.asarray(border / (_copies(linear) * (_mark(linear) - linear.zero)))


def quantise(linear: Linear) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float32]]:
    """(q, round(c/s), s) of formula (3): int8, int32, float32. A border's weights are the last channels of q."""
    weight, constant = linear.weight, linear.constant
    if linear.border is not None:
        weight = np.concatenate([weight, *[_marked(linear)[:, None]] * _copies(linear)], 1)
    rows = weight.reshape(linear.outputs, -1) if linear.convolution else weight.T
    own = _scales(linear)
    scale = np.where(own > np.finfo(np.float32).tiny, own, 1.0).astype(np.float32)
    exact = scale.astype(np.float64)
    integers = np.rint(rows / exact[:, None]).astype(np.int8)
    shaped = integers.reshape(weight.shape) if linear.convolution else np.ascontiguousarray(integers.T)
    constant = constant + _rounded_away(linear, rows - integers * exact[:, None])
    return shaped, np.rint(constant / exact).astype(np.int32), scale


def _rounded_away(linear: Linear, rows: Array) -> Array:
    """(W' − s·q)·z of formula (4), [O]. rows: W' − s·q, of a border too, a row for each output."""
    if not linear.convolution:
        return np.asarray(rows @ linear.counts_of_zero)
    per_group = linear.weight.shape[1]
    taps = rows[:, : linear.weight[0].size].reshape(linear.groups, -1, per_group, linear.weight[0, 0].size).sum(3)
    return np.asarray((taps @ linear.counts_of_zero.reshape(linear.groups, per_group, 1)).ravel())


def nodes_of(linear: Linear, output: gs.Variable, scale: float = 1.0, zero: int = 0, name: str = "") -> list[gs.Node]:
    """The settled layer as nodes: output = saturate(round(v/scale) + zero), uint8. A float product's output is v."""
    weight, bias, scales = quantise(linear)
    name, nodes = name or output.name, list[gs.Node]()
    data = _gathered(linear, name, nodes)
    x = [data, scalar(f"{name}/x_scale", 1, np.float32), scalar(f"{name}/x_zero", linear.zero, np.uint8)]
    w = [
        gs.Constant(f"{name}/weight", weight),
        gs.Constant(f"{name}/weight_scale", scales),
        gs.Constant(f"{name}/weight_zero", np.zeros(linear.outputs, np.int8)),
    ]
    y = [scalar(f"{name}/y_scale", scale, np.float32), scalar(f"{name}/y_zero", zero, np.uint8)]
    b = gs.Constant(f"{name}/bias", bias)
    if linear.convolution:
        return [*nodes, gs.Node("QLinearConv", f"{name}/conv", linear.attributes, [*x, *w, *y, b], [output])]
    product = gs.Node("QGemm", f"{name}/product", {"transA": 0, "transB": 0, "alpha": 1.0}, domain=MICROSOFT)
    product.inputs = [*x, *w, b, *(y if output.dtype == np.uint8 else ())]
    if data.shape is not None and len(data.shape) == 2:
        product.outputs = [output]
        return [*nodes, product]
    return [*nodes, *_by_rows(product, data, output, linear, name)]


def sum_node(parts: list[tuple[gs.Variable, float, int]], output: gs.Variable, zero: int = 0) -> gs.Node:
    """output = saturate(round(Σ scale·(part − its zero)) + zero) of two uint8 tensors."""
    name, inputs = output.name, list[gs.Tensor]()
    for number, (tensor, scale, own) in enumerate([*parts, (None, 1.0, zero)]):
        inputs += [] if tensor is None else [tensor]
        inputs.append(scalar(f"{name}/scale_{number}", scale, np.float32))
        inputs.append(scalar(f"{name}/zero_{number}", own, np.uint8))
    return gs.Node("QLinearAdd", f"{name}/sum", {}, inputs, [output], domain=MICROSOFT)


def scalar(name: str, value: float, dtype: type) -> gs.Constant:
    """A constant without axes."""
    return gs.Constant(name, np.array(value, dtype))


def _gathered(linear: Linear, name: str, nodes: list[gs.Node]) -> gs.Variable:
    """The sources of a layer as one tensor: strided, concatenated, with constant channels for a border."""
    parts, rank = [], linear.weight.ndim
    for number, source in enumerate(linear.sources):
        tensor = source.tensor
        if any(stride > 1 for stride in source.strides):
            tensor = gs.Variable(f"{name}/strided_{number}", np.uint8)
            ends = np.full(rank - 2, np.iinfo(np.int64).max)
            given = (np.zeros(rank - 2, np.int64), ends, np.arange(2, rank), np.asarray(source.strides, np.int64))
            limits = [gs.Constant(f"{tensor.name}/{key}", each) for key, each in zip("abcd", given, strict=True)]
            nodes.append(gs.Node("Slice", tensor.name, {}, [source.tensor, *limits], [tensor]))
        if source.channels is not None:
            selected = gs.Variable(f"{name}/chosen_{number}", np.uint8)
            index = gs.Constant(f"{selected.name}/channels", np.asarray(source.channels, np.int64))
            nodes.append(gs.Node("Gather", selected.name, {"axis": 1}, [tensor, index], [selected]))
            tensor = selected
        parts.append(tensor)
    data = parts[0]
    if len(parts) > 1:
        data = gs.Variable(f"{name}/joined", np.uint8)
        nodes.append(gs.Node("Concat", data.name, {"axis": 1}, parts, [data]))
    if linear.border is not None:
        pads = np.zeros((2, rank), np.int64)
        pads[1, 1] = _copies(linear)
        inputs = [data, gs.Constant(f"{name}/pads", pads.ravel()), scalar(f"{name}/mark", _mark(linear), np.uint8)]
        data = gs.Variable(f"{name}/marked", np.uint8)
        nodes.append(gs.Node("Pad", data.name, {"mode": "constant"}, inputs, [data]))
    return data


def _by_rows(product: gs.Node, data: gs.Variable, output: gs.Variable, linear: Linear, name: str) -> list[gs.Node]:
    """A product of [..., I] as one of [rows, I], and back."""
    names = ("rows", "sums", "whole", "outer", "target")
    rows, sums, whole, outer, target = (
        gs.Variable(f"{name}/{each}", {"rows": np.uint8, "sums": output.dtype}.get(each, np.int64)) for each in names
    )
    flat = gs.Constant(f"{name}/flat", np.array([-1, len(linear.weight)]))
    zero, last = (gs.Constant(f"{name}/{key}", np.array([value])) for key, value in (("first", 0), ("last", -1)))
    width = gs.Constant(f"{name}/width", np.array([linear.outputs]))
    product.inputs[0] = rows
    product.outputs = [sums]
    return [
        gs.Node("Reshape", rows.name, {}, [data, flat], [rows]),
        product,
        gs.Node("Shape", whole.name, {}, [data], [whole]),
        gs.Node("Slice", outer.name, {}, [whole, zero, last], [outer]),
        gs.Node("Concat", target.name, {"axis": 0}, [outer, width], [target]),
        gs.Node("Reshape", f"{name}/back", {}, [sums, target], [output]),
    ]


def _largest_weight(linear: Linear) -> int:
    return min(127, INT16 // (2 * linear.largest))


def _mark(linear: Linear) -> int:
    """The value v of the channels that carry a border: a count, as far from the zero point as one can be."""
    return linear.largest if 2 * linear.zero < linear.largest else 0


def _copies(linear: Linear) -> int:
    """How many channels share a border, so that it does not take all of int8 from the weights beside it."""
    if linear.border is None:
        return 0
    wanted = np.abs(linear.border).reshape(linear.outputs, -1).max(1) / abs(_mark(linear) - linear.zero)
    rows = np.abs(linear.weight).reshape(linear.outputs, -1).max(1)
    return int(np.clip(np.ceil((wanted / np.maximum(rows, np.finfo(np.float32).tiny)).max()), 1, COPIES))


def _pointwise(linear: Linear) -> bool:
    return linear.convolution and set(linear.weight.shape[2:]) == {1} and not is_padded(linear.attributes)


def _keeps_positions(linear: Linear) -> bool:
    taps, attributes = linear.weight.shape[2:], linear.attributes
    dilations = attributes.get("dilations", (1,) * len(taps))
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "") or any(size % 2 == 0 for size in taps):
        return False
    half = [(size - 1) // 2 * dilation for size, dilation in zip(taps, dilations, strict=True)]
    stays = all(stride == 1 for stride in attributes.get("strides", (1,)))
    return stays and list(attributes.get("pads", (0,) * 2 * len(taps))) == half * 2
