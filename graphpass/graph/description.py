"""The metadata, the documentation and the producer of a model, which rewriting keeps.

    model              metadata_props apart from graphpass's own, doc_string, domain, version, producer
    graph              name, doc_string, metadata_props
    inputs, outputs    by name: doc_string, metadata_props, denotations of type and axes
    nodes              by name and operator: doc_string, metadata_props; what counts spikes: those of its activation
    weights            by name: doc_string, metadata_props

Applications read metadata that their exporters wrote: class names, the characters of a text recogniser, the tokens of
a model. Neither onnx's version converter nor graphsurgeon keeps all of it.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import onnx

from graphpass.graph.names import activation_of

PREFIX = "graphpass."  # of the metadata keys that describe a conversion


def keep_description(given: onnx.ModelProto, made: onnx.ModelProto) -> tuple[str, ...]:
    """Copy the description of `given` to `made`, its rewritten form; metadata that `made` has already stays.

    Returns the keys in the metadata of `given` that are graphpass's own. They are not copied, since they describe
    another conversion.
    """
    for name in ("doc_string", "domain", "model_version", "producer_name", "producer_version"):
        _take(given, made, name)
    for name in ("name", "doc_string"):
        _take(given.graph, made.graph, name)
    own = [entry for entry in given.metadata_props if entry.key.startswith(PREFIX)]
    _take_metadata([entry for entry in given.metadata_props if not entry.key.startswith(PREFIX)], made)
    _take_metadata(given.graph.metadata_props, made.graph)
    for values, others in ((given.graph.input, made.graph.input), (given.graph.output, made.graph.output)):
        known = {value.name: value for value in values}
        for value in others:
            if value.name in known:
                _take_value(known[value.name], value)
    names = Counter(node.name for node in given.graph.node)
    alone = [node for node in given.graph.node if node.name and names[node.name] == 1]
    nodes = {(node.name, node.op_type): node for node in alone}
    _take_by_key(nodes, made.graph.node, lambda node: (node.name, node.op_type))
    neurons = [node for node in made.graph.node if (node.name, node.op_type) not in nodes]
    _take_by_key({node.name: node for node in alone}, neurons, lambda node: activation_of(node.name))
    weights = {tensor.name: tensor for tensor in given.graph.initializer}
    _take_by_key(weights, made.graph.initializer, lambda tensor: tensor.name)
    return tuple(entry.key for entry in own)


def stated_form(proto: onnx.ModelProto) -> str | None:
    """The form that the metadata of a converted network names; None for any other network.

    It outlives what removes the spiking operators: inlining, and optimisers of runtimes.
    """
    stated = {entry.key: entry.value for entry in proto.metadata_props}
    return stated.get(f"{PREFIX}form") if f"{PREFIX}version" in stated else None


def _take(given: Any, made: Any, name: str) -> None:
    """Copy a text or number that is set."""
    if given.HasField(name):
        setattr(made, name, getattr(given, name))


def _take_metadata(entries: Iterable[onnx.StringStringEntryProto], made: Any) -> None:
    known = {entry.key for entry in made.metadata_props}
    made.metadata_props.extend(entry for entry in entries if entry.key not in known)


def _take_by_key(given: Mapping[Any, Any], made: Iterable[Any], key: Callable[[Any], Hashable]) -> None:
    for each in made:
        found = given.get(key(each))
        if found is not None:
            _take(found, each, "doc_string")
            _take_metadata(found.metadata_props, each)


def _take_value(given: onnx.ValueInfoProto, made: onnx.ValueInfoProto) -> None:
    _take(given, made, "doc_string")
    _take_metadata(given.metadata_props, made)
    _take(given.type, made.type, "denotation")
    old, new = given.type.tensor_type.shape.dim, made.type.tensor_type.shape.dim
    if made.type.HasField("tensor_type") and len(old) == len(new):
        for one, other in zip(old, new, strict=True):
            _take(one, other, "denotation")
