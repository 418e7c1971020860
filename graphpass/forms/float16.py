"""A network in float16: weights and all tensors between its inputs and outputs, which keep their types.

    input (float32) → Cast → … float16 … → Cast → output (float32)

Neurons take x and give y in float16; parameters and arithmetic inside them stay float32 (docs/operators).
What cannot be float16 stays float32 between two Casts, and is listed with the reason:

    operators that ONNX has in float32 alone, and those whose types are not known
    nodes with a constant that float16 cannot hold (graph.half)
    nodes that read or make values near 65504 and beyond, where these were measured
    floats that are computed from sizes: numbers above 2048 would be rounded

Every float32 tensor of the network is then there in float16, in float32, or in both; a Cast makes the second where
something reads it. Bodies of If, Loop and Scan are rewritten like the network around them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from graphpass.graph.domains import SPIKING_DOMAIN, STANDARD_DOMAINS, opset_of
from graphpass.graph.half import CUT, LARGEST, MASK, Slots, half_constant, slots_of, type_variable
from graphpass.graph.layers import MOVES
from graphpass.graph.names import Names
from graphpass.graph.plan import Left
from graphpass.graph.tensors import bodies_of, graphs_of

P = TypeVar("P", NodeProto, TensorProto, ValueInfoProto)

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
SIZES = frozenset(["Shape", "Size"])
FILLS = frozenset(["ConstantOfShape", "Expand"])  # make tensors of any size from sizes
FEW = 16  # values of a constant beside sizes; a larger one is data
ZERO = numpy_helper.from_array(np.zeros(1, np.float32))  # what ConstantOfShape fills in if nothing is said


@dataclass(frozen=True)
class Halved:
    """A model in float16. kept: nodes that stay float32 and constants that were changed, in the network's order.

    tensors: those of the float32 network that are there in float16, without masks and those inside bodies.
    """

    proto: onnx.ModelProto
    kept: tuple[Left, ...]
    tensors: tuple[str, ...]


def to_float16(proto: onnx.ModelProto, beyond: Mapping[str, float] | None = None) -> Halved:
    """A copy of the model in float16. Tensors of other types than float32 stay as they are.

    beyond: tensors that float16 cannot hold, with the largest value of each; what reads or makes them stays float32.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    work = _Halving(made, beyond or {})
    halves = work.graph(made.graph, None)
    return Halved(made, tuple(work.kept.values()), tuple(name for name in halves if name not in work.masks))


@dataclass
class _Scope:
    """What a graph knows of tensors, by their names in the float32 network; the graph around it knows more.

    types: ONNX's numbers. half, full: names in float16 and in float32. constants: float32 values. stored: all names of
    constants. sized: names of what is computed from sizes alone. nodes, added: new nodes and initialisers.
    """

    outer: "_Scope | None"
    types: dict[str, int] = field(default_factory=dict)
    half: dict[str, str] = field(default_factory=dict)
    full: dict[str, str] = field(default_factory=dict)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    sized: set[str] = field(default_factory=set)
    nodes: list[NodeProto] = field(default_factory=list)
    added: dict[tuple[str, str], TensorProto] = field(default_factory=dict)

    def chain(self) -> Iterator["_Scope"]:
        """The graph, and those around it."""
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer

    def is_float(self, name: str) -> bool:
        return next((each.types[name] for each in self.chain() if name in each.types), None) == FLOAT

    def constant(self, name: str) -> "tuple[_Scope, TensorProto] | None":
        return next(((each, each.constants[name]) for each in self.chain() if name in each.constants), None)

    def version(self, name: str, half: bool) -> str | None:
        """The name that a tensor has in float16 or float32, if it is there."""
        tables = (each.half if half else each.full for each in self.chain())
        return next((table[name] for table in tables if name in table), None)


