"""What each standard operator means to a spiking network: weight layers, moves, operators linear in time.

An operator is linear per time-step when it commutes with the mean over time: f(Σ w_t·I_t) = Σ w_t·f(I_t) for
weights that sum to 1. Trains may pass it step by step; all other operators see the mean. An operator *moves* values
when each value of its output is a value of its input or a constant, so that values of 0 and 1 stay 0 and 1. All modules
that need to know whether spikes pass a node (sites, identity neurons, the unrolled form, counting) ask this one.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.domains import STANDARD_DOMAINS
from graphpass.graph.types import is_float

MOVES = frozenset(
    "Identity Dropout Cast Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Concat Gather GatherElements "
    "GatherND Compress Expand Tile Pad DepthToSpace SpaceToDepth Where Trilu Resize Upsample".split()
)
MEANS = frozenset("AveragePool GlobalAveragePool ReduceMean ReduceSum".split())
REDUCTIONS = frozenset("ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2".split())
MAXIMA = frozenset("MaxPool GlobalMaxPool".split())
SUMS = frozenset("Add Sub Sum Mean Neg BatchNormalization Resize Upsample".split())
SCALES = frozenset("Mul Div".split())  # linear when the other operand is constant
KEEPS_AXES = frozenset(
    "Cast Identity Dropout Clip Relu Sigmoid Tanh HardSigmoid HardSwish LeakyRelu PRelu AveragePool GlobalAveragePool "
    "Floor Ceil Round Erf Exp Log Sqrt Pow Abs Reciprocal Min Max Where Mish Gelu Elu Celu Selu Softplus Softsign "
    "ThresholdedRelu Swish LRN Pad Concat Slice Split".split()
)  # besides sums, scales and maxima: operators that leave each axis in its place
WEIGHTS = frozenset("Conv ConvTranspose Gemm MatMul".split())
RECURRENT = frozenset("LSTM GRU RNN".split())
RANDOM = frozenset("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli".split())


@dataclass(frozen=True)
class WeightLayer:
    """One weight layer, and the one place where the attributes of its operator are read.

    Conv, ConvTranspose, MatMul: y = W·x + b, a MatMul without b.  Gemm: y = α·W·x + β·b, either operand transposed.
    Data and weight are inputs number data_index and weight_index of node.
    """

    node: gs.Node
    data_index: int
    weight_index: int

    @property
    def data(self) -> gs.Variable:
        return self.node.inputs[self.data_index]

    @property
    def weight(self) -> gs.Constant:
        return self.node.inputs[self.weight_index]

    @property
    def output(self) -> gs.Variable:
        return self.node.outputs[0]

    @property
    def bias(self) -> gs.Tensor | None:
        """The bias inside the node (Conv, ConvTranspose, Gemm), None where it has none."""
        has = self.node.op != "MatMul" and len(self.node.inputs) > 2 and not absent(self.node.inputs[2])
        return self.node.inputs[2] if has else None

    @property
    def convolves(self) -> bool:
        """Whether it is a Conv or ConvTranspose."""
        return bool(self.node.op.startswith("Conv"))

    @property
    def groups(self) -> int:
        """Groups of a convolution, 1 of others."""
        return int(self.node.attrs.get("group", 1)) if self.convolves else 1

    @property
    def alpha(self) -> float:
        """α, the factor of a Gemm's product; 1 for other layers."""
        return float(self.node.attrs.get("alpha", 1.0)) if self.node.op == "Gemm" else 1.0

    @property
    def beta(self) -> float:
        """β, the factor of a Gemm's bias; 1 for other layers."""
        return float(self.node.attrs.get("beta", 1.0)) if self.node.op == "Gemm" else 1.0

    @property
    def transposes_data(self) -> bool:
        """Whether a Gemm transposes its data."""
        return self._transposes(self.data_index)

    @property
    def transposes_weight(self) -> bool:
        """Whether a Gemm transposes its weights."""
        return self._transposes(self.weight_index)

    def _transposes(self, index: int) -> bool:
        return self.node.op == "Gemm" and bool(self.node.attrs.get(("transA", "transB")[index], 0))

    @property
    def input_axis(self) -> int:
        """The axis of the data that the layer sums over: 1 of a convolution, else from the end."""
        if self.convolves:
            return 1
        return -1 if (self.data_index == 0) != self.transposes_data or self._is_of_vectors else -2

    @property
    def output_axis(self) -> int:
        """The axis of the output along which its features lie: 1 of a convolution, else from the end."""
        if self.convolves:
            return 1
        return -1 if self.data_index == 0 or self._is_of_vectors else -2

    @property
    def weight_input_axis(self) -> int:
        """The axis of the weights along which input features lie: 1, 0 of a ConvTranspose, from the end of a matrix."""
        if self.convolves:
            return 0 if self.node.op == "ConvTranspose" else 1
        return -1 if (self.weight_index == 0) != self.transposes_weight else -2

    @property
    def inputs(self) -> int:
        """Number of features of its data."""
        groups = self.groups if self.node.op == "Conv" else 1
        return int(self.weight.shape[self.weight_input_axis]) * groups

    @property
    def outputs(self) -> int:
        """Number of features of its output."""
        shape = self.weight.shape
        if self.node.op == "ConvTranspose":
            return int(shape[1]) * self.groups
        return int(shape[0 if self.convolves else -3 - self.weight_input_axis])

    @property
    def fan_in(self) -> int:
        """How many inputs one output sees: in a Conv those of its group at every tap, else all."""
        return int(np.prod(self.weight.shape[1:])) if self.node.op == "Conv" else self.inputs

    @property
    def _is_of_vectors(self) -> bool:
        """Whether a MatMul's data is one vector, [K] without a batch."""
        return self.data.shape is not None and len(self.data.shape) == 1


