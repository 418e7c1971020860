"""What a folded graph needs before time is made explicit:

    compute_constants    integers that depend on constants alone
    split_layers         layers on the sum of two neurons as sums of two layers, each on spikes
    place_thresholds     f and the neurons behind it as neurons with a threshold for every step
    settle_pooling       phase-coded neurons behind max poolings

In this order: what is moved behind a pooling has to have even thresholds.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from graphpass.forms import operators
from graphpass.graph.affine import Affine, neuron_affine
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.edit import held_names
from graphpass.graph.layers import is_maximum, rank_of, weight_layer
from graphpass.graph.model import export
from graphpass.graph.names import BEYOND, NEURONS, POOLED, Names, names_of
from graphpass.graph.shapes import infer_shapes
from graphpass.graph.trains import Trains, Way
from graphpass.maths.curves import CURVES, curve_of
from graphpass.maths.neuron import levels_of
from graphpass.sites.activations import Activation, find_activations

Array = NDArray[np.float32]
DIFFERS = frozenset("Div Pow".split())  # of integers, negative ones above all


def prepare_for_time(graph: gs.Graph) -> None:
    """All of it on a folded graph, in place, with the shapes that follow."""
    compute_constants(graph)
    split_layers(graph)
    place_thresholds(graph)
    settle_pooling(graph)
    infer_shapes(graph)


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


def split_layers(graph: gs.Graph) -> gs.Graph:
    """W·(y₁ + y₂) + b = (W·y₁ + b) + W·y₂, in place: where a channel has two neurons, each sends spikes of its own.

    The second layer is named after the first and shares its weights.
    """
    pairs = [node for node in graph.nodes if node.op == "Add" and _adds_second_neurons(node)]
    if not pairs:
        return graph
    names = names_of(graph)
    for pair in pairs:
        for node in list(pair.outputs[0].outputs):
            layer = weight_layer(node)
            if layer and layer.data is pair.outputs[0]:
                y = layer.output
                parts = [gs.Variable(names.fresh(f"{y.name}/{part}"), y.dtype, y.shape) for part in ("near", "far")]
                inputs = [*node.inputs[:2]]
                node.inputs[layer.data_index], inputs[layer.data_index] = pair.inputs
                node.outputs = parts[:1]
                graph.nodes += [
                    gs.Node(node.op, names.fresh(node.name + BEYOND), dict(node.attrs), inputs, parts[1:]),
                    gs.Node("Add", names.fresh(f"{node.name}/sum"), {}, parts, [y]),
                ]
    return graph.cleanup(remove_unused_graph_inputs=False).toposort()


def _adds_second_neurons(node: gs.Node) -> bool:
    """Whether it is the sum of a site's two neurons."""
    makers = [maker for tensor in node.inputs for maker in tensor.inputs[:1] if maker.op in operators.FOLDED_NEURONS]
    return len(makers) == 2 and makers[1].name == makers[0].name + BEYOND


def place_thresholds(graph: gs.Graph) -> gs.Graph:
    """Neurons on f(x) as neurons on x, in place: n = #{k : f(x) ≥ k·θ − ψ} = #{k : x ≥ b_k} + #{k : x < c_k}.

    f itself stays where something else reads it.
    """
    curved = {each.output.name: each for each in find_activations(graph) if each.kind in CURVES}
    names, placed = names_of(graph), False
    for node in [each for each in graph.nodes if each.op == operators.FOLDED_NEURON]:
        activation = curved.get(node.inputs[0].name)
        x, found = (activation.input, thresholds_on(node, activation)) if activation else _beyond(node)
        if found:
            constants = (
                gs.Constant(names.fresh(f"{node.name}/{part}"), values)
                for part, values in zip(("rising", "falling"), found, strict=True)
            )
            node.op, placed = operators.THRESHOLD_NEURON, True
            node.inputs = [x, *constants, *node.inputs[3:]]
    return graph.cleanup(remove_unused_graph_inputs=False).toposort() if placed else graph


def _beyond(node: gs.Node) -> tuple[gs.Tensor, tuple[Array, Array] | None]:
    """x and the thresholds on it, b and c, of second neurons, on x − clip(x, low, high); None for other neurons.

    x − clip(x, low, high) ≥ β  ⟺  x ≥ β + high where β > 0, else x ≥ β + low
    """
    rest = node.inputs[0]
    x, inside = _operands(rest, "Sub")
    above, high = _operands(inside, "Min")
    clipped, low = _operands(above, "Max")
    constants = [*node.inputs[1:3], low, high]
    if x is None or clipped is not x or not all(isinstance(each, gs.Constant) for each in constants):
        return rest, None
    threshold, shift, lowest, highest = (np.asarray(each.values, np.float64) for each in constants)
    shapes = {part.shape for part in (threshold, shift, lowest, highest)}
    if not node.name.endswith(BEYOND) or len(shapes) > 1 or not (lowest <= highest).all():
        return rest, None
    steps = np.arange(1, int(node.attrs["levels"])).reshape(-1, *(1,) * threshold.ndim)
    borders = steps * threshold - shift
    rising = (borders + np.where(borders > 0, highest, lowest)).astype(np.float32)
    return x, (rising, np.full_like(rising, -np.inf))


def _operands(tensor: gs.Tensor | None, op: str) -> tuple[gs.Tensor | None, gs.Tensor | None]:
    """What an operator of two inputs made a tensor of; None where another one made it."""
    maker = tensor.inputs[0] if isinstance(tensor, gs.Variable) and tensor.inputs else None
    if maker is None or maker.op != op or maker.domain or len(maker.inputs) != 2:
        return None, None
    return tuple(maker.inputs)


