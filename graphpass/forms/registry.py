"""From a plan to a model file's contents, in one of the forms.

folded     one pass carries the counts                       graph.folded
unrolled   the time-steps one by one, binary spikes          graph.unrolled
integer    counts as uint8, int8 weights                     graph.integer

Each of the first two in the types of the network, or in float16 (forms.float16); the third for one of TARGETS.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphpass.errors import ModelError, OptionError, PlanError
from graphpass.forms import operators
from graphpass.forms.batch_norms import join_products_and_sums
from graphpass.forms.float16 import to_float16
from graphpass.forms.folded import fold
from graphpass.forms.integer.form import to_integers
from graphpass.forms.integer.targets import TARGETS, USUAL
from graphpass.forms.neurons import require_neurons, within_float32
from graphpass.forms.unrolled import unroll
from graphpass.graph import model
from graphpass.graph.description import PREFIX, stated_form
from graphpass.graph.domains import SPIKING_DOMAIN, opset_of
from graphpass.graph.plan import Left, Plan
from graphpass.graph.stubs import graph_of
from graphpass.options.rules import require_together
from graphpass.records import RecordError, parsed, record_of

FLOATS = PREFIX + "floats"  # metadata of the integer form: what stays float, JSON like graphpass.left
ENCODED = PREFIX + "encoded"  # and which analogue tensors are uint8, JSON
SINGLE = PREFIX + "float32"  # metadata of a network in float16: what stays float32, JSON like graphpass.left
COUNTS = PREFIX + "counts"  # and where the counts of neurons are, JSON: by the tensor that they stand for
ZEROS = PREFIX + "zeros"  # and what is subtracted from them before they are stored, JSON, where that is not 0
TARGET = PREFIX + "target"  # the runtime that it was written for, where that is not the usual one


@dataclass(frozen=True)
class Formed:
    """A graph in a form, and what its metadata says about that."""

    graph: gs.Graph
    metadata: Mapping[str, str]


def _folded(graph: gs.Graph, plan: Plan, target: str) -> Formed:
    return Formed(graph, {})


def _unrolled(graph: gs.Graph, plan: Plan, target: str) -> Formed:
    return Formed(unroll(graph), {})


def _integer(graph: gs.Graph, plan: Plan, target: str) -> Formed:
    TARGETS[target].require_levels({site.name: site.levels for site in plan.sites})
    made = to_integers(graph, plan.ranges, target)
    floats = json.dumps([asdict(entry) for entry in made.floats])
    metadata = {FLOATS: floats, ENCODED: json.dumps(made.encoded), COUNTS: json.dumps(dict(made.counts))}
    if target != USUAL:
        metadata |= {TARGET: target, ZEROS: json.dumps(dict(made.zeros))}
    return Formed(made.graph, metadata)


FORMS: dict[str, Callable[[gs.Graph, Plan, str], Formed]] = {  # from the folded form, for a target
    "folded": _folded,
    "unrolled": _unrolled,
    "integer": _integer,
}


Measure = Callable[[onnx.ModelProto, Sequence[str]], Mapping[str, float]]
PRECISIONS = ("source", "float16")


def require_form(form: str, precision: str, target: str = USUAL) -> None:
    """Raises OptionError unless there is such a form in this precision, for this target."""
    if form not in FORMS:
        raise OptionError(f"unknown form {form!r}", f"choose one of {', '.join(FORMS)}", "form")
    if precision not in PRECISIONS:
        raise OptionError(f"unknown precision {precision!r}", f"choose one of {', '.join(PRECISIONS)}", "precision")
    if target not in TARGETS:
        raise OptionError(f"unknown target {target!r}", f"choose one of {', '.join(TARGETS)}", "target")
    other = {} if target == USUAL else {"target": target}
    require_together("convert", {"form": form, "precision": precision, **other})


def emit(
    graph: gs.Graph,
    plan: Plan,
    form: str,
    metadata: Mapping[str, str],
    precision: str = PRECISIONS[0],
    measure: Measure | None = None,
    target: str = USUAL,
) -> onnx.ModelProto:
    """The converted model of a normalised graph (changed in place). metadata: goes into the model's metadata_props.

    measure: for float16, which of these tensors of a model have values that float16 cannot hold, and how large.
    Raises OptionError for an unknown form, precision or target, PlanError for a plan of another model, FormError for
    what the target cannot read.
    """
    require_form(form, precision, target)
    with within_float32(PlanError, "the plan"):
        formed = FORMS[form](fold(graph, plan), plan, target)
    if form == "folded" and precision == PRECISIONS[0]:
        join_products_and_sums(formed.graph)
    proto, more = assemble(formed.graph, plan.coding), dict(formed.metadata)
    TARGETS[target].require(proto)
    if precision == "float16":
        halved = to_float16(proto)
        if measure and (beyond := measure(proto, halved.tensors)):
            halved = to_float16(proto, beyond)
        proto, more[SINGLE] = halved.proto, json.dumps([asdict(entry) for entry in halved.kept])
    for key, value in {**metadata, **more}.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def form_of(graph: gs.Graph) -> str:
    """The form of a converted model, by its neurons; integers need none."""
    ops = {node.op for node in graph.nodes if node.domain == SPIKING_DOMAIN}
    neurons = {"folded": operators.FOLDED_NEURONS, "unrolled": operators.TRAIN_NEURONS}
    return next((form for form, names in neurons.items() if names & ops), "integer")


def floats_of(proto: onnx.ModelProto) -> tuple[Left, ...]:
    """What stays float in an integer model, by its metadata. Raises ModelError."""
    found: tuple[Left, ...] = _told(proto, FLOATS, tuple[Left, ...])
    return found


def single_of(proto: onnx.ModelProto) -> tuple[Left, ...]:
    """What stays float32 in a model in float16, and changed constants, by its metadata. Raises ModelError."""
    found: tuple[Left, ...] = _told(proto, SINGLE, tuple[Left, ...])
    return found


def encoded_of(proto: onnx.ModelProto) -> tuple[str, ...]:
    """The analogue tensors of an integer model that are uint8, by its metadata. Raises ModelError."""
    found: tuple[str, ...] = _told(proto, ENCODED, tuple[str, ...])
    return found


def counts_of(proto: onnx.ModelProto) -> dict[str, str]:
    """Where the counts of an integer model's neurons are, by the tensor that they stand for, by its metadata.

    Raises ModelError.
    """
    found: dict[str, str] = _told(proto, COUNTS, Mapping[str, str], "{}")
    return found


def zeros_of(proto: onnx.ModelProto) -> dict[str, int]:
    """What is subtracted from the counts of an integer model's neurons, by the tensor that they stand for; else 0.

    Raises ModelError.
    """
    found: dict[str, int] = _told(proto, ZEROS, Mapping[str, int], "{}")
    return found


def _told(proto: onnx.ModelProto, key: str, kind: Any, default: str = "[]") -> Any:
    text = {entry.key: entry.value for entry in proto.metadata_props}.get(key, default)
    try:
        return record_of(kind, parsed(text), key)
    except RecordError as error:
        raise ModelError(f"the metadata of the model: {error}", "convert it with graphpass again") from error


def assemble(graph: gs.Graph, coding: str) -> onnx.ModelProto:
    """A graph with spiking operators as a model: with their function bodies and their opset."""
    graph.functions = []
    proto = model.export(graph)
    del proto.functions[:]
    used = {node.op for each in (graph, *graph.subgraphs(recursive=True)) for node in each.nodes}
    proto.functions.extend(body for body in operators.functions(coding, opset_of(proto)) if body.name in used)
    others = [entry for entry in proto.opset_import if entry.domain != SPIKING_DOMAIN]
    del proto.opset_import[:]
    proto.opset_import.extend([*others, operators.opset_import()])
    return proto


def reference(folded: gs.Graph, names: Iterable[str], coding: str) -> onnx.ModelProto:
    """A folded graph with the named tensors as its outputs, as a model."""
    graph = folded.copy()
    tensors = graph.tensors()
    graph.outputs = [tensors[name] for name in dict.fromkeys(names)]
    return standing_alone(graph, coding)


def standing_alone(graph: gs.Graph, coding: str) -> onnx.ModelProto:
    """A graph whose outputs were changed, as a model: without the inputs and the nodes that nothing needs any more."""
    graph.cleanup(remove_unused_graph_inputs=True, recurse_subgraphs=False).toposort()
    for tensor in graph.inputs:
        tensor.dtype = tensor.dtype or np.float32
    proto = model.export_untyped(graph, lambda each: assemble(each, coding))
    del proto.graph.value_info[:]
    return proto


def spiking_graph(proto: onnx.ModelProto) -> gs.Graph:
    """A converted model as a graph to read or edit; its function bodies are left out (assemble adds them), and its
    weights are not copied.

    Raises ModelError, naming the node, for spiking operators that are not as they should be, and for tensors that
    nothing makes; and for a network whose neurons were inlined.
    """
    try:
        graph = graph_of(proto)
        graph.cleanup(remove_unused_graph_inputs=False).toposort()
    except Exception as error:  # graphsurgeon raises bare exceptions of its own and of numpy
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the spiking model cannot be read ({line})", "convert it with graphpass again") from error
    require_neurons(graph)
    _require_makers(graph)
    if stated_form(proto) in ("folded", "unrolled") and not any(node.domain == SPIKING_DOMAIN for node in graph.nodes):
        raise ModelError(
            "the spiking network has no neurons any more: `graphpass inline` or a runtime's optimiser replaced them by "
            "standard operators",
            "give the file that `graphpass convert` wrote",
        )
    return graph


def _require_makers(graph: gs.Graph) -> None:
    """That every tensor that is read is an input, a constant, or some node's output. Raises ModelError."""
    given = {tensor.name for tensor in graph.inputs} | {""}
    for node in graph.nodes:
        for tensor in node.inputs:
            if isinstance(tensor, gs.Variable) and not tensor.inputs and tensor.name not in given:
                raise ModelError(
                    f"node {node.name!r} ({node.op}) of the spiking model reads {tensor.name!r}, "
                    "which no node computes",
                    "convert it with graphpass again",
                )


def coding_of(graph: gs.Graph) -> str | None:
    """The coding of a graph's neurons, None where it has none."""
    attributes: list[dict[str, Any]] = [node.attrs for node in graph.nodes if node.op in operators.NEURONS]
    return str(attributes[0]["coding"]) if attributes else None
