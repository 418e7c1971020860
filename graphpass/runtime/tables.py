"""Tables in place of chains of nodes: what makes a uint8 of a uint8, value by value, has 256 answers a channel.

    codes → Cast, Mul, Sigmoid, …, QuantizeLinear → counts        is        LookUp(codes, table[C, 256]) → counts

The integer form computes curved activations in floats between two uint8 tensors. A session with the native operators on
the CPU asks onnxruntime for its optimised model, runs every such chain once on all 256 codes, and puts a LookUp in its
place. Where convolutions of one tap follow, which count what f gives channel by channel or rescale these counts, the
table does that, too.
The channel axis is counted from the end, by what the answers vary along; it is the last one where onnxruntime has moved
channels last.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from graphpass.forms.operators import LOOK_UP
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.tensors import bodies_of

MICROSOFT = "com.microsoft"
CODES = 256
UNARY = frozenset(
    "Abs Cast Ceil Celu Clip Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish Neg "
    "Reciprocal Relu Round Selu Shrink Sigmoid Sign Softplus Softsign Sqrt Swish Tanh ThresholdedRelu "
    "FastGelu QuickGelu".split()
)
BINARY = frozenset("Add Div Max Min Mul PRelu Pow Sub".split())
SCALED = frozenset({"QuantizeLinear", "DequantizeLinear"})

Codes = NDArray[np.uint8]


class NoTables(Exception):  # noqa: N818 - a reason, caught by the session, which then runs the model as it is
    """Why a model has no chains that tables could replace."""


@dataclass(frozen=True)
class Chain:
    """Nodes from the uint8 tensor `source` to the uint8 tensor `output`; codes: 0 … 255 along the first axis."""

    source: str
    output: str
    nodes: tuple[onnx.NodeProto, ...]
    codes: Codes


def has_chains(proto: onnx.ModelProto) -> bool:
    """Whether chains_of finds some, before onnxruntime optimises the model, which costs as much as opening it."""
    try:
        return bool(chains_of(proto))
    except NoTables:
        return False


def chains_of(proto: onnx.ModelProto) -> tuple[Chain, ...]:
    """The chains of a model, as it is in a file or as onnxruntime has optimised it.

    Raises NoTables where there is none.
    """
    graph = proto.graph
    if bodies_of(graph.node):
        raise NoTables("the model has subgraphs")
    search = _Search(graph)
    found = tuple(chain for node in graph.node if (chain := search.ending_in(node)) is not None)
    if not found:
        raise NoTables("no chain of nodes makes uint8 of uint8")
    return found


class _Search:
    """What makes and reads every tensor of a graph."""

    def __init__(self, graph: onnx.GraphProto):
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._outputs = {value.name for value in graph.output}
        self._readers.update(self._outputs)

    def ending_in(self, node: onnx.NodeProto) -> Chain | None:
        """The chain whose last node this is."""
        if node.op_type != "QuantizeLinear" or not self._is_uint8(node) or not self._alone(node):
            return None
        followers = self._followers(node)
        nodes = [*reversed(followers), node]
        axes, output, pending = 0, nodes[0].output[0], [node.input[0]]
        seen, sources = {node.output[0]}, set[str]()
        while pending:
            tensor = pending.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            maker = self._makers.get(tensor)
            if maker is None or not self._alone(maker):
                return None
            nodes.append(maker)
            inner = [name for name in maker.input if name and name not in self._constants]
            axes = max([axes, *(len(self._constants[name].dims) for name in maker.input if name in self._constants)])
            if self._begins(maker):
                sources.update(inner)
            else:
                pending += inner
        if len(sources) != 1 or not self._kept_inside(nodes, output):
            return None
        shape = [CODES, *[1] * axes]
        for counting in (each for each in followers if each.op_type == "QLinearConv"):
            weight = self._constants[counting.input[3]].dims
            shape = [CODES, *[1] * (len(weight) - 1)]
            shape[-1 if _channels_last(counting) else 1] = weight[0]
        return Chain(sources.pop(), output, tuple(reversed(nodes)), _codes(shape))

    def _alone(self, node: onnx.NodeProto) -> bool:
        """Whether a node works value by value, or channel by channel with constants that broadcast."""
        constants = [name in self._constants for name in node.input if name]
        if node.domain not in ("", MICROSOFT):
            return False
        if node.op_type in SCALED:
            return all(constants[1:]) and all(not self._constants[name].dims for name in node.input[1:] if name)
        if node.op_type in UNARY:
            return not constants[0] and all(constants[1:])
        return node.op_type in BINARY and not node.domain

    def _begins(self, node: onnx.NodeProto) -> bool:
        """Whether a node makes floats of uint8: a DequantizeLinear of it, or a Cast of what a QuantizeLinear made."""
        if node.op_type == "DequantizeLinear":
            zero = self._constants.get(node.input[2]) if len(node.input) > 2 else None
            return zero is not None and zero.data_type == onnx.TensorProto.UINT8
        maker = self._makers.get(node.input[0])
        return node.op_type == "Cast" and maker is not None and self._is_uint8(maker)

    def _is_uint8(self, node: onnx.NodeProto) -> bool:
        """Whether a node is known to make uint8: by its last zero point, or through a Clip or move of such."""
        place = {"QuantizeLinear": 2, "QLinearConv": 7, "QLinearAdd": 7, "QGemm": 8}.get(node.op_type)
        if place is not None:
            zero = self._constants.get(node.input[place]) if len(node.input) > place else None
            return zero is not None and zero.data_type == onnx.TensorProto.UINT8
        maker = self._makers.get(node.input[0]) if node.input else None
        moves = node.op_type in ("Clip", "Transpose", "MaxPool", "Reshape") and not node.domain
        return moves and maker is not None and self._is_uint8(maker)

    def _followers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The Clips and the layers of one tap behind a node, in order, each the only reader of the one before."""
        found: list[onnx.NodeProto] = []
        while (after := self._clipping(node) or self._counting(node)) is not None:
            found.append(after)
            node = after
        return found

    def _clipping(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Clip that alone reads what a node makes."""
        clip = self._reader(node, "Clip")
        return clip if clip is not None and self._alone(clip) else None

    def _counting(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The QLinearConv of one tap that alone reads what a node makes, if each channel reads itself."""
        layer = self._reader(node, "QLinearConv")
        if layer is None or any(name not in self._constants for name in layer.input[1:] if name):
            return None
        given = {each.name: helper.get_attribute_value(each) for each in layer.attribute}
        outputs, inputs, *taps = self._constants[layer.input[3]].dims
        if any(given.get("pads", ())) or any(each != 1 for each in (*taps, *given.get("strides", ()))):
            return None
        own = given.get("group", 1) == outputs if inputs == 1 else self._is_diagonal(layer)
        return layer if own else None

    def _is_diagonal(self, layer: onnx.NodeProto) -> bool:
        stored, zeros = (self._constants[layer.input[place]] for place in (3, 5))
        if stored.data_location == onnx.TensorProto.EXTERNAL or stored.dims[0] != stored.dims[1]:
            return False  # a diagonal is small
        weight = numpy_helper.to_array(stored).reshape(stored.dims[:2])
        return not numpy_helper.to_array(zeros).any() and not (weight - np.diag(np.diag(weight))).any()

    def _reader(self, node: onnx.NodeProto, op: str) -> onnx.NodeProto | None:
        """The node of this kind that alone reads what a node makes."""
        name = node.output[0]
        readers = [each for each in self._makers.values() if name in each.input]
        alone = self._readers[name] == 1 and len(readers) == 1 and readers[0].op_type == op
        return readers[0] if alone and readers[0].input[0] == name else None

    def _kept_inside(self, nodes: Sequence[onnx.NodeProto], output: str) -> bool:
        """Whether nothing else reads what is between the ends."""
        inside = Counter(name for node in nodes for name in node.input)
        return all(self._readers[name] == inside[name] for node in nodes for name in node.output if name != output)


def _channels_last(layer: onnx.NodeProto) -> bool:
    return any(each.name == "channels_last" and each.i for each in layer.attribute)


def _codes(shape: Sequence[int]) -> Codes:
    """0 … 255 along the first axis."""
    column = np.arange(CODES, dtype=np.uint8).reshape(-1, *(1,) * (len(shape) - 1))
    return np.ascontiguousarray(np.broadcast_to(column, shape))


def questions(proto: onnx.ModelProto, chains: Sequence[Chain]) -> onnx.ModelProto:
    """A model without inputs whose outputs are what the chains make of all codes, by the chains' outputs."""
    nodes, needed, constants = [], set[str](), []
    for number, chain in enumerate(chains):
        codes = f"graphpass_codes_{number}"
        constants.append(numpy_helper.from_array(chain.codes, codes))
        for node in chain.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [codes if name == chain.source else name for name in node.input]
            nodes.append(copy)
            needed.update(node.input)
    constants += [tensor for tensor in proto.graph.initializer if tensor.name in needed]
    outputs = [onnx.ValueInfoProto(name=chain.output) for chain in chains]
    graph = helper.make_graph(nodes, "tables", [], outputs, constants)
    return helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)


