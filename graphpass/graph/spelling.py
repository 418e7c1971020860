"""One spelling for what the format allows to be written in several ways, so that other modules need to know only one.

    domain "ai.onnx" → ""                       Constant(value_floats …, sparse_value) → Constant(value)
    sparse initialiser → dense one              attribute that is an empty list → none (the same to every operator)
    function of another opset → of the model's  (its operators mean the same: upgrade.require_one_meaning)
    call without an attribute → with the one that its function has by default  (onnx's inliner takes no defaults)

Graphs are edited with graphsurgeon. What it would drop or cannot read is refused, with the name of the node.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from graphpass.errors import ModelError, UnsupportedModelError
from graphpass.graph.domains import STANDARD_DOMAINS, opset_of
from graphpass.graph.refusals import where
from graphpass.graph.tensors import all_graphs, dense, keep_tensors, nodes_of_function, walk

LARGEST_SPARSE = 1 << 30  # numbers of a sparse tensor with its zeros
LISTS = {AttributeProto.FLOATS: "floats", AttributeProto.INTS: "ints", AttributeProto.STRINGS: "strings"}
VALUES = frozenset(
    "value sparse_value value_float value_floats value_int value_ints value_string value_strings".split()
)  # attributes of a Constant, which has one of them
UNREADABLE = frozenset(
    getattr(AttributeProto, name)
    for name in ("TENSORS", "GRAPHS", "SPARSE_TENSOR", "SPARSE_TENSORS", "TYPE_PROTO", "TYPE_PROTOS")
)


def rename_domain(proto: ModelProto) -> None:
    """Give the standard domain its short name, in place. Where a model imports two versions of it, the first counts."""
    for graph in all_graphs(proto):
        _rename(graph.node)
    for function in proto.functions:
        _rename(function.node)
    for owner in (proto, *proto.functions):
        versions: dict[str, int] = {}
        for entry in owner.opset_import:
            versions.setdefault("" if entry.domain in STANDARD_DOMAINS else entry.domain, entry.version)
        del owner.opset_import[:]
        owner.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())


def _rename(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        if node.domain in STANDARD_DOMAINS:
            node.domain = ""


def respell(path: Path, proto: ModelProto) -> None:
    """Bring a model whose domains are renamed into the one spelling, in place.

    Raises ModelError for constants of no or several values, UnsupportedModelError.
    """
    proto.graph.name = proto.graph.name or "graph"
    for graph in all_graphs(proto):
        _respell_initialisers(path, graph)
        _respell_nodes(path, graph.node)
        keep_tensors(graph)
    for function in proto.functions:
        _respell_nodes(path, function.node)
    for function in proto.functions:
        for entry in function.opset_import:
            entry.version = opset_of(proto) if not entry.domain else entry.version
    _give_defaults(proto)


def _give_defaults(proto: ModelProto) -> None:
    """Give every call of a function the attributes that it leaves to the function's defaults."""
    defaults = {(each.domain, each.name, each.overload): each.attribute_proto for each in proto.functions}
    nodes = [*walk(proto.graph), *(node for function in proto.functions for node in nodes_of_function(function))]
    for node in nodes if any(defaults.values()) else ():
        given = {attribute.name for attribute in node.attribute}
        known = defaults.get((node.domain, node.op_type, node.overload), ())
        node.attribute.extend(attribute for attribute in known if attribute.name not in given)


def _respell_initialisers(path: Path, graph: GraphProto) -> None:
    for sparse in graph.sparse_initializer:
        if int(np.prod(sparse.dims, dtype=np.int64)) > LARGEST_SPARSE:
            raise UnsupportedModelError(
                f"{path}: the sparse initialiser {sparse.values.name!r} has {int(np.prod(sparse.dims))} numbers",
                "export the model with dense weights",
            )
        graph.initializer.append(dense(sparse))
    del graph.sparse_initializer[:]


def _respell_nodes(path: Path, nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        if node.op_type == "Constant" and not node.domain:
            _respell_constant(path, node)
        for attribute in list(node.attribute):
            if attribute.ref_attr_name:
                continue
            if attribute.type in UNREADABLE or not _is_text(attribute):
                kind = AttributeProto.AttributeType.Name(attribute.type)
                raise UnsupportedModelError(
                    f"{where(path, node)}: its attribute {attribute.name!r} of type {kind} cannot be read",
                    "export the model without it",
                )
            empty = attribute.type in LISTS and not getattr(attribute, LISTS[attribute.type])
            if empty and node.op_type != "Unsqueeze":  # the only operator that needs its axes even if there are none
                node.attribute.remove(attribute)


def _is_text(attribute: AttributeProto) -> bool:
    try:
        for text in (attribute.s, *attribute.strings):
            text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _respell_constant(path: Path, node: NodeProto) -> None:
    """The tensor that value_float, value_floats, value_int, value_ints or sparse_value mean; texts stay as they are."""
    values = [attribute.name for attribute in node.attribute if attribute.name in VALUES]
    if len(values) != 1:
        raise ModelError(
            f"{where(path, node)} has {' and '.join(values) or 'no value'}, not one value", "export it again"
        )
    for attribute in node.attribute:
        tensor: TensorProto | None = None
        if attribute.ref_attr_name:
            continue
        if attribute.name in ("value_float", "value_floats"):
            tensor = numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), np.float32))
        elif attribute.name in ("value_int", "value_ints"):
            tensor = numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), np.int64))
        elif attribute.name == "sparse_value":
            tensor = dense(attribute.sparse_tensor)
        if tensor is not None:
            attribute.CopyFrom(helper.make_attribute("value", tensor))