def is_padded(attributes: Mapping[str, Any]) -> bool:
    """Whether a convolution or pooling with these attributes may see padding."""
    return bool(any(attributes.get("pads", ()))) or attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", "")


def rank_of(tensor: gs.Tensor) -> int | None:
    """Number of axes, None where unknown."""
    return None if tensor.shape is None else len(tensor.shape)


def absent(tensor: gs.Tensor) -> bool:
    """Whether an optional input was left out."""
    return bool(tensor.is_empty())


def weight_layer(node: gs.Node) -> WeightLayer | None:
    """The node as a weight layer: its weights are an initializer of floats, its data is none. None for others."""
    if node.op not in WEIGHTS or node.domain not in STANDARD_DOMAINS:
        return None
    for data_index, weight_index in ((0, 1), (1, 0)):
        data, weight = node.inputs[data_index], node.inputs[weight_index]
        constant = isinstance(weight, gs.Constant) and not isinstance(data, gs.Constant)
        if constant and is_float(weight.dtype) and len(weight.shape) >= 2 and 0 not in weight.shape:
            if weight_index == 0 and node.op.startswith("Conv"):
                return None
            return WeightLayer(node, data_index, weight_index)
    return None


Known = dict[int, bool]  # by the identity of a tensor: of a graph that is not changed meanwhile


def is_fixed(tensor: gs.Tensor, known: Known | None = None) -> bool:
    """Whether a tensor depends on constants alone, even if it could not be computed beforehand.

    known: what was found of tensors before; what is found is added, so that a pass over a graph walks each path once.
    """
    known = Known() if known is None else known
    stack, seen = [tensor], set()
    while stack:
        current = stack[-1]
        before = [each for each in current.inputs[0].inputs if not absent(each)] if current.inputs else []
        if id(current) in known:
            stack.pop()
        elif id(current) not in seen and (left := [each for each in before if id(each) not in known]):
            seen.add(id(current))
            stack += left
        else:
            known[id(current)] = isinstance(current, gs.Constant) or _is_made_of(current, before, known)
            stack.pop()
    return known[id(tensor)]


