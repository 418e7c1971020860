"""Neurons on channels in blocks, [N, C/b, H, W, b]: the layout (NCHWc) in which onnxruntime convolves on the CPU.

onnxruntime reorders tensors around every node that it does not know, and it does not know neurons. So it optimises a
model in which a Tanh stands in for each neuron: onnxruntime leaves a Tanh in blocks and keeps its name. Then

    Tanh(x)         →  BlockedNeuron(x, θ, ψ, A, o)
    Tanh(Add(x, z)) →  BlockedNeuronOfSum(x, θ, ψ, A, o, z)

The last digit of a current can decide a count, so the arithmetic has to be that of the reference: the model as
onnxruntime optimises it without stand-ins. A convolution takes in a sum only if it does in the reference. An operator
whose numbers depend on the layout, such as a mean, reads a neuron through a *fence*, a Ceil: onnxruntime has that in
the layout of the model alone. It is taken out afterwards. In the end the two optimised models are compared.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphpass.forms.operators import BLOCKED_NEURON, BLOCKED_NEURON_OF_SUM, FOLDED_NEURON
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.tensors import bodies_of

NCHWC = "com.microsoft.nchwc"
STAND_IN, FENCE = "Tanh", "Ceil"
PREFIX = "graphpass_neuron_"
SUM_PREFIX, FENCE_PREFIX = f"{PREFIX}sum_", f"{PREFIX}fence_"
NEUTRAL = (1.0, 0.0, 0.0, 0.0)  # θ, ψ, A, o of the channels that fill up the last block; their output is 0
# Operators that move numbers and do not change them; onnxruntime inserts and removes them as the layout requires.
MOVES = frozenset("ReorderInput ReorderOutput Reshape Transpose Concat Identity".split())
# Operators that neither move nor mix channels, and give the same numbers in either layout, ...
_EITHER = frozenset("Add Concat Gelu HardSigmoid HardSwish Identity LeakyRelu MaxPool Mul Resize Sigmoid Tanh".split())
SAME, RENAMED = ("MaxPool", "Resize"), {"Upsample": "Resize"}  # of these, those with kernels and names of their own
WAY_IN = _EITHER | {"BatchNormalization", "Clip", "Relu"}  # ... those on the way from a convolution to a neuron,
POOLS = frozenset("AveragePool GlobalAveragePool".split())  # in blocks in the reference, too, behind convolutions,
WAY_OUT = _EITHER | {"Pad"}  # and those on the way from a neuron to the next.

Floats = NDArray[np.float32]


class NotBlocked(Exception):  # noqa: N818 - a reason, caught by the session, which then runs the model as it is
    """Why the neurons of a model stay in the layout of the model."""


@dataclass(frozen=True)
class StandIn:
    """The model that onnxruntime optimises.

    proto: the model with stand-ins; neurons: the neuron behind each stand-in, by the stand-in's name; parameters:
    θ, ψ, A, o of each, float32 [C] or [1]; shown: outputs that were added so that onnxruntime fuses nothing into the
    nodes that make them.
    """

    proto: onnx.ModelProto
    neurons: dict[str, onnx.NodeProto]
    parameters: dict[str, list[Floats]]
    shown: frozenset[str]


def channel_block(nchw: Floats, blocked: Floats) -> int:
    """b, given a tensor of distinct numbers in both layouts, [N, C, H, W] by their shapes; 0 for another layout."""
    n, c, h, w = nchw.shape
    for block in (8, 16):
        expected = nchw.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2)
        if np.array_equal(expected.ravel(), blocked.ravel()):
            return block
    return 0


def reordering(channels: int) -> onnx.ModelProto:
    """x [1, channels, 1, 2] → y, the same numbers in blocks, which show the width of a block."""
    shape = [1, channels, 1, 2]
    graph = helper.make_graph(
        [helper.make_node("ReorderInput", ["x"], ["y"], domain=NCHWC)],
        "reordering",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(NCHWC, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def candidates(proto: onnx.ModelProto) -> dict[str, list[Floats]]:
    """The neurons that may work in blocks: θ, ψ, A, o of each, float32 [C] or [1], by its output.

    Raises NotBlocked where there is none.
    """
    if bodies_of(proto.graph.node):
        raise NotBlocked("the model has subgraphs")
    if any(each.name.startswith(PREFIX) for each in (*proto.graph.node, *proto.graph.initializer)):
        raise NotBlocked(f"the model has names that begin with {PREFIX}")
    nodes = _Nodes(proto.graph)
    found = {
        node.output[0]: [numpy_helper.to_array(nodes.constants[name]).reshape(-1) for name in node.input[1:]]
        for node in proto.graph.node
        if nodes.fits(node)
    }
    if not found:
        raise NotBlocked("no neuron stands between convolutions of two dimensions, float32")
    return found


def named(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name for every sum."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for k, node in enumerate(made.graph.node):
        if _is(node, "Add") and not node.name:
            node.name = f"{SUM_PREFIX}{k}"
    return made


def stand_in(proto: onnx.ModelProto, wanted: Mapping[str, list[Floats]], reference: onnx.ModelProto) -> StandIn:
    """The model (named) with stand-ins for neurons, given their parameters by their outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph, nodes = made.graph, _Nodes(made.graph)
    sums = {node.name for node in reference.graph.node if _is(node, "Add")}
    shown: dict[str, None] = {}
    for node in graph.node:
        if node.name in sums:
            shown |= dict.fromkeys(name for name in node.input if name in nodes.convolved)
    neurons: dict[str, onnx.NodeProto] = {}
    parameters = {}
    fused = {name for node in graph.node if _is(node, "HardSwish") for name in node.output}  # but not if it is shown
    with_fences = []
    for node in graph.node:
        with_fences.append(node)
        if not _is(node, FOLDED_NEURON, SPIKING_DOMAIN) or node.output[0] not in wanted:
            continue
        name = f"{PREFIX}{len(neurons)}"
        neurons[name] = onnx.NodeProto()
        neurons[name].CopyFrom(node)
        parameters[name] = wanted[node.output[0]]
        if node.input[0] not in fused:
            shown[node.input[0]] = None
        if others := nodes.others(node):
            fence = f"{FENCE_PREFIX}{len(neurons)}"
            with_fences.append(helper.make_node(FENCE, node.output, [fence], fence))
            for reader in others:
                _rename_inputs(reader, {node.output[0]: fence})
        node.CopyFrom(helper.make_node(STAND_IN, node.input[:1], node.output, name))
    del graph.node[:]
    graph.node.extend(with_fences)
    for name in [value.name for value in graph.output]:
        shown.pop(name, None)
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in shown)
    return StandIn(made, neurons, parameters, frozenset(shown))