class _Halving:
    """masks: tensors with values that stand for ±∞: a constant beyond float16 was cut, and what was made of it."""

    def __init__(self, proto: onnx.ModelProto, beyond: Mapping[str, float]):
        self._beyond, self.masks = beyond, set[str]()
        self._opset, self._outputs = opset_of(proto), {value.name for value in proto.graph.output}
        graphs = graphs_of(proto.graph)
        named = [each.name for graph in graphs for each in (*graph.input, *graph.initializer)]
        made = [name for graph in graphs for node in graph.node for name in (node.name, *node.output)]
        self._names = Names({*named, *made})
        self.kept: dict[tuple[str, str], Left] = {}

    def graph(self, proto: GraphProto, outer: _Scope | None) -> Iterable[str]:
        """Rewrite a graph in place; returns the tensors that are there in float16, by their names in float32.

        outer: the graph around a body; None for the network.
        """
        scope = _Scope(outer)
        stated = [value for value in (*proto.value_info, *proto.output, *proto.input) if _is_tensor(value)]
        scope.types = {value.name: value.type.tensor_type.elem_type for value in stated}
        for tensor in proto.initializer:
            scope.types[tensor.name] = tensor.data_type
            scope.stored.add(tensor.name)
            if tensor.data_type == FLOAT:
                scope.constants[tensor.name] = tensor
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            scope.types[name], scope.full[name] = sparse.values.data_type, name
        for value in proto.input:
            if scope.is_float(value.name) and value.name not in scope.constants:
                (scope.full if outer is None else scope.half)[value.name] = value.name
        nodes = list(proto.node)
        for node in nodes:
            self._node(_copy(node), scope)
        self._finish(proto, scope)
        return scope.half

    def _finish(self, proto: GraphProto, scope: _Scope) -> None:
        """Nodes, outputs, initialisers and stated types of a graph."""
        for value in proto.output:
            if not scope.is_float(value.name):
                continue
            if scope.outer is not None:
                value.name = self._read(value.name, scope, half=True)
            elif value.name in scope.constants or scope.full.get(value.name) == value.name:
                self._read(value.name, scope, half=False)
            else:
                self._cast(scope.half[value.name], value.name, FLOAT, scope)
        known = {value.name: value for value in (*proto.value_info, *proto.output, *proto.input)}
        ends = {value.name for value in (*proto.output, *proto.input)}
        others = [_copy(value) for value in proto.value_info if value.type.tensor_type.elem_type != FLOAT]
        versions = [
            _typed(known.get(name), made, kind)
            for kind, table in ((HALF, scope.half), (FLOAT, scope.full))
            for name, made in table.items()
            if made not in ends
        ]
        if scope.outer is not None:
            for value in (*proto.output, *proto.input):
                if value.type.tensor_type.elem_type == FLOAT:
                    value.type.tensor_type.elem_type = HALF
        stored = [_copy(tensor) for tensor in proto.initializer if tensor.data_type != FLOAT]
        for place, new in (
            (proto.node, scope.nodes),
            (proto.initializer, [*stored, *scope.added.values()]),
            (proto.value_info, [*others, *versions]),
        ):
            del place[:]
            place.extend(new)

    # ---- nodes

    def _node(self, node: NodeProto, scope: _Scope) -> None:
        if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS and _take_constant(node, scope):
            return
        bodies = bodies_of([node])
        for body in bodies:
            self.graph(body, scope)
        self._infer(node, scope, bodies)
        floats, made = ([scope.is_float(name) for name in names] for names in (node.input, node.output))
        sizes = _computes_sizes(node, scope) and node.op_type not in SIZES
        if any(floats) or any(made):
            self._convert(node, scope, floats, made, sizes)
        scope.nodes.append(node)

    def _convert(self, node: NodeProto, scope: _Scope, floats: list[bool], made: list[bool], sizes: bool) -> None:
        """Let the float32 inputs and outputs of a node be float16 where they may."""
        slots = _nothing(node, "it computes with sizes") if sizes else self._slots(node)
        sizes_beyond = [self._beyond[name] for name in (*node.input, *node.output) if name in self._beyond]
        if sizes_beyond:
            slots = _nothing(node, f"its values reach {max(sizes_beyond):.3g}, and float16 ends at {LARGEST:g}")
        slots = self._with_constants(node, slots, floats, scope)
        either = not any(made) and sum(floats) == 1  # as in Shape, or a Cast to integers
        for k, name in enumerate(node.input):
            if floats[k]:
                half = slots.inputs[k] and not (either and scope.version(name, half=False))
                node.input[k] = self._read(name, scope, half, node.op_type, k)
        for k, name in enumerate(node.output):
            if made[k] and not slots.outputs[k]:
                scope.full[name] = name
            elif made[k] and scope.outer is None and name in self._outputs:  # which stays float32
                scope.half[name] = node.output[k] = self._names.fresh(f"{name}/float16")
            elif made[k]:
                scope.half[name] = name
        full = [
            k for k, each in enumerate(floats) if each and not slots.inputs[k] and not scope.constant(node.input[k])
        ]
        if slots.reason and (full or any(each and not slots.outputs[k] for k, each in enumerate(made))):
            self._keep(node, slots.reason)
        if node.op_type == "Cast" and made[0] and slots.outputs[0]:
            _set(node, helper.make_attribute("to", HALF))

    def _slots(self, node: NodeProto) -> Slots:
        if node.domain == SPIKING_DOMAIN:
            return Slots((True, *[False] * (len(node.input) - 1)), (True,) * len(node.output))
        return slots_of(node, self._opset)

    def _with_constants(self, node: NodeProto, slots: Slots, floats: list[bool], scope: _Scope) -> Slots:
        """The same slots; none of float16 where float16 cannot hold a constant of the node."""
        values: list[tuple[int, TensorProto]] = []
        for k, name in enumerate(node.input):
            if floats[k] and slots.inputs[k] and (known := scope.constant(name)):
                values.append((k, known[1]))
        fills = node.op_type == "ConstantOfShape" and slots.outputs[0]
        if fills:
            values.append((1, next((each.t for each in node.attribute), ZERO)))
        notes = []
        for k, tensor in values:
            found = half_constant(numpy_helper.to_array(tensor), node.op_type, k)
            if found.values is None:
                return _nothing(node, found.note)
            notes += [found.note] if found.note else []
            if fills:
                _set(node, helper.make_attribute("value", numpy_helper.from_array(found.values)))
        for note in notes:
            self._keep(node, f"its constant {note}")
        if any(MASK in note for note in notes) or (node.op_type in CUT | MOVES and self.masks.intersection(node.input)):
            self.masks.update(node.output)
        return slots

    def _keep(self, node: NodeProto, reason: str) -> None:
        self.kept.setdefault((node.name, reason), Left(node.name, node.op_type, reason, expected=True))

    def _infer(self, node: NodeProto, scope: _Scope, bodies: Sequence[GraphProto]) -> None:
        """Types of outputs that the model does not state, by the node's bodies or inputs."""
        inputs = [type_variable(node, self._opset, k, output=False) for k in range(len(node.input))]
        for k, name in enumerate(node.output):
            kind = type_variable(node, self._opset, k, output=True)
            if not name or name in scope.types:
                continue
            if bodies:
                ends = bodies[0].output[1:] if node.op_type == "Loop" else bodies[0].output
                is_float = k < len(ends) and ends[k].type.tensor_type.elem_type == HALF
            elif node.op_type in ("Cast", "ConstantOfShape"):
                told = next(iter(node.attribute), None)
                is_float = told is None or (told.i if node.op_type == "Cast" else told.t.data_type) == FLOAT
            elif node.domain == SPIKING_DOMAIN or kind is None or kind in inputs:
                place = inputs.index(kind) if kind in inputs and node.domain != SPIKING_DOMAIN else 0
                is_float = bool(node.input) and scope.is_float(node.input[place])
            else:
                is_float = kind == "tensor(float)"
            if is_float:
                scope.types[name] = FLOAT

    # ---- tensors

    def _read(self, name: str, scope: _Scope, half: bool, op: str = "", number: int = 0) -> str:
        """The name of a float32 tensor in float16 or in float32, made where it is not there yet.

        op, number: the operator that reads it, as which input.
        """
        if known := scope.constant(name):
            home, tensor = known
            return self._stored(home, tensor, name, half, op, number)
        if found := scope.version(name, half):
            return found
        source = scope.version(name, not half)
        assert source is not None  # nodes are sorted
        end = not half and scope.outer is None and name in self._outputs
        made = name if end else self._names.fresh(f"{name}/{'float16' if half else 'float32'}")
        self._cast(source, made, HALF if half else FLOAT, scope)
        (scope.half if half else scope.full)[name] = made
        return made

    def _stored(self, home: _Scope, tensor: TensorProto, name: str, half: bool, op: str, number: int) -> str:
        """A constant as an initialiser of the graph that has it."""
        values = numpy_helper.to_array(tensor)
        found = half_constant(values, op, number) if half else None
        key = (name, "float32" if found is None else found.note or "float16")
        if key not in home.added:
            made = _copy(tensor)
            if found is not None:
                assert found.values is not None  # `_with_constants` has seen to that
                made = numpy_helper.from_array(found.values)
            made.name = name if found is None else self._names.fresh(f"{name}/float16")
            home.added[key] = made
        return home.added[key].name

    def _cast(self, source: str, target: str, kind: int, scope: _Scope) -> None:
        scope.nodes.append(helper.make_node("Cast", [source], [target], self._names.fresh(f"{target}/cast"), to=kind))


