"""Probes that count spikes and synaptic operations while a network runs.

    operations of a layer = Σ (inputs that are not zero) · fan-out of that input
    fan-out               = the number of nonzero weights that the input is multiplied by; dense: of all weights
    operations of counts  = the same with an input counted once that is not zero at any of the T steps

For each tensor that is counted, a probe adds two outputs to the graph: the tensor's shape, and how often each of its
neurons was not zero, summed over time-steps and samples. These are whole numbers below 2^24, exact in float32; all
further sums are in int64. A product of two activations needs counts of both: Σ_k (a[:, k] not zero) · (b[k, :] not
zero).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.layers import WeightLayer, weight_layer
from graphpass.graph.weights import values_of
from graphpass.maths.metrics import Axis, Integers, SpikeCount, fan_out

Arrays = Mapping[str, NDArray[Any]]

# operators with products inside that no probe counts
UNCOUNTED = frozenset(
    "Einsum LSTM GRU RNN If Loop Scan SequenceMap Conv ConvTranspose DeformConv Gemm MatMul Attention "
    "MultiHeadAttention GroupQueryAttention PackedAttention QAttention FusedConv FusedGemm FusedMatMul".split()
)


@dataclass(frozen=True)
class OperationCounts:
    """What one layer does with all samples that were counted, as sums over time-steps.

    effective, dense: operations that happened, and those of a dense layer. inputs, outputs: elements of its input and
    output. events: inputs that are not zero. counts: operations if each input were sent once, as the number of its
    spikes; equal to `effective` where the input is no train. stored: elements of the second factor of a product of two
    activations, 0 for layers with weights.
    """

    effective: int = 0
    dense: int = 0
    inputs: int = 0
    outputs: int = 0
    events: int = 0
    counts: int = 0
    stored: int = 0

    def merge(self, other: "OperationCounts") -> "OperationCounts":
        return OperationCounts(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class LayerStorage:
    """What a layer has stored, in numbers: weights and biases. convolves: whether it is a convolution.

    places: kernel taps times output channels of a convolution, 0 of others.
    """

    weights: int = 0
    biases: int = 0
    convolves: bool = False
    places: int = 0


@dataclass(frozen=True)
class _Tensor:
    """Names of outputs: how often each neuron was not zero, the tensor's shape, and how often at any of the steps."""

    counts: str
    shape: str
    once: str


