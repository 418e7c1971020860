"""Probes that count spikes and synaptic operations while a network runs.

    operations of a layer = Σ (inputs that are not zero) · fan-out of that input
    fan-out               = the number of nonzero weights that the input is multiplied by; dense: of all weights

For each tensor that is counted, a probe adds two outputs to the graph: the tensor's shape, and how often each of its
neurons was not zero, summed over time-steps and samples. These are whole numbers below 2^24, exact in float32; all
further sums are in int64. A product of two activations needs counts of both: Σ_k (a[:, k] not zero) · (b[k, :] not
zero).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.layers import WeightLayer, weight_layer
from graphpass.maths.metrics import Axis, Integers, SpikeCount, fan_out

Arrays = Mapping[str, NDArray[Any]]

# operators with products inside that no probe counts
UNCOUNTED = frozenset(
    "Einsum LSTM GRU RNN If Loop Scan SequenceMap Conv ConvTranspose DeformConv Gemm MatMul Attention "
    "MultiHeadAttention GroupQueryAttention PackedAttention QAttention FusedConv FusedGemm FusedMatMul".split()
)


@dataclass(frozen=True)
class OperationCounts:
    """Operations of one layer over all that was counted: those that happened, and those of a dense layer."""

    effective: int = 0
    dense: int = 0

    def merge(self, other: "OperationCounts") -> "OperationCounts":
        return OperationCounts(self.effective + other.effective, self.dense + other.dense)


@dataclass(frozen=True)
class _Tensor:
    """Names of two outputs: how often each neuron was not zero, and the shape of the tensor."""

    counts: str
    shape: str


@dataclass(frozen=True)
class _Layer:
    """A weight layer: its input and the shape of its output."""

    layer: WeightLayer
    data: _Tensor
    output_shape: str

    def count(self, values: Arrays) -> OperationCounts:
        shape = tuple(int(size) for size in values[self.data.shape])
        counts = np.rint(values[self.data.counts]).astype(np.int64)
        met, all_ = layer_fan_out(self.layer, shape, tuple(int(size) for size in values[self.output_shape]))
        # a position that fan_out has once counts as often as the tensor repeats it
        return OperationCounts(int((counts * met).sum()), int(all_.sum()) * (int(np.prod(shape)) // max(all_.size, 1)))


@dataclass(frozen=True)
class _Product:
    """A MatMul of two tensors a[…, M, K]·b[…, K, N]."""

    a: _Tensor
    b: _Tensor

    def count(self, values: Arrays) -> OperationCounts:
        shape_a, shape_b = values[self.a.shape], values[self.b.shape]
        a, b = (np.rint(values[each.counts]).astype(np.int64) for each in (self.a, self.b))
        places = int(np.prod(np.broadcast_shapes(a.shape, b.shape)))
        return OperationCounts(int((a * b).sum()), places * int(shape_a[-2]) * int(shape_b[-1]))


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
            name: SpikeCount(
                int(np.rint(values[train.counts]).astype(np.int64).sum()), int(np.prod(values[train.shape]))
            )
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

    def counts(self, tensor: gs.Tensor, axis: int, columns: int | None = None) -> _Tensor:
        """Counts of nonzero values, summed over an axis; columns: the tensor is seen as a matrix with this many."""

        def nodes(y: gs.Variable) -> list[gs.Node]:
            bools, ones = gs.Variable(f"{y.name}/bool", bool), gs.Variable(f"{y.name}/ones", np.float32)
            made = [gs.Node("Cast", bools.name, {"to": 9}, [tensor], [bools]),
                    gs.Node("Cast", ones.name, {"to": 1}, [bools], [ones])]  # fmt: skip
            if columns is not None:
                shape = gs.Constant(f"{y.name}/rows", np.array([-1, columns]))
                rows = gs.Variable(f"{y.name}/matrix", np.float32)
                made.append(gs.Node("Reshape", rows.name, {}, [ones, shape], [rows]))
                ones = rows
            axes = gs.Constant(f"{y.name}/axes", np.array([axis]))
            return [*made, gs.Node("ReduceSum", y.name, {"keepdims": 0}, [ones, axes], [y])]

        return _Tensor(self._once(tensor, f"counts{axis}/{columns}", np.float32, nodes), self.shape(tensor))

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


def probe(graph: gs.Graph) -> Probes:
    """Add probes for every weight layer, product of two activations and spike train to a sorted graph, in place."""
    builder = _ProbeBuilder(graph)
    layers: dict[str, _Layer | _Product] = {}
    trains: dict[str, _Tensor] = {}
    uncounted = []
    for node in list(graph.nodes):
        layer = weight_layer(node)
        if node.op in operators.TRAIN_NEURONS and node.domain == SPIKING_DOMAIN:
            trains[node.name] = builder.counts(node.outputs[0], 0)
        elif layer and _is_constant(layer.data):
            continue  # the response to an offset: part of the bias
        elif layer and (node.op != "MatMul" or (layer.data_index == 0 and len(layer.weight.shape) == 2)):
            axis, columns = _summed(layer)
            data = builder.counts(layer.data, axis, columns)
            layers[node.name] = _Layer(layer, data, builder.shape(layer.output))
        elif node.op == "MatMul" and all(t.shape is not None and len(t.shape) >= 2 for t in node.inputs):
            layers[node.name] = _Product(builder.counts(node.inputs[0], -2), builder.counts(node.inputs[1], -1))
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
    weight = np.asarray(layer.weight.values) != 0
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
