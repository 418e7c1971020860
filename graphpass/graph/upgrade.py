"""Operators of older opsets in the spelling of opset 21: one rule each where their meaning or their inputs changed.

Every operator that is not in UPGRADES reads the same from opset 7 to 21 and later: its versions only took more types,
ranks or attributes. tests/graph/test_upgrade.py runs each operator in each version beside its upgrade.
A rule works on one node and gives the nodes that take its place, in order; constants are nodes, too, so that rules
work in subgraphs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper, numpy_helper

from graphpass.errors import UnsupportedModelError
from graphpass.graph.domains import opset_of
from graphpass.graph.names import Names
from graphpass.graph.refusals import where
from graphpass.graph.tensors import graphs_of, nodes_of_function

TARGET_OPSET = 21
OLDEST_OPSET = 7  # onnxruntime has operators of older ones where opset 7 still has them


@dataclass(frozen=True)
class Facts:
    """What is known of the tensors of a model, by name: ONNX types, numbers of axes, and which are read."""

    types: Mapping[str, int]
    ranks: Mapping[str, int]
    read: frozenset[str]


@dataclass
class NodeWriter:
    """Writes the nodes that take the place of one. version: of its operator, as the file's opset has it."""

    path: Path
    node: NodeProto
    version: int
    names: Names
    facts: Facts
    made: list[NodeProto] = field(default_factory=list)

    def add(self, op: str, inputs: Iterable[str], *outputs: str, **attributes: Any) -> str:
        """A node; its outputs get a name if none is given. Returns the first."""
        names = outputs or (self.tensor(op.lower()),)
        self.made.append(helper.make_node(op, list(inputs), list(names), self.name(op), **attributes))
        return names[0]

    def keep(
        self, op: str = "", inputs: Iterable[str] | None = None, outputs: Iterable[str] | None = None
    ) -> NodeProto:
        """The node itself with another operator, inputs or outputs; its name and attributes stay."""
        kept = NodeProto()
        kept.CopyFrom(self.node)
        kept.op_type = op or kept.op_type
        for old, new in ((kept.input, inputs), (kept.output, outputs)):
            if new is not None:
                del old[:]
                old.extend(new)
        self.made.append(kept)
        return kept

    def constant(self, what: str, values: ArrayLike, kind: int = TensorProto.INT64) -> str:
        """A constant of an ONNX type."""
        array = np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(kind))
        return self.add("Constant", [], self.tensor(what), value=numpy_helper.from_array(array))

    def constant_like(self, what: str, value: float, x: str) -> str:
        """A scalar of the type of x."""
        kind = self.facts.types.get(x)
        if kind:
            return self.constant(what, value, kind)
        return self.add("CastLike", [self.constant(what, value, TensorProto.FLOAT), x])

    def tensor(self, what: str) -> str:
        return self.names.fresh(f"{self.node.output[0]}/{what}")

    def name(self, what: str) -> str:
        return self.names.fresh(f"{self.node.name or self.node.output[0]}/{what.lower()}")

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute of the node."""
        found = next((each for each in self.node.attribute if each.name == name), None)
        return default if found is None else helper.get_attribute_value(found)

    def refusal(self, why: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{where(self.path, self.node)} of opset {self.version} cannot be written in opset {TARGET_OPSET}: {why}",
            f"export the model with opset {TARGET_OPSET}",
        )


UpgradeRule = Callable[[NodeWriter], None]


def drop(node: NodeProto, *names: str) -> None:
    """Remove attributes of a node."""
    for attribute in [each for each in node.attribute if each.name in names]:
        node.attribute.remove(attribute)


def attributes_to_inputs(*names: str) -> UpgradeRule:
    """f(x; a) → f(x, a): integers that were attributes are inputs; where one is missing, so is the input."""

    def rule(to: NodeWriter) -> None:
        values = [to.attribute(name) for name in names]
        inputs = ["" if value is None else to.constant(name, value) for name, value in zip(names, values, strict=True)]
        while inputs and not inputs[-1]:
            inputs.pop()
        drop(to.keep(inputs=[to.node.input[0], *inputs]), *names)

    return rule


def reduction(to: NodeWriter) -> None:
    """Reduce(x; axes) → Reduce(x, axes). No axes are all axes, before and after."""
    attributes_to_inputs("axes")(to)


def clip(to: NodeWriter) -> None:
    """Clip(x; min, max) → Clip(x, min, max), of the type of x."""
    x = to.node.input[0]
    bounds = [(name, to.attribute(name)) for name in ("min", "max")]
    inputs = ["" if value is None else to.constant_like(name, value, x) for name, value in bounds]
    drop(to.keep(inputs=[x, *inputs]), "min", "max")


def pad(to: NodeWriter) -> None:
    """Pad(x; pads, value) → Pad(x, pads, value)."""
    x, value = to.node.input[0], to.attribute("value", 0.0)
    inputs = [x, to.constant("pads", to.attribute("pads")), *([to.constant_like("value", value, x)] if value else [])]
    drop(to.keep(inputs=inputs), "pads", "value")


def top_k(to: NodeWriter) -> None:
    """TopK(x; k) → TopK(x, [k])."""
    drop(to.keep(inputs=[to.node.input[0], to.constant("k", [to.attribute("k")])]), "k")


def split(to: NodeWriter) -> None:
    """Split(x; split) → Split(x, split), or with as many parts as outputs where no sizes are given."""
    if to.version >= 13:
        sizes = list(to.node.input[1:2])
    else:
        given = to.attribute("split")
        sizes = [] if given is None else [to.constant("split", given)]
    kept = to.keep(inputs=[to.node.input[0], *sizes])
    drop(kept, "split")
    if not any(sizes):
        del kept.input[1:]
        kept.attribute.append(helper.make_attribute("num_outputs", len(kept.output)))


def rows(to: NodeWriter) -> None:
    """softmax over all axes from `axis` on → Reshape(softmax(Flatten(x)), Shape(x)); itself on the last axis."""
    x, axis = to.node.input[0], to.attribute("axis", 1)
    rank = to.facts.ranks.get(x)
    if rank and axis % rank == rank - 1:
        kept = to.keep()
        drop(kept, "axis")
        kept.attribute.append(helper.make_attribute("axis", -1))
        return
    flat = to.add("Flatten", [x], axis=axis)
    inner = to.tensor("rows")
    kept = to.keep(inputs=[flat], outputs=[inner])
    drop(kept, "axis")
    kept.attribute.append(helper.make_attribute("axis", -1))
    to.add("Reshape", [inner, to.add("Shape", [x])], to.node.output[0])


def dropout(to: NodeWriter) -> None:
    """Dropout at inference is x; its mask was false, or 0, everywhere, and is true from opset 12 on."""
    x, (y, *mask) = to.node.input[0], to.node.output
    drop(to.keep(inputs=[x], outputs=[y]), "ratio", "is_test")
    if any(mask):
        kind = TensorProto.BOOL if to.version >= 10 else to.facts.types.get(x, TensorProto.FLOAT)
        zero = helper.make_tensor("value", kind, [1], [0])
        to.add("ConstantOfShape", [to.add("Shape", [x])], mask[0], value=zero)


def batch_norm(to: NodeWriter) -> None:
    """Further outputs say that it is in training mode. spatial = 0: (x − μ)/√(σ² + ε)·γ + β for every position."""
    if any(to.node.output[1:]):
        if not to.facts.read.isdisjoint(to.node.output[3:]):
            raise to.refusal("it gives the statistics of the batch")
        kept = to.keep(outputs=to.node.output[:3])
        drop(kept, "spatial")
        kept.attribute.append(helper.make_attribute("training_mode", 1))
        return
    if to.attribute("spatial", 1):
        drop(to.keep(outputs=to.node.output[:1]), "spatial", "momentum", "is_test")
        return
    x, scale, bias, mean, variance = to.node.input
    epsilon = to.constant_like("epsilon", to.attribute("epsilon", 1e-5), x)
    deviation = to.add("Sqrt", [to.add("Add", [variance, epsilon])])
    scaled = to.add("Mul", [to.add("Div", [to.add("Sub", [x, mean]), deviation]), scale])
    last = to.keep("Add", [scaled, bias], to.node.output[:1])
    del last.attribute[:]


def group_norm(to: NodeWriter) -> None:
    """Before opset 21 scale and bias are a group's: InstanceNormalization of the groups, reshaped."""
    x, scale, bias = to.node.input
    flat = to.add("Reshape", [x, to.constant("groups", [0, to.attribute("num_groups"), -1])])
    inner = to.tensor("normalised")
    drop(to.keep("InstanceNormalization", [flat, scale, bias], [inner]), "num_groups")
    to.add("Reshape", [inner, to.add("Shape", [x])], to.node.output[0])


