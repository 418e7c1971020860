"""From a plan to a model file's contents, in one of the forms.

folded     one pass carries the counts                       graph.folded
unrolled   the time-steps one by one, binary spikes          graph.unrolled
integer    counts as uint8, int8 weights                     graph.integer
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from graphpass.errors import OptionError
from graphpass.forms import operators
from graphpass.forms.folded import fold
from graphpass.forms.integer.form import to_integers
from graphpass.forms.integer.layers import MICROSOFT
from graphpass.forms.unrolled import unroll
from graphpass.graph import model
from graphpass.graph.domains import SPIKING_DOMAIN, opset_of
from graphpass.graph.plan import Left, Plan

FLOATS = "graphpass.floats"  # metadata of the integer form: what stays float, JSON like graphpass.left
ENCODED = "graphpass.encoded"  # and which analogue tensors are uint8, JSON


@dataclass(frozen=True)
class Formed:
    """A graph in a form, and what its metadata says about that."""

    graph: gs.Graph
    told: Mapping[str, str]


def _folded(graph: gs.Graph, plan: Plan) -> Formed:
    return Formed(graph, {})


def _unrolled(graph: gs.Graph, plan: Plan) -> Formed:
    return Formed(unroll(graph), {})


def _integer(graph: gs.Graph, plan: Plan) -> Formed:
    made = to_integers(graph, plan.ranges)
    floats = json.dumps([asdict(entry) for entry in made.floats])
    return Formed(made.graph, {FLOATS: floats, ENCODED: json.dumps(made.encoded)})


FORMS: dict[str, Callable[[gs.Graph, Plan], Formed]] = {  # from the folded form
    "folded": _folded,
    "unrolled": _unrolled,
    "integer": _integer,
}


def emit(graph: gs.Graph, plan: Plan, form: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The converted model of a normalised graph (changed in place). metadata: goes into the model's metadata_props.

    Raises OptionError for an unknown form, PlanError for a plan of another model.
    """
    if form not in FORMS:
        raise OptionError(f"unknown form {form!r}", f"choose one of {', '.join(FORMS)}")
    formed = FORMS[form](fold(graph, plan), plan)
    proto = assemble(formed.graph, plan.coding)
    for key, value in {**metadata, **formed.told}.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def floats_of(proto: onnx.ModelProto) -> tuple[Left, ...]:
    """What stays float in an integer model, by its metadata."""
    return tuple(Left(**entry) for entry in _told(proto, FLOATS))


def encoded_of(proto: onnx.ModelProto) -> tuple[str, ...]:
    """The analogue tensors of an integer model that are uint8, by its metadata."""
    return tuple(_told(proto, ENCODED))


def _told(proto: onnx.ModelProto, key: str) -> list[Any]:
    found: list[Any] = json.loads({entry.key: entry.value for entry in proto.metadata_props}.get(key, "[]"))
    return found


def assemble(graph: gs.Graph, coding: str) -> onnx.ModelProto:
    """A graph with spiking operators as a model: with their function bodies and their opset."""
    graph.functions = []
    proto = model.export(graph)
    del proto.functions[:]
    proto.functions.extend(operators.functions(coding, opset_of(proto)))
    others = [entry for entry in proto.opset_import if entry.domain != SPIKING_DOMAIN]
    del proto.opset_import[:]
    proto.opset_import.extend([*others, operators.opset_import()])
    if any(node.domain == MICROSOFT for node in proto.graph.node) and all(e.domain != MICROSOFT for e in others):
        proto.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return proto


def spiking_graph(proto: onnx.ModelProto) -> gs.Graph:
    """A converted model as a graph to read or edit; its function bodies are left out (assemble adds them)."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.functions[:]
    graph = gs.import_onnx(bare)
    graph.toposort()
    return graph


def coding_of(graph: gs.Graph) -> str | None:
    """The coding of a graph's neurons, None where it has none."""
    attributes: list[dict[str, Any]] = [node.attrs for node in graph.nodes if node.op in operators.NEURONS]
    return str(attributes[0]["coding"]) if attributes else None
