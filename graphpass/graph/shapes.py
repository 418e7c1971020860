"""Shapes and types of a graph's tensors, inferred from its inputs."""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.inference import with_shapes
from graphpass.graph.model import export

LARGE = 1024  # values of a constant; constants that shapes are computed from are smaller


def infer_shapes(graph: gs.Graph) -> None:
    """Write inferred shapes and types to the variables of a graph; neurons keep the shape of their input.

    Weights are looked at no further than their shapes, so that networks of any size cost little.
    """
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
    inferred = gs.import_onnx(with_shapes(proto)).tensors()
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Variable) and name in inferred:
            found = inferred[name]
            tensor.shape = tensor.shape if found.shape is None else list(found.shape)
            tensor.dtype = tensor.dtype or found.dtype


def _is_large(tensor: gs.Constant) -> bool:
    """Whether it is floats of more than LARGE values; types that numpy has not are numbers of ONNX."""
    floats = isinstance(tensor.dtype, int) or np.dtype(tensor.dtype).kind == "f"
    return floats and int(np.prod(tensor.shape)) > LARGE