def resize(to: NodeWriter) -> None:
    """Resize of opset 10 and Upsample: from where the output's corner is; nearest is rounded down where it grows, up
    where it shrinks.
    """
    x, mode = to.node.input[0], to.attribute("mode", b"nearest").decode()
    if to.node.op_type == "Resize" and to.version >= 11:  # with sizes, scales were an empty tensor
        x, roi, scales, *sizes = to.node.input
        to.keep(inputs=[x, roi, "" if any(sizes) else scales, *sizes])
        return
    if len(to.node.input) > 1:
        scales = to.node.input[1]
    else:
        scales = to.constant("scales", to.attribute("scales"), TensorProto.FLOAT)
    common = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest" and to.node.op_type == "Resize":
        one = to.constant("one", [1.0], TensorProto.FLOAT)
        x = to.add("Resize", [x, "", to.add("Max", [scales, one])], **common, nearest_mode="floor")
        scales, common["nearest_mode"] = to.add("Min", [scales, one]), "ceil"
    elif mode == "nearest":
        common["nearest_mode"] = "floor"
    kept = to.keep("Resize", [x, "", scales])
    del kept.attribute[:]
    kept.attribute.extend(helper.make_attribute(name, value) for name, value in common.items())


def roi_align(to: NodeWriter) -> None:
    """Opset 10 knows one mode, which is not the default of later ones."""
    to.keep().attribute.append(helper.make_attribute("coordinate_transformation_mode", "output_half_pixel"))


