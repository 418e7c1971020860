"""Large tensors that stay where they are while a model is rewritten, exported or written: stubs stand for them.

A stub has the name, the type and the shape of a tensor, and no numbers. Models are copied several times on the way
from a graph to a file or a session. With stubs in them such a copy costs nothing, and weights are copied once at most.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto, TensorProto, numpy_helper
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from graphpass.graph.tensors import LARGE, graphs_of
from graphpass.graph.types import is_number, onnx_type

WEIGHTS = "model.weights"  # the name of the file of large weights beside a model
PAGE = 4096  # bytes; where a weight begins in a file, so that it can be mapped


def graph_of(proto: ModelProto, weights: Iterable[TensorProto] = ()) -> gs.Graph:
    """The graph of a model, without its functions. Its constants are the model's own tensors, which are not copied.

    weights: what stubs of the model stand for.
    """
    graph = OnnxImporter.import_graph(
        proto.graph,
        opset=OnnxImporter.get_opset(proto),
        import_domains=OnnxImporter.get_import_domains(proto),
        producer_name=proto.producer_name,
        producer_version=proto.producer_version,
        ir_version=proto.ir_version,
    )
    known = {tensor.name: tensor for tensor in weights}
    for constant in _constants(graph) if known else ():
        if isinstance(constant._values, LazyValues) and is_stub(constant._values.tensor):
            tensor = known[constant.name]
            constant._values = LazyValues(tensor)
            constant.data_location = tensor.data_location if tensor.HasField("data_location") else None
    return graph


def stub(name: str, data_type: int, dims: Iterable[int]) -> TensorProto:
    """A stub for a tensor."""
    return TensorProto(name=name, data_type=data_type, dims=dims, data_location=TensorProto.EXTERNAL)


def is_stub(tensor: TensorProto) -> bool:
    """Whether it is a stub. External data says where it is."""
    return tensor.data_location == TensorProto.EXTERNAL and not tensor.external_data


def filled(proto: ModelProto, weights: Iterable[TensorProto]) -> ModelProto:
    """A copy of a model with the tensors that its stubs stand for."""
    made = ModelProto()
    made.CopyFrom(proto)
    known = {tensor.name: tensor for tensor in weights}
    for tensor in _stubs(made):
        tensor.CopyFrom(known[tensor.name])
    return made


@contextmanager
def set_aside(graph: gs.Graph) -> Iterator[Mapping[str, gs.Constant]]:
    """A context in which a graph has stubs in place of large constants. Gives these, by name; `fill` puts them back
    into a model that was made of the graph.
    """
    large = {constant.name: constant for constant in _constants(graph) if _is_large(constant)}
    kept = {name: constant._values for name, constant in large.items()}
    for name, constant in large.items():
        values = kept[name]
        kind = values.tensor.data_type if isinstance(values, LazyValues) else onnx_type(values.dtype)
        constant._values = LazyValues(stub(name, kind, values.shape))
    try:
        yield {name: gs.Constant(name, kept[name], constant.data_location) for name, constant in large.items()}
    finally:
        for name, constant in large.items():
            constant._values = kept[name]


def fill(proto: ModelProto, aside: Mapping[str, gs.Constant]) -> None:
    """Put constants that were set aside into a model, in place of their stubs."""
    for tensor in _stubs(proto):
        name, constant = tensor.name, aside[tensor.name]
        if isinstance(constant._values, LazyValues):
            tensor.CopyFrom(constant._values.tensor)
        else:
            tensor.CopyFrom(numpy_helper.from_array(constant._values))
            if constant.data_location is not None:
                tensor.data_location = constant.data_location
        tensor.name = name


def with_external_weights(proto: ModelProto, path: Path) -> ModelProto:
    """A copy of a model whose large initialisers are external data in a file that is written at `path`.

    Each begins on a page of its own, so that a runtime can map the file. The model itself is not changed.
    """
    bare, large = _header(proto)
    with open(path, "wb") as file:
        for stub, tensor in large:
            file.seek(-(-file.tell() // PAGE) * PAGE)
            place = {"location": path.name, "offset": str(file.tell()), "length": str(file.write(tensor.raw_data))}
            stub.external_data.extend(onnx.StringStringEntryProto(key=key, value=text) for key, text in place.items())
    return bare


def _header(proto: ModelProto) -> tuple[ModelProto, list[tuple[TensorProto, TensorProto]]]:
    """A copy of a model with stubs in place of the large initialisers of its graph, and these."""
    bare, large = ModelProto(), []
    for tensor in proto.graph.initializer:
        is_large = tensor.HasField("raw_data") and tensor.ByteSize() >= LARGE
        bare.graph.initializer.append(stub(tensor.name, tensor.data_type, tensor.dims) if is_large else tensor)
        if is_large:
            large.append((bare.graph.initializer[-1], tensor))
    _copy_fields(proto.graph, bare.graph, without="initializer")
    _copy_fields(proto, bare, without="graph")
    return bare, large


def _copy_fields(given: Any, made: Any, without: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in given.ListFields():
        if field.name == without:
            continue
        if hasattr(value, "extend"):
            getattr(made, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(made, field.name).CopyFrom(value)
        else:
            setattr(made, field.name, value)


def _constants(graph: gs.Graph) -> list[gs.Constant]:
    """The constants of a graph and its subgraphs, each once."""
    tensors = [t for each in (graph, *graph.subgraphs(recursive=True)) for t in each.tensors().values()]
    found = {id(tensor): tensor for tensor in tensors if isinstance(tensor, gs.Constant)}
    return list(found.values())


def _is_large(constant: gs.Constant) -> bool:
    """Whether a constant is worth a stub, and is exported as it is."""
    values = constant._values
    if isinstance(values, SparseValues) or values.nbytes < LARGE:
        return False
    if isinstance(values, LazyValues):
        return True
    return is_number(values.dtype) and onnx_type(constant.export_dtype) == onnx_type(values.dtype)


def _stubs(proto: ModelProto) -> Iterator[TensorProto]:
    for graph in graphs_of(proto.graph):
        yield from (tensor for tensor in graph.initializer if is_stub(tensor))