def thresholds_on(
    node: gs.Node, activation: Activation, counts: Sequence[float] | None = None
) -> tuple[Array, Array] | None:
    """b and c of neurons on f(x), as thresholds on x, float32 [L, …]; None where both vary along different axes.

    counts: where f(x) = θ·count − ψ, of each row; every count from 1 to L by default.
    """
    curve = curve_of(activation.kind, activation.parameters)
    if curve is None:
        return None
    threshold, shift = np.broadcast_arrays(*(np.asarray(tensor.values, np.float64) for tensor in node.inputs[1:3]))
    shape, slope = threshold.shape, np.asarray(activation.parameters.get("slope", 0.0))
    if slope.size > 1:
        trimmed = slope.reshape(slope.shape[next(k for k, size in enumerate(slope.shape) if size > 1) :])
        if threshold.size == 1:
            shape = trimmed.shape
        elif threshold.shape[-trimmed.ndim :] != trimmed.shape or threshold.size != slope.size:
            return None
    steps = np.arange(1, int(node.attrs["levels"])) if counts is None else np.asarray(counts)
    rising, falling = curve.crossings(steps[:, None] * threshold.ravel() - shift.ravel())
    return rising.reshape(-1, *shape), falling.reshape(-1, *shape)


def neurons_of(graph: gs.Graph, total: float) -> dict[str, Affine | None]:
    """Scale and offset of the spikes of each neuron of a folded graph, by its output, for graph.trains.

    total: L_T, or 1 for those of counts.
    """
    found = {}
    for node in graph.nodes:
        if node.op in operators.FOLDED_NEURONS:
            parts = [np.asarray(tensor.values) for tensor in node.inputs[1:]]
            shapes = [part.shape for part in parts]
            if node.op == operators.THRESHOLD_NEURON:
                shapes[:2] = [shape[1:] for shape in shapes[:2]]
            rank = rank_of(node.inputs[0])
            along = rank is None or any(len(shape) == rank and shape[0] > 1 for shape in shapes)
            found[node.outputs[0].name] = None if along else neuron_affine(parts[2], parts[3], total, rank or 0)
    return found


def settle_pooling(graph: gs.Graph) -> gs.Graph:
    """Neurons of the phase code in front of max poolings, in place: behind them, or behind them once more.

    Phase trains are not nested, so that the maximum of each step would not be the train of the maximum. A neuron right
    in front of a pooling moves behind it, if its thresholds are even: max A·n(x) + o = A·n(max x) + o. Where they are
    not, or spikes are moved on their way to the pooling, neurons behind it send its counts again:
    n = floor((A·n + o + A/2 − o)/A). Both are exact, for amplitudes from 0 up that do not vary within the window.
    """
    infer_shapes(graph)
    coding = next((node.attrs["coding"] for node in graph.nodes if node.op in operators.FOLDED_NEURONS), "rate")
    if coding == "phase":
        names = names_of(graph)
        _move_behind_pooling(graph, names)
        infer_shapes(graph)
        _send_again_behind_pooling(graph, names)
    return graph.cleanup(remove_unused_graph_inputs=False).toposort()


def _move_behind_pooling(graph: gs.Graph, names: Names) -> None:
    for node in list(graph.nodes):
        neuron = node.inputs[0].inputs[0] if is_maximum(node) and node.inputs[0].inputs else None
        if neuron is None or neuron.op != operators.FOLDED_NEURON:
            continue
        rank, parts = rank_of(neuron.inputs[0]), [np.asarray(tensor.values) for tensor in neuron.inputs[1:]]
        if rank is None or len(node.outputs) != 1 or not (parts[2] >= 0).all():
            continue
        if any(neuron_affine(one, two, 1, rank).varying - {1} for one, two in (parts[:2], parts[2:])):
            continue
        y = node.outputs[0]
        node.inputs[0] = neuron.inputs[0]
        node.outputs[0] = gs.Variable(names.fresh(f"{y.name}/current"), y.dtype, y.shape)
        inputs, name = [node.outputs[0], *neuron.inputs[1:]], names.fresh(neuron.name + POOLED)
        graph.nodes.append(gs.Node(neuron.op, name, dict(neuron.attrs), inputs, [y], domain=SPIKING_DOMAIN))
    graph.toposort()


def _send_again_behind_pooling(graph: gs.Graph, names: Names) -> None:
    trains = Trains(neurons_of(graph, 1.0))
    first = next(node for node in graph.nodes if node.op in operators.FOLDED_NEURONS)
    steps, coding = first.attrs["time_steps"], first.attrs["coding"]
    for node in list(graph.nodes):
        if trains.take(node) is not Way.POOL:
            continue
        y = node.outputs[0]
        affine = trains.known[y.name].affine
        assert affine is not None  # what Way.POOL means
        amplitude, offset = affine.scale[0], affine.offset[0]
        step = np.where(amplitude > 0, amplitude, np.float32(1))
        values = {"threshold": step, "shift": amplitude / 2 - offset, "amplitude": amplitude, "offset": offset}
        node.outputs[0] = gs.Variable(names.fresh(f"{y.name}/pooled"), y.dtype, y.shape)
        parts = [
            gs.Constant(names.fresh(f"{y.name}/{k}"), np.ascontiguousarray(v, np.float32)) for k, v in values.items()
        ]
        attributes = {"time_steps": steps, "levels": levels_of(steps, coding), "coding": coding}
        neuron = gs.Node(operators.FOLDED_NEURON, names.fresh(node.name + NEURONS), attributes, domain=SPIKING_DOMAIN)
        neuron.inputs, neuron.outputs = [node.outputs[0], *parts], [y]
        graph.nodes.append(neuron)
    graph.toposort()