@dataclass(frozen=True)
class _Layer:
    """A weight layer: its input and the shape of its output."""

    layer: WeightLayer
    data: _Tensor
    output_shape: str

    @property
    def stored(self) -> LayerStorage:
        return _stored(self.layer)

    def count(self, values: Arrays) -> OperationCounts:
        shape = tuple(int(size) for size in values[self.data.shape])
        output = tuple(int(size) for size in values[self.output_shape])
        counts, once = (_whole(values[name]) for name in (self.data.counts, self.data.once))
        met, all_ = layer_fan_out(self.layer, shape, output)
        # a position that fan_out has once counts as often as the tensor repeats it
        dense = int(all_.sum()) * (math.prod(shape) // max(all_.size, 1))
        sizes = math.prod(shape), math.prod(output)
        return OperationCounts(int((counts * met).sum()), dense, *sizes, int(counts.sum()), int((once * met).sum()))


@dataclass(frozen=True)
class _Product:
    """A MatMul of two tensors a[…, M, K]·b[…, K, N]. layer: as a weight layer, None if both are activations."""

    a: _Tensor
    b: _Tensor
    layer: WeightLayer | None

    @property
    def stored(self) -> LayerStorage:
        return _stored(self.layer) if self.layer else LayerStorage()

    def count(self, values: Arrays) -> OperationCounts:
        data, other = (self.b, self.a) if self.layer and self.layer.data_index else (self.a, self.b)
        shape_a, shape_b = values[self.a.shape], values[self.b.shape]
        a, b, once_a, once_b = (
            _whole(values[name]) for name in (self.a.counts, self.b.counts, self.a.once, self.b.once)
        )
        outputs = math.prod(np.broadcast_shapes(a.shape, b.shape)[:-1]) * int(shape_a[-2]) * int(shape_b[-1])
        return OperationCounts(
            int((a * b).sum()),
            outputs * int(shape_a[-1]),
            math.prod(map(int, values[data.shape])),
            outputs,
            int(_whole(values[data.counts]).sum()),
            int((once_a * once_b).sum()),
            0 if self.layer else math.prod(map(int, values[other.shape])),
        )


def _whole(values: NDArray[Any]) -> Integers:
    return np.asarray(np.rint(values), np.int64)


def _stored(layer: WeightLayer) -> LayerStorage:
    """Numbers that a weight layer holds."""
    shape = layer.weight.shape
    places = layer.outputs * math.prod(shape[2:]) if layer.convolves else 0
    return LayerStorage(math.prod(shape), _biases(layer), layer.convolves, places)


def _biases(layer: WeightLayer) -> int:
    """How many numbers are added to what a layer computes: in its node, or in an Add behind it."""
    if layer.bias is not None:
        return layer.outputs
    for node in layer.output.outputs:
        for other in (each for each in node.inputs if node.op == "Add" and each is not layer.output):
            if isinstance(other, gs.Constant):
                return math.prod(other.shape)
            maker = weight_layer(other.inputs[0]) if other.inputs else None
            if maker and _is_constant(maker.data):  # the response to an offset
                return layer.outputs
    return 0


@dataclass(frozen=True)
class Probes:
    """The probes that were added to a graph. uncounted: nodes with products that are not counted."""

    layers: Mapping[str, _Layer | _Product]
    trains: Mapping[str, _Tensor]
    uncounted: tuple[str, ...]
    names: tuple[str, ...] = field(default=())

    def operations(self, values: Arrays) -> dict[str, OperationCounts]:
        """Operations of each layer, from the outputs of one run."""
        return {name: layer.count(values) for name, layer in self.layers.items()}

    def spikes(self, values: Arrays) -> dict[str, SpikeCount]:
        """Spikes of each ParallelNeuronTrain node, from the outputs of one run."""
        return {
            name: SpikeCount(int(_whole(values[train.counts]).sum()), int(np.prod(values[train.shape])))
            for name, train in self.trains.items()
        }


class _ProbeBuilder:
    """Adds probes to a graph, one a tensor and axis."""

    def __init__(self, graph: gs.Graph):
        self._graph = graph
        self._made: dict[tuple[str, str], str] = {}
        self._nodes: list[list[gs.Node]] = []
        self._taken = set(graph.tensors()) | {node.name for node in graph.nodes}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._made.values())

    def finish(self) -> None:
        """Put the probes' nodes behind all others, the last probe first.

        onnxruntime runs the branch of the last leaf first. In this order every tensor is counted and freed as soon as
        it is computed, instead of all tensors being kept to the end.
        """
        for nodes in reversed(self._nodes):
            self._graph.nodes.extend(nodes)

    def shape(self, tensor: gs.Tensor) -> str:
        return self._once(tensor, "shape", np.int64, lambda y: [gs.Node("Shape", y.name, {}, [tensor], [y])])

    def counts(self, tensor: gs.Tensor, axis: int, columns: int | None = None, steps: int = 1) -> _Tensor:
        """Counts of nonzero values, summed over an axis; columns: the tensor is seen as a matrix with this many.

        steps: T of a train [T·N, …], whose neurons are counted a second time, once for all their steps.
        """

        def nodes(y: gs.Variable, steps: int) -> list[gs.Node]:
            bools, ones = gs.Variable(f"{y.name}/bool", bool), gs.Variable(f"{y.name}/ones", np.float32)
            made = [gs.Node("Cast", bools.name, {"to": 9}, [tensor], [bools]),
                    gs.Node("Cast", ones.name, {"to": 1}, [bools], [ones])]  # fmt: skip
            if steps > 1:
                largest = gs.Variable(f"{y.name}/any", np.float32)
                made += _any_step(ones, largest, steps)
                ones = largest
            if columns is not None:
                shape = gs.Constant(f"{y.name}/rows", np.array([-1, columns]))
                rows = gs.Variable(f"{y.name}/matrix", np.float32)
                made.append(gs.Node("Reshape", rows.name, {}, [ones, shape], [rows]))
                ones = rows
            axes = gs.Constant(f"{y.name}/axes", np.array([axis]))
            return [*made, gs.Node("ReduceSum", y.name, {"keepdims": 0}, [ones, axes], [y])]

        all_steps = self._once(tensor, f"counts{axis}/{columns}", np.float32, lambda y: nodes(y, 1))
        once = all_steps
        if steps > 1:
            once = self._once(tensor, f"once{axis}/{columns}", np.float32, lambda y: nodes(y, steps))
        return _Tensor(all_steps, self.shape(tensor), once)

    def _once(self, tensor: gs.Tensor, what: str, dtype: Any, nodes: Any) -> str:
        key = (tensor.name, what)
        if key not in self._made:
            name = f"{tensor.name}/{what}"
            while name in self._taken:
                name += "_"
            self._taken.add(name)
            output = gs.Variable(name, dtype)
            self._nodes.append(nodes(output))
            self._graph.outputs.append(output)
            self._made[key] = name
        return self._made[key]


def _any_step(ones: gs.Variable, result: gs.Variable, steps: int) -> list[gs.Node]:
    """1 where a neuron of a train [T·N, …] is not 0 at any of the steps, else 0, as [N, …]."""
    parts = ("steps", "flat", "sums", "any", "axes", "rest", "free", "shape")
    names = {what: f"{result.name}/{what}" for what in parts}
    flat, sums, any_, shape, rest = (gs.Variable(names[what]) for what in ("flat", "sums", "any", "shape", "rest"))
    apart = gs.Constant(names["steps"], np.array([steps, -1]))
    return [
        gs.Node("Reshape", flat.name, {}, [ones, apart], [flat]),
        gs.Node("ReduceSum", sums.name, {"keepdims": 0}, [flat, gs.Constant(names["axes"], np.array([0]))], [sums]),
        gs.Node("Sign", any_.name, {}, [sums], [any_]),
        gs.Node("Shape", rest.name, {"start": 1}, [ones], [rest]),
        gs.Node("Concat", shape.name, {"axis": 0}, [gs.Constant(names["free"], np.array([-1])), rest], [shape]),
        gs.Node("Reshape", result.name, {}, [any_, shape], [result]),
    ]