def blocked_outputs(stand: StandIn, optimised: onnx.ModelProto, block: int) -> frozenset[str]:
    """Outputs (by their names in the model) of the neurons whose stand-in works in blocks after optimisation."""
    channels = _block_channels(optimised.graph)
    found = []
    for node in optimised.graph.node:
        if node.op_type == STAND_IN and node.name in stand.neurons and node.input[0] in channels:
            size = max(value.size for value in stand.parameters[node.name])
            if size == 1 or channels[node.input[0]] in (0, size + -size % block):
                found.append(stand.neurons[node.name].output[0])
    return frozenset(found)


def finished(stand: StandIn, optimised: onnx.ModelProto, block: int) -> onnx.ModelProto:
    """The optimised model with neurons in place of stand-ins, without fences and the outputs that were added."""
    made = onnx.ModelProto()
    made.CopyFrom(optimised)
    graph = made.graph
    outputs = [value for value in graph.output if value.name not in stand.shown]
    del graph.output[:]
    graph.output.extend(outputs)
    names = {value.name for value in outputs}
    users = Counter(name for node in graph.node for name in node.input)
    kept = [node for node in graph.node if node.op_type != "ReorderOutput" or {*node.output} & ({*users} | names)]
    users = Counter(name for node in kept for name in node.input)
    channels = _block_channels(graph)
    producer = {name: node for node in kept for name in node.output}
    merged = set()
    for node in kept:
        if node.name not in stand.neurons:
            continue
        neuron, currents, op = stand.neurons[node.name], list(node.input), BLOCKED_NEURON
        before = producer[node.input[0]]
        if before.op_type == "Add" and users[node.input[0]] == 1 and {*before.input} <= {*channels}:
            currents, op = list(before.input), BLOCKED_NEURON_OF_SUM
            merged.add(node.input[0])
        inside = [f"{node.name}_{k}" for k in range(len(NEUTRAL))]
        graph.initializer.extend(map(numpy_helper.from_array, _padded(stand.parameters[node.name], block), inside))
        inputs = [currents[0], *inside, *currents[1:]]
        new = helper.make_node(op, inputs, node.output, neuron.name, domain=SPIKING_DOMAIN, block=block)
        new.attribute.extend(neuron.attribute)
        node.CopyFrom(new)
    fences = [node for node in kept if _is_fence(node)]
    fenced = {node.output[0]: node.input[0] for node in fences if node.output[0] not in names}
    for node in fences:  # onnxruntime lets one make an output of the model where it removes what is between the two
        node.op_type = "Identity"
    for node in kept:
        _rename_inputs(node, fenced)
    del graph.node[:]
    graph.node.extend(node for node in kept if not {*node.output} & {*merged, *fenced})
    del graph.value_info[:]
    del made.metadata_props[:]
    made.metadata_props.extend(stand.proto.metadata_props)
    return made


