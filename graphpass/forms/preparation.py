"""What a folded graph needs before time is made explicit: constants computed, shapes known, pooling in front."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator

from graphpass.forms import operators
from graphpass.forms.affine import neuron_affine
from graphpass.forms.time_axis import POOLS, rank_of
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.edit import held_names
from graphpass.graph.model import export
from graphpass.graph.tensors import LARGEST_PROTOBUF

DIFFERS = frozenset("Div Pow".split())  # of integers, negative ones above all


def compute_constants(graph: gs.Graph) -> int:
    """Replace integer tensors that depend on constant integers alone (pads, axes, targets) by their values, in place.

    Returns how many. Operators that runtimes disagree about stay: DIFFERS, remainders but those of a positive divisor
    that have its sign, and floats cast to integers.
    """
    held, computed = held_names(graph), 0
    for node in list(graph.nodes):
        known = [tensor for tensor in (*node.inputs, *node.outputs) if not tensor.is_empty()]
        integers = all(_is_integer(tensor) for tensor in known)
        if (
            node.domain
            or node.op in DIFFERS
            or not integers
            or not node.inputs
            or any(node.subgraphs())
            or len(node.outputs) != 1
        ):
            continue
        if not all(isinstance(t, gs.Constant) or t.is_empty() for t in node.inputs) or node.outputs[0].name in held:
            continue
        if node.op == "Mod" and (node.attrs.get("fmod", 0) or not (node.inputs[1].values > 0).all()):
            continue
        output, readers = node.outputs[0], list(node.outputs[0].outputs)
        alone = gs.Graph([node], [], [output], opset=graph.opset)
        (values,) = ReferenceEvaluator(export(alone)).run(None, {})
        constant = gs.Constant(output.name, np.asarray(values))
        node.outputs.clear()
        computed += 1
        for reader in readers:
            reader.inputs = [constant if tensor is output else tensor for tensor in reader.inputs]
    graph.cleanup(remove_unused_graph_inputs=False)
    return computed


def _is_integer(tensor: gs.Tensor) -> bool:
    """graphsurgeon gives types that numpy has not (bfloat16) as numbers of ONNX."""
    return tensor.dtype is not None and not isinstance(tensor.dtype, int) and np.dtype(tensor.dtype).kind in "iub"


def infer_shapes(graph: gs.Graph) -> None:
    """Write inferred shapes and types to the variables of a graph; neurons keep the shape of their input."""
    proto = export(graph)
    for node in proto.graph.node:
        if node.domain == SPIKING_DOMAIN:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]
    if proto.ByteSize() >= LARGEST_PROTOBUF:
        return
    inferred = gs.import_onnx(onnx.shape_inference.infer_shapes(proto, data_prop=True)).tensors()
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Variable) and name in inferred:
            found = inferred[name]
            tensor.shape = tensor.shape if found.shape is None else list(found.shape)
            tensor.dtype = tensor.dtype or found.dtype


def move_behind_pooling(graph: gs.Graph) -> gs.Graph:
    """Neurons of the phase code in front of a max pooling move behind it, in place: max A·n(x) + o = A·n(max x) + o.

    Exact, bit for bit, for amplitudes from 0 up that do not vary within the pooled window: both sides are monotone.
    Phase trains are not nested, so that the maximum of each step would not be the train of the maximum.
    """
    infer_shapes(graph)
    for node in list(graph.nodes):
        neuron = node.inputs[0].inputs[0] if node.op in POOLS and node.inputs[0].inputs else None
        if neuron is None or neuron.op != operators.FOLDED_NEURON or neuron.attrs["coding"] != "phase":
            continue
        rank, parts = rank_of(neuron.inputs[0]), [np.asarray(tensor.values) for tensor in neuron.inputs[1:]]
        if rank is None or len(node.outputs) != 1 or not (parts[2] >= 0).all():
            continue
        if any(neuron_affine(one, two, 1, rank).varying - {1} for one, two in (parts[:2], parts[2:])):
            continue
        x, y = neuron.inputs[0], node.outputs[0]
        node.inputs[0], node.outputs[0] = x, gs.Variable(f"{y.name}/current", y.dtype, y.shape)
        inputs, name = [node.outputs[0], *neuron.inputs[1:]], f"{neuron.name}/{node.name}"
        graph.nodes.append(gs.Node(neuron.op, name, dict(neuron.attrs), inputs, [y], domain=SPIKING_DOMAIN))
    return graph.cleanup(remove_unused_graph_inputs=False).toposort()