def grid_sample(to: NodeWriter) -> None:
    """bilinear and bicubic are called linear and cubic from opset 20 on."""
    kept = to.keep()
    for attribute in kept.attribute:
        if attribute.name == "mode":
            attribute.s = attribute.s.removeprefix(b"bi")


def dft(to: NodeWriter) -> None:
    """DFT(x, length; axis) → DFT(x, length, axis); the axis was 1 where none was given."""
    inputs = [*to.node.input, ""][:2]
    drop(to.keep(inputs=[*inputs, to.constant("axis", to.attribute("axis", 1))]), "axis")


def scatter(to: NodeWriter) -> None:
    """Scatter has been called ScatterElements since opset 11."""
    to.keep("ScatterElements")


def refused(why: str) -> UpgradeRule:
    def rule(to: NodeWriter) -> None:
        raise to.refusal(why)

    return rule


REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"
# operator → the version from which on it reads as in opset 21, and what is done with older ones
UPGRADES: dict[str, tuple[int, UpgradeRule]] = {
    "BatchNormalization": (14, batch_norm),
    "Clip": (11, clip),
    "DFT": (20, dft),
    "Dropout": (12, dropout),
    "GridSample": (20, grid_sample),
    "GroupNormalization": (21, group_norm),
    "Hardmax": (13, rows),
    "LogSoftmax": (13, rows),
    "MeanVarianceNormalization": (9, refused("its axes are those of an image")),
    "Pad": (11, pad),
    **dict.fromkeys(REDUCTIONS.split(), (18, reduction)),
    "ReduceSum": (13, reduction),
    "Resize": (13, resize),
    "RoiAlign": (16, roi_align),
    "Scan": (9, refused("it has an axis of samples")),
    "Scatter": (99, scatter),
    "Slice": (10, attributes_to_inputs("starts", "ends", "axes")),
    "Softmax": (13, rows),
    "Split": (18, split),
    "Squeeze": (13, attributes_to_inputs("axes")),
    "TopK": (10, top_k),
    "Unsqueeze": (13, attributes_to_inputs("axes")),
    "Upsample": (99, resize),
}