def same_arithmetic(reference: onnx.ModelProto, optimised: onnx.ModelProto) -> bool:
    """Whether two optimised models are the same apart from moves, fences, and stand-ins for neurons."""
    return _arithmetic(reference) == _arithmetic(optimised)


def _arithmetic(proto: onnx.ModelProto) -> Counter[tuple[object, ...]]:
    """How often each operator occurs; convolutions by name, attributes and whether they add a tensor."""
    found: Counter[tuple[object, ...]] = Counter()
    for node in proto.graph.node:
        neuron = node.op_type == FOLDED_NEURON or (node.name.startswith(PREFIX) and node.op_type == STAND_IN)
        if neuron or _is_fence(node) or node.op_type in MOVES:
            continue
        about: tuple[object, ...] = ()
        if node.op_type == "Conv":
            about = (node.name, len(node.input), *sorted(each.SerializeToString() for each in node.attribute))
        op = RENAMED.get(node.op_type, node.op_type)
        found[("" if op in SAME else node.domain, op, *about)] += 1
    return found


def _padded(parameters: list[Floats], block: int) -> Iterator[Floats]:
    """One value for each channel of full blocks, [C, 1, 1]; single values if all parameters are single values."""
    size = max(value.size for value in parameters)
    full = 1 if size == 1 else size + -size % block
    for value, neutral in zip(parameters, NEUTRAL, strict=True):
        spread = np.full(full, neutral, np.float32)
        spread[:size] = value
        yield spread.reshape(-1, 1, 1)


def _block_channels(graph: onnx.GraphProto) -> dict[str, int]:
    """Tensors in blocks of an optimised graph → their number of channels, in full blocks; 0 if unknown."""
    filters = {value.name: value.dims[0] for value in graph.initializer if len(value.dims) == 4}
    found: dict[str, int] = {}
    for node in graph.node:
        if node.domain == NCHWC and node.op_type == "ReorderOutput":
            continue
        if node.domain == NCHWC and node.op_type == "Conv":
            found[node.output[0]] = filters.get(node.input[1], 0)
        elif (inside := [found[name] for name in node.input if name in found]) or node.domain == NCHWC:
            found[node.output[0]] = inside[0] if inside and node.op_type != "Concat" else 0
    return found