def _is_made_of(tensor: gs.Tensor, before: Sequence[gs.Tensor], known: Known) -> bool:
    """Whether its node makes the same of the same inputs, which are fixed; a graph's own input is made of nothing."""
    if not tensor.inputs or draws(tensor.inputs[0]) or any(tensor.inputs[0].subgraphs()):
        return False
    return all(known.get(id(each), True) for each in before)


def holds_weights(node: gs.Node, known: Known | None = None) -> bool:
    """Whether the node is a layer with weights, of any type and origin; it need not be one that spikes can reach.

    known: as for `is_fixed`.
    """
    if (
        node.domain not in STANDARD_DOMAINS
    ):  # a fused operator of an optimiser, with a matrix or a kernel that is not a lookup table
        return "Embed" not in node.op and any(_is_matrix(tensor) for tensor in node.inputs)
    if node.op in ("Gemm", "MatMul", "Einsum"):
        fixed = [is_fixed(tensor, known) for tensor in node.inputs[:2]]
        return any(fixed) and not all(fixed)
    return node.op in ("Conv", "ConvTranspose", "DeformConv") or node.op in RECURRENT


def _is_matrix(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) and len(tensor.shape) >= 2


def weight_layers(graph: gs.Graph) -> tuple[WeightLayer, ...]:
    """Every weight layer, in the order of the nodes."""
    return tuple(layer for node in graph.nodes if (layer := weight_layer(node)))


def count_weights(graph: gs.Graph) -> int:
    """Numbers in the matrices and kernels that layers with weights get, also those in branches and bodies.

    What several layers share counts once; biases do not count.
    """
    known = Known()
    every = [node for each in (graph, *graph.subgraphs(recursive=True)) for node in each.nodes]
    nodes = [node for node in every if holds_weights(node, known)]
    stack, found = [tensor for node in nodes for tensor in _operands(node) if is_fixed(tensor, known)], {}
    while stack:  # back to where the weights are stored
        tensor = stack.pop()
        if id(tensor) not in found:
            maker = tensor.inputs[0] if tensor.inputs else None
            value = maker.attrs.get("value") if maker and maker.op == "Constant" else tensor
            found[id(tensor)] = math.prod(value.shape) if isinstance(value, gs.Constant) and len(value.shape) > 1 else 0
            stack += [each for each in (maker.inputs if maker else ()) if not absent(each)]
    return sum(found.values())


def _operands(node: gs.Node) -> list[gs.Tensor]:
    """The inputs that may be a layer's weights."""
    if node.domain not in STANDARD_DOMAINS:
        return list(node.inputs)
    return list(node.inputs[1:3] if node.op in RECURRENT else node.inputs[:2])


def last_layers(graph: gs.Graph) -> frozenset[str]:
    """Names of the weight layers that no other layer with weights, and no product, follows in a sorted graph.

    What a Softmax makes shares of ends there: a detector's boxes are means over such shares, which are layers, too.
    """
    leads_on: set[str] = set()  # tensors
    last, known = [], Known()
    for node in reversed(graph.nodes):
        follows = any(tensor.name in leads_on for tensor in node.outputs)
        if weight_layer(node) and not follows:
            last.append(node.name)
        follows = follows and node.op != "Softmax"
        if follows or node.op in WEIGHTS or holds_weights(node, known) or any(node.subgraphs()):
            leads_on.update(tensor.name for tensor in node.inputs if isinstance(tensor, gs.Variable))
    return frozenset(last)


def data_inputs(node: gs.Node) -> list[gs.Variable]:
    """The inputs that carry data: not constants, not left out, not shapes or indices."""
    indices = {"Slice", "Reshape", "Gather", "GatherElements", "GatherND", "Compress", "Expand", "Tile", "Pad", "Trilu",
               "Resize", "Upsample", "Squeeze", "Unsqueeze", "Split", "Clip", "Dropout", *REDUCTIONS}  # fmt: skip
    inputs = node.inputs[:1] if node.op in indices else node.inputs[1:] if node.op == "Where" else node.inputs
    return [t for t in inputs if isinstance(t, gs.Variable) and not absent(t)]