def upgrade(path: Path, proto: ModelProto) -> None:
    """Bring a model in the one spelling and without functions to opset 21, in place; a newer one stays as it is.

    Raises UnsupportedModelError naming the node that cannot be written in it.
    """
    opset = opset_of(proto)
    if opset >= TARGET_OPSET:
        return
    graphs = graphs_of(proto.graph)
    names, facts = names_of(graphs), facts_of(graphs)
    for graph in reversed(graphs):  # what is inside first: nodes are copied
        made = [new for node in graph.node for new in _upgraded(path, node, opset, names, facts)]
        del graph.node[:]
        graph.node.extend(made)
    others = [entry for entry in proto.opset_import if entry.domain]
    del proto.opset_import[:]
    proto.opset_import.extend([helper.make_opsetid("", TARGET_OPSET), *others])


def require_one_meaning(path: Path, proto: ModelProto) -> None:
    """Raises UnsupportedModelError for a node of a function that is written otherwise, or means something else, in the
    model's opset than in the function's. ONNX reads it in the function's opset, and onnxruntime in the model's.
    """
    opset = opset_of(proto)
    local = {(function.domain, function.name) for function in proto.functions}
    for function in proto.functions:
        own = opset_of(function)
        for node in nodes_of_function(function) if own != opset else ():
            if node.domain or (node.domain, node.op_type) in local:
                continue
            versions = {version_of(node.op_type, each) for each in (own, opset)}
            if len(versions) > 1 and min(versions) < UPGRADES.get(node.op_type, (0, None))[0]:
                raise UnsupportedModelError(
                    f"{where(path, node)} in function {function.name!r}, of opset {own}, is another operator in opset "
                    f"{opset} of the model",
                    f"export both in one opset, such as {TARGET_OPSET}",
                )


def _upgraded(path: Path, node: NodeProto, opset: int, names: Names, facts: Facts) -> list[NodeProto]:
    if node.domain:
        return [node]
    version = version_of(node.op_type, opset)
    writer = NodeWriter(path, node, version, names, facts)
    if opset < OLDEST_OPSET and version != version_of(node.op_type, OLDEST_OPSET):
        raise writer.refusal(f"it changed with opset {OLDEST_OPSET}, the oldest opset in which onnxruntime has it")
    since, rule = UPGRADES.get(node.op_type, (0, None))
    if rule is None or version >= since:
        return [node]
    rule(writer)
    return writer.made


def version_of(op: str, opset: int) -> int:
    """The version of an operator that is in force at an opset; 1 for one of the runtime that the opset has not."""
    return int(defs.get_schema(op, opset).since_version) if defs.has(op, max_inclusive_version=opset) else 1


def names_of(graphs: Iterable[GraphProto]) -> Names:
    """All names in use."""
    values = {v.name for graph in graphs for v in (*graph.input, *graph.output, *graph.initializer)}
    nodes = [node for graph in graphs for node in graph.node]
    return Names(values | {name for node in nodes for name in (node.name, *node.input, *node.output)})


def facts_of(graphs: Iterable[GraphProto]) -> Facts:
    """What the graphs tell; nothing about names that mean one thing here and another there."""
    types: dict[str, int] = {}
    ranks: dict[str, int] = {}
    torn: set[str] = set()
    for graph in graphs:
        for name, dtype, rank in (*map(_of_tensor, graph.initializer), *map(_of_value, _values(graph))):
            if dtype and types.setdefault(name, dtype) != dtype:
                torn.add(name)
            if rank is not None and ranks.setdefault(name, rank) != rank:
                torn.add(name)
    known, counted = ({name: n for name, n in found.items() if name not in torn} for found in (types, ranks))
    read = {name for graph in graphs for node in graph.node for name in node.input}
    return Facts(known, counted, frozenset(read | {value.name for graph in graphs for value in graph.output}))


def _values(graph: GraphProto) -> list[ValueInfoProto]:
    return [*graph.input, *graph.output, *graph.value_info]


def _of_tensor(tensor: TensorProto) -> tuple[str, int, int | None]:
    return tensor.name, tensor.data_type, len(tensor.dims)


def _of_value(value: ValueInfoProto) -> tuple[str, int, int | None]:
    kind = value.type.tensor_type
    return value.name, kind.elem_type, len(kind.shape.dim) if kind.HasField("shape") else None