def _nothing(node: NodeProto, reason: str) -> Slots:
    return Slots((False,) * len(node.input), (False,) * len(node.output), reason)


def _take_constant(node: NodeProto, scope: _Scope) -> bool:
    """Note a Constant node; whether it is one of float32, which becomes an initialiser."""
    scope.stored.add(node.output[0])
    attribute = node.attribute[0]
    if attribute.name == "value" and attribute.t.data_type == FLOAT:
        tensor = _copy(attribute.t)
    elif attribute.name in ("value_float", "value_floats"):
        numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        tensor = numpy_helper.from_array(np.asarray(numbers, np.float32))
    else:
        return False
    tensor.name = node.output[0]
    scope.types[tensor.name], scope.constants[tensor.name] = FLOAT, tensor
    return True


def _computes_sizes(node: NodeProto, scope: _Scope) -> bool:
    """Whether a node computes from sizes alone; what it makes is known as such from then on."""
    inner = [name for name in node.input if name]
    computed: list[str] = [name for name in inner if not any(name in each.stored for each in scope.chain())]
    constants = [known[1] for name in inner if (known := scope.constant(name))]
    large = any(math.prod(each.dims) > FEW for each in constants)
    alone = bool(computed) and not large and all(_is_sized(name, scope) for name in computed)
    if node.op_type in FILLS or node.domain == SPIKING_DOMAIN or not (alone or node.op_type in SIZES):
        return False
    scope.sized |= set(node.output)
    return True


def _is_sized(name: str, scope: _Scope) -> bool:
    return any(name in each.sized for each in scope.chain())


def _is_tensor(value: ValueInfoProto) -> bool:
    return bool(value.type.HasField("tensor_type"))


def _typed(stated: ValueInfoProto | None, name: str, kind: int) -> ValueInfoProto:
    """What is stated of a tensor, for its version of this name and type."""
    if stated is None:
        return helper.make_tensor_value_info(name, kind, None)
    made = _copy(stated)
    made.name, made.type.tensor_type.elem_type = name, kind
    return made


def _set(node: NodeProto, attribute: AttributeProto) -> None:
    others = [each for each in node.attribute if each.name != attribute.name]
    del node.attribute[:]
    node.attribute.extend([*others, attribute])


def _copy(proto: P) -> P:
    made = type(proto)()
    made.CopyFrom(proto)
    return made