def with_tables(
    proto: onnx.ModelProto, chains: Sequence[Chain], answers: Mapping[str, NDArray[Any]]
) -> tuple[onnx.ModelProto, int]:
    """The model with a LookUp for each chain whose answers vary along one axis at most, and how many these are.

    Raises NoTables where there is none.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    replaced: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for chain in chains:
        answer = answers[chain.output]
        channels = [axis for axis, size in enumerate(answer.shape) if axis and size > 1]
        if answer.dtype != np.uint8 or answer.shape[0] != CODES or len(channels) > 1:
            continue
        after = answer.ndim - 1 - channels[0] if channels else 0
        table = np.ascontiguousarray(answer.reshape(CODES, -1).T)
        name = f"{chain.output}/table"
        made.graph.initializer.append(numpy_helper.from_array(table, name))
        replaced[chain.output] = helper.make_node(
            LOOK_UP, [chain.source, name], [chain.output], chain.nodes[-1].name, domain=SPIKING_DOMAIN, after=after
        )
        gone.update(node.output[0] for node in chain.nodes)
    if not replaced:
        raise NoTables("the chains vary along more than one axis")
    nodes = [replaced.get(node.output[0], node) for node in made.graph.node]
    kept = [node for node in nodes if node.output[0] not in gone or node.output[0] in replaced]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del made.graph.node[:]
    made.graph.node.extend(copies)
    if all(entry.domain != SPIKING_DOMAIN for entry in made.opset_import):
        made.opset_import.append(helper.make_opsetid(SPIKING_DOMAIN, 1))
    return made, len(replaced)