def probe(graph: gs.Graph, spiking: Collection[str] = (), steps: int = 1) -> Probes:
    """Add probes for every weight layer, product of two activations and spike train to a sorted graph, in place.

    spiking: names of the layers whose input is a train of so many steps.
    """
    builder = _ProbeBuilder(graph)
    layers: dict[str, _Layer | _Product] = {}
    trains: dict[str, _Tensor] = {}
    uncounted = []
    for node in list(graph.nodes):
        layer = weight_layer(node)
        own = steps if node.name in spiking else 1
        if node.op in operators.TRAIN_NEURONS and node.domain == SPIKING_DOMAIN:
            trains[node.name] = builder.counts(node.outputs[0], 0)
        elif layer and _is_constant(layer.data):
            continue  # the response to an offset: part of the bias
        elif layer and (node.op != "MatMul" or (layer.data_index == 0 and len(layer.weight.shape) == 2)):
            axis, columns = _summed(layer)
            data = builder.counts(layer.data, axis, columns, own)
            layers[node.name] = _Layer(layer, data, builder.shape(layer.output))
        elif node.op == "MatMul" and all(t.shape is not None and len(t.shape) >= 2 for t in node.inputs):
            a, b = (
                builder.counts(tensor, axis, steps=own if isinstance(tensor, gs.Variable) else 1)
                for tensor, axis in zip(node.inputs, (-2, -1), strict=True)
            )
            layers[node.name] = _Product(a, b, layer)
        elif node.op in UNCOUNTED:
            uncounted.append(node.name)
    builder.finish()
    return Probes(layers, trains, tuple(uncounted), builder.names)


def _is_constant(tensor: gs.Tensor) -> bool:
    """Whether a tensor has constant values, whatever its shape depends on."""
    makers = tensor.inputs[:1]
    return any(
        node.op == "ConstantOfShape" or (node.op == "Expand" and isinstance(node.inputs[0], gs.Constant))
        for node in makers
    )


def _summed(layer: WeightLayer) -> tuple[int, int | None]:
    """The axis along which the data of a layer can be summed: that of samples, since it meets the same weights."""
    if layer.node.op == "MatMul":
        return 0, int(layer.weight.shape[0])
    return (0 if layer.input_axis in (1, -1) else 1), None


def layer_fan_out(layer: WeightLayer, shape: tuple[int, ...], output: tuple[int, ...]) -> tuple[Integers, Integers]:
    """The numbers of nonzero weights, and of all weights, that each input is multiplied by: int64, shaped as counts.

    shape, output: shapes of the layer's input and output at run time.
    """
    weight = values_of(layer.weight) != 0
    node = layer.node
    if not layer.convolves:
        axis = 0 if node.op == "MatMul" else layer.weight_input_axis % 2
        return weight.sum(1 - axis, dtype=np.int64), np.full(weight.shape[axis], weight.shape[1 - axis], np.int64)
    transposed = node.op == "ConvTranspose"
    if not transposed:  # [outputs, inputs/groups, k, …] → [inputs, k, …], summed over the outputs of the group
        weight = weight.reshape(layer.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        weight = weight.reshape(-1, *weight.shape[2:])
    taps = weight.sum(1, dtype=np.int64)
    axes = _axes(layer, shape[2:], output[2:])
    every = np.full_like(taps, weight.shape[1])
    return fan_out(taps, axes, transposed), fan_out(every, axes, transposed)


def _axes(layer: WeightLayer, sizes: tuple[int, ...], outputs: tuple[int, ...]) -> list[Axis]:
    attributes, kernel = layer.node.attrs, layer.weight.shape[2:]
    rank = len(kernel)
    strides, dilations = (attributes.get(name, [1] * rank) for name in ("strides", "dilations"))
    pads = attributes.get("pads", [0] * 2 * rank)
    extra = attributes.get("output_padding", [0] * rank)
    automatic, transposed = attributes.get("auto_pad", "NOTSET"), layer.node.op == "ConvTranspose"
    axes = []
    for k, (size, out, taps) in enumerate(zip(sizes, outputs, kernel, strict=True)):
        reach = (taps - 1) * dilations[k] + 1
        if transposed:
            padding = max(strides[k] * (size - 1) + extra[k] + reach - out, 0)
        else:
            padding = max((out - 1) * strides[k] + reach - size, 0)
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            pad = padding // 2 if automatic == "SAME_UPPER" else padding - padding // 2
        elif automatic == "VALID":
            pad = 0
        elif transposed and "output_shape" in attributes:
            pad = padding - padding // 2
        else:
            pad = pads[k]
        axes.append(Axis(size, out, taps, strides[k], dilations[k], pad))
    return axes
