"""The tensors of a model, in all places where the format stores them:

    initialisers, also sparse ones · attributes of nodes (Constant above all) and of functions ·
    subgraphs (If, Loop, Scan) · bodies of functions · graphs for training

Each of them may be external data. `without_weights` and `with_weights` set large tensors aside while a model is
rewritten, so that rewriting costs little, however large the model is.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from google.protobuf.message import EncodeError
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

LARGEST_PROTOBUF = 2**31 - 2**20  # bytes; a protobuf message has at most 2 GiB, and the graph itself needs room
LARGE = 1 << 16  # bytes of a tensor that is set aside


def fits_a_message(proto: ModelProto, size: int | None = None) -> bool:
    """Whether a model is small enough to be written as one message, of LARGEST_PROTOBUF or `size` bytes at most.

    protobuf tells the size of a larger one in some versions, and in others refuses to.
    """
    try:
        return bool(proto.ByteSize() < (LARGEST_PROTOBUF if size is None else size))
    except EncodeError:
        return False


def graphs_of(graph: GraphProto) -> list[GraphProto]:
    """The graph and all its subgraphs, at any depth."""
    found = [graph]
    for each in found:  # grows while it is read
        found.extend(bodies_of(each.node))
    return found


def bodies_of(nodes: Iterable[NodeProto]) -> list[GraphProto]:
    """The subgraphs that nodes hold, without the subgraphs of these."""
    return [
        body
        for node in nodes
        for attribute in node.attribute
        for body in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def keep_tensors(graph: GraphProto) -> None:
    """Say of tensors alone what they are, in place: graphsurgeon takes sequences and optionals for tensors."""
    tensors = [value for value in graph.value_info if value.type.WhichOneof("value") == "tensor_type"]
    del graph.value_info[:]
    graph.value_info.extend(tensors)


def walk(graph: GraphProto) -> list[NodeProto]:
    """All nodes, those of subgraphs included."""
    return [node for each in graphs_of(graph) for node in each.node]


def nodes_of_function(function: FunctionProto) -> list[NodeProto]:
    """All nodes of a function's body, those of subgraphs included."""
    return [*function.node, *(node for body in bodies_of(function.node) for node in walk(body))]


def all_graphs(proto: ModelProto) -> list[GraphProto]:
    """All graphs of a model: its own, those in functions and those for training, with their subgraphs."""
    found = graphs_of(proto.graph)
    for training in proto.training_info:
        found += [*graphs_of(training.initialization), *graphs_of(training.algorithm)]
    for function in proto.functions:
        for body in bodies_of(function.node):
            found += graphs_of(body)
    return found


def all_tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a model stores."""
    nodes = [*(node for function in proto.functions for node in function.node)]
    attributes = [attribute for function in proto.functions for attribute in function.attribute_proto]
    for graph in all_graphs(proto):
        yield from graph.initializer
        yield from _parts(graph.sparse_initializer)
        nodes += graph.node
    attributes += [attribute for node in nodes for attribute in node.attribute]
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield from _parts([attribute.sparse_tensor])
        yield from _parts(attribute.sparse_tensors)


def _parts(sparse: Iterable[SparseTensorProto]) -> Iterator[TensorProto]:
    for each in sparse:
        yield from (each.values, each.indices)


def load_external(proto: ModelProto, folder: Path) -> None:
    """Read external data into the model. Raises what onnx raises: ValidationError, OSError …"""
    for tensor in all_tensors(proto):
        if uses_external_data(tensor):
            load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT  # onnx before 1.23.2 leaves that to its callers
            del tensor.external_data[:]


def locations_of(proto: ModelProto) -> list[str]:
    """The names of the files beside a model that hold its data, in order."""
    external = (tensor for tensor in all_tensors(proto) if uses_external_data(tensor))
    return sorted({entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"})


def dense(sparse: SparseTensorProto) -> TensorProto:
    """A sparse tensor as a dense one. values: [n]; indices: [n], linear, or [n, axes]. Raises ValueError."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    full = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        full.reshape(-1)[indices] = values
    elif indices.ndim == 2 and indices.shape[1] == full.ndim:
        full[tuple(indices.T)] = values
    else:
        raise ValueError(f"indices of shape {indices.shape} for a tensor of {full.ndim} axes")
    return numpy_helper.from_array(full, sparse.values.name)


def without_weights(proto: ModelProto) -> tuple[ModelProto, list[TensorProto]]:
    """A copy of the model in which large initialisers are inputs of its graph, and these initialisers, not copied.

    Large Constant nodes of the graph itself count as initialisers, unless they make an output of it. Graphs for
    training are left out.
    """
    graph, given = GraphProto(), proto.graph
    outputs, inputs = ({value.name for value in values} for values in (given.output, given.input))
    weights = [tensor for tensor in given.initializer if tensor.ByteSize() >= LARGE]
    graph.initializer.extend(tensor for tensor in given.initializer if tensor.ByteSize() < LARGE)
    for node in given.node:
        tensor = _large_constant(node)
        if tensor is None or node.output[0] in outputs:
            graph.node.append(node)
        else:
            weights.append(TensorProto())
            weights[-1].CopyFrom(tensor)
            weights[-1].name = node.output[0]
    graph.name, graph.doc_string = given.name, given.doc_string
    for field in ("input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(given, field))
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in weights
        if tensor.name not in inputs
    )
    bare = ModelProto(ir_version=proto.ir_version, graph=graph)
    for field in ("opset_import", "metadata_props", "functions"):
        getattr(bare, field).extend(getattr(proto, field))
    return bare, weights


def _large_constant(node: NodeProto) -> TensorProto | None:
    """The value of a Constant node if it is large."""
    value = next((each.t for each in node.attribute if each.name == "value" and each.HasField("t")), None)
    constant = node.op_type == "Constant" and len(node.output) == 1
    return value if constant and value is not None and value.ByteSize() >= LARGE else None


def with_weights(bare: ModelProto, weights: Iterable[TensorProto]) -> ModelProto:
    """The model, changed in place, with the initialisers that `without_weights` set aside."""
    bare.graph.initializer.extend(weights)
    names = {tensor.name for tensor in bare.graph.initializer}
    kept = [value for value in bare.graph.input if value.name not in names]
    del bare.graph.input[:]
    bare.graph.input.extend(kept)
    return bare