def is_linear(node: gs.Node) -> bool:
    """Whether the node is linear per time-step in its data inputs (weight layers and maxima aside)."""
    if node.domain not in STANDARD_DOMAINS:
        return False
    if node.op in SCALES:
        other = node.inputs[1] if node.op == "Div" else None
        constants = [t for t in node.inputs if isinstance(t, gs.Constant)]
        return len(constants) == 1 and (other is None or other is constants[0])
    if node.op == "BatchNormalization":  # statistics of the data itself make it a layer normalisation
        fixed = all(isinstance(tensor, gs.Constant) for tensor in node.inputs[1:])
        return fixed and not node.attrs.get("training_mode", 0)
    if node.op in ("Resize", "Upsample"):
        return node.attrs.get("mode", "nearest") in ("nearest", "linear", "cubic")
    return node.op in MEANS | SUMS or moves(node)


def moves(node: gs.Node) -> bool:
    """Whether the node only moves, repeats or drops values, or fills in constants."""
    if node.op not in MOVES or node.domain not in STANDARD_DOMAINS:
        return False
    if node.op == "Cast":
        return carries_trains(node.attrs.get("to"))
    if node.op == "Pad":
        return node.attrs.get("mode", "constant") in ("constant", "edge", "reflect", "wrap")
    if node.op == "Where":
        return isinstance(node.inputs[0], gs.Constant)
    return node.op not in ("Resize", "Upsample") or bool(node.attrs.get("mode", "nearest") == "nearest")


def carries_trains(kind: object) -> bool:
    """Whether a Cast's target (onnx.TensorProto number or numpy type) is float32 or float16.

    The operators of trains have no others but bfloat16, which numpy lacks (docs/operators/TimeMean_v1.md).
    """
    return kind in (1, 10) or kind in (np.float32, np.float16)


def draws(node: gs.Node) -> bool:
    """Whether the node draws random numbers at every run; a Dropout that may be in training mode does, too."""
    if node.domain not in STANDARD_DOMAINS:
        return False
    if node.op != "Dropout" or len(node.inputs) < 3 or absent(node.inputs[2]):
        return node.op in RANDOM
    mode = node.inputs[2]
    return not isinstance(mode, gs.Constant) or bool(mode.values.any())


def passes(node: gs.Node) -> bool:
    """Whether spikes pass the node on the way to a weight layer: linear, shape-only or pooling."""
    return is_linear(node) or is_maximum(node)


def is_maximum(node: gs.Node) -> bool:
    """Whether the node pools the largest values."""
    return bool(node.op in MAXIMA and node.domain in STANDARD_DOMAINS)


def reached_layers(tensor: gs.Variable) -> Iterator[WeightLayer]:
    """The weight layers that a tensor feeds, directly or through passing operators."""
    seen: set[int] = set()
    stack = [tensor]
    while stack:
        current = stack.pop()
        for node in current.outputs:
            if id(node) in seen:
                continue
            layer = weight_layer(node)
            if layer and layer.data is current:
                seen.add(id(node))
                yield layer
            elif passes(node) and any(current is t for t in data_inputs(node)):
                seen.add(id(node))
                stack.extend(node.outputs)


def copied_from(layer: WeightLayer, ends: Collection[str]) -> tuple[list[gs.Node], list[tuple[gs.Node, int]]]:
    """The operators that move a layer's data, and where values enter them or the layer, as (node, input number).

    ends: names of tensors where the search stops.
    """
    copying: dict[int, gs.Node] = {}
    entries: list[tuple[gs.Node, int]] = []
    stack = [(layer.node, layer.data_index)]
    while stack:
        node, number = stack.pop()
        tensor = node.inputs[number]
        maker = tensor.inputs[0] if tensor.inputs else None
        inner = data_inputs(maker) if maker and moves(maker) and maker.op != "Cast" else []
        if maker is None or not inner or tensor.name in ends:
            entries.append((node, number))
        elif id(maker) not in copying:
            copying[id(maker)] = maker
            stack += [(maker, k) for k, each in enumerate(maker.inputs) if any(each is one for one in inner)]
    return list(copying.values()), entries