class _Nodes:
    """Which tensors of a model come from convolutions and from neurons, and which neurons may work in blocks."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {value.name: value for value in graph.initializer}
        self.convolved: set[str] = set()  # from convolutions, the channels still along axis 1
        self._neural: set[str] = set()  # from neurons, and no convolution behind them
        for node in graph.node:
            self._forward(node)
        # Tensors that are read only by operators with the same numbers in either layout.
        self._kept = {name for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in reversed(graph.node):
            if not self._allows(node):
                self._kept -= {*node.input}
            for name in {*node.input}:
                self._readers.setdefault(name, []).append(node)

    def fits(self, node: onnx.NodeProto) -> bool:
        """Whether a neuron may work in blocks, and something reads it there."""
        return (
            _is(node, FOLDED_NEURON, SPIKING_DOMAIN)
            and node.input[0] in self.convolved
            and len(self.others(node)) < len(self._readers.get(node.output[0], ()))
            and all(self._is_parameter(name) for name in node.input[1:])
        )

    def others(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Readers of a neuron that have to read it in the layout of the model."""
        return [reader for reader in self._readers.get(node.output[0], ()) if not self._allows(reader)]

    def _forward(self, node: onnx.NodeProto) -> None:
        currents = [name for name in node.input if name and name not in self.constants]
        if _is(node, "Conv"):
            filters = self.constants.get(node.input[1])
            from_convolutions = (
                filters is not None and filters.data_type == TensorProto.FLOAT and len(filters.dims) == 4
            )
        elif _is(node, FOLDED_NEURON, SPIKING_DOMAIN):
            from_convolutions = node.input[0] in self.convolved
        elif node.op_type in POOLS and not node.domain:
            from_convolutions = {*currents} <= self.convolved - self._neural
        else:
            moved = not self._is_of(WAY_IN, node) or (node.op_type == "Concat" and _axis(node) != 1)
            from_convolutions = not moved and bool(currents) and {*currents} <= self.convolved
        if from_convolutions:
            self.convolved |= {*node.output}
        if node.op_type == FOLDED_NEURON or (node.op_type != "Conv" and {*currents} & self._neural):
            self._neural |= {*node.output}

    def _allows(self, node: onnx.NodeProto) -> bool:
        if _is(node, "Conv"):
            return node.input[0] not in node.input[1:]
        if _is(node, FOLDED_NEURON, SPIKING_DOMAIN):
            return True
        return self._is_of(WAY_OUT, node) and {*node.output} <= self._kept

    def _is_of(self, ops: frozenset[str], node: onnx.NodeProto) -> bool:
        """Whether a node is one of these operators; Resize only where it copies numbers."""
        modes = [each.s for each in node.attribute if each.name == "mode"]
        copies = node.op_type != "Resize" or modes in ([], [b"nearest"])
        return node.op_type in ops and not node.domain and copies

    def _is_parameter(self, name: str) -> bool:
        """Whether it is one float32 value, or one for each channel along axis 1 of four."""
        value = self.constants.get(name)
        if value is None or value.data_type != TensorProto.FLOAT or len(value.dims) > 4:
            return False
        channels = value.dims[-3] if len(value.dims) >= 3 else 1
        return bool(np.prod(value.dims, initial=1) == channels > 0)


def _is(node: onnx.NodeProto, op: str, domain: str = "") -> bool:
    return bool(node.op_type == op and node.domain == domain)


def _is_fence(node: onnx.NodeProto) -> bool:
    return node.op_type == FENCE and node.name.startswith(FENCE_PREFIX)


def _rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for k, name in enumerate(node.input):
        if name in names:
            node.input[k] = names[name]


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
