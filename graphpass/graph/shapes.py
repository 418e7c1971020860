"""Shapes and types of a graph's tensors, inferred from its inputs."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.inference import with_shapes
from graphpass.graph.model import export
from graphpass.graph.tensors import all_graphs

LARGE = 1024  # values of a constant; constants that shapes are computed from are smaller


def infer_shapes(graph: gs.Graph) -> None:
    """Write inferred shapes and types to the variables of a graph; neurons keep the shape of their input.

    Weights are looked at no further than their shapes, so that networks of any size cost little.
    """
    inferred = gs.import_onnx(with_shapes(_without_weights(graph))).tensors()
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Variable) and name in inferred:
            found = inferred[name]
            tensor.shape = tensor.shape if found.shape is None else list(found.shape)
            tensor.dtype = tensor.dtype or found.dtype


def proven_shapes(graph: gs.Graph) -> Mapping[str, list[int | str | None] | None]:
    """What follows from the shapes of the inputs and from nothing else, by tensors' names; a free size has a name, too.

    What a file says of tensors inside it, and of its outputs, may hold for the example alone that it was exported with.
    Behind axis 0 each free size of an input has a name of its own: names are given without care there, and one name may
    be given to sizes that differ.
    """
    proto = _without_weights(graph)
    for part in all_graphs(proto):
        del part.value_info[:]
        for value in part.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
    for value in proto.graph.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value") and (axis or not size.dim_param):
                size.dim_param = f"{value.name}, axis {axis}"
    return {name: tensor.shape for name, tensor in gs.import_onnx(with_shapes(proto)).tensors().items()}


def _without_weights(graph: gs.Graph) -> onnx.ModelProto:
    """The graph as a model with neurons as Identity and large weights as inputs."""
    bare, weights = graph.copy(), dict[str, gs.Variable]()
    for node in bare.nodes:
        for number, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant) and _is_large(tensor):
                weights.setdefault(tensor.name, gs.Variable(tensor.name, tensor.dtype, list(tensor.shape)))
                node.inputs[number] = weights[tensor.name]
    bare.inputs = [*bare.inputs, *weights.values()]
    proto = export(bare)
    for node in proto.graph.node:
        if node.domain == SPIKING_DOMAIN:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]
    return proto


def _is_large(tensor: gs.Constant) -> bool:
    """Whether it is floats of more than LARGE values; types that numpy has not are numbers of ONNX."""
    floats = isinstance(tensor.dtype, int) or np.dtype(tensor.dtype).kind == "f"
    return floats and int(np.prod(tensor.shape)) > LARGE
