"""The graphs that are run to prove that two forms of one network agree. All are cut at neurons and means over time.

    reference    the folded form F; each neuron's x and y, and all other tensors that are compared or fed, are outputs
    forced       the unrolled form U. Its neurons and means are computed and compared, but the nodes behind them are fed
                 with F's counts and F's means, so that each stretch is compared on equal inputs
    magnitudes   F's linear stretches with |W|, |b|, |u|: m = Σ|w|·|u| + |b|, which bounds the effect of rounding

A sum of any order: |fl(Σ w·u + b) − (Σ w·u + b)| ≤ γ_k·(Σ|w|·|u| + |b|), γ_k = k·u/(1 − k·u), k roundings on the
longest path (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 3.1 and 3.5).
Stretches of several linear nodes: their counts k add up, and m goes through all of them. A product below the smallest
normal number η is off by up to u·η, whatever its size (section 2.8), so m is at least η where numbers are multiplied.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphpass.forms import operators
from graphpass.forms.registry import standing_alone
from graphpass.forms.unrolled import MEAN
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.layers import SUMS, data_inputs, is_linear, is_maximum, moves, weight_layer
from graphpass.graph.names import Names, names_of
from graphpass.graph.shapes import infer_shapes
from graphpass.graph.types import is_float, is_number
from graphpass.graph.weights import values_of

SAME_NODE = 1024  # roundings granted to a node that both forms run on equal values but a runtime may fuse otherwise
LEAST = np.float32(2.0**-126)  # η of float32
UNKNOWN_SIZE = 1 << 16  # values under a mean, if its sizes are unknown


@dataclass(frozen=True)
class Cut:
    """A neuron of both forms, by name, and its tensors. y: its output in F; the other tensors are of U's run."""

    name: str
    x_folded: str
    y_folded: str
    x: str
    spikes: str
    count: str


@dataclass(frozen=True)
class RunningMean:
    """A mean over time: its tensor in F, and in U's run the computed mean and the input that F's value is fed to."""

    tensor: str
    computed: str
    fed: str


@dataclass(frozen=True)
class Forced:
    """U, cut open."""

    proto: onnx.ModelProto
    cuts: tuple[Cut, ...]
    means: tuple[RunningMean, ...]


def forced(unrolled: gs.Graph, folded: gs.Graph, coding: str) -> Forced:
    """Cut U at its neurons and means. F must be U folded back, or the graph that U was unrolled from."""
    graph = unrolled.copy()
    graph.toposort()
    tensors, reference, names = graph.tensors(), folded.tensors(), names_of(graph)
    neurons = {node.name: node for node in folded.nodes if node.op in operators.FOLDED_NEURONS}
    kept = {tensor.name for tensor in graph.outputs}
    inputs, outputs, added = list(graph.inputs), list(graph.outputs), []
    cuts, means = [], []
    for number, name in enumerate(_means(graph, reference)):
        own, fed = (
            tensors[name],
            gs.Variable(names.fresh(f"fed/mean/{number}"), tensors[name].dtype or np.float32, None),
        )
        _redirect(own, fed)
        inputs.append(fed)
        if name not in kept:
            outputs.append(own)
        means.append(RunningMean(counterpart(name, reference) or name, name, fed.name))
    for number, node in enumerate([n for n in graph.nodes if n.op in operators.TRAIN_NEURONS]):
        currents, spikes = node.inputs[0], node.outputs[0]
        dtype = currents.dtype or np.float32
        x = gs.Variable(names.fresh(f"seen/x/{number}"), dtype)
        whole = {"time_steps": node.attrs["time_steps"], "coding": coding}
        if node.attrs["input_steps"] == 1:
            added.append(gs.Node("Identity", x.name, {}, [currents], [x]))
        else:
            added.append(gs.Node(operators.TIME_MEAN, x.name, whole, [currents], [x], domain=SPIKING_DOMAIN))
        count, train = (gs.Variable(names.fresh(f"fed/{what}/{number}"), dtype) for what in ("count", "spikes"))
        _redirect(spikes, train)
        units = [gs.Constant(names.fresh(f"{count.name}/{v}"), np.array([v], np.float32)) for v in (1, 0.5)]
        attributes = {**node.attrs, "input_steps": 1}
        added.append(
            gs.Node(operators.TRAIN_NEURON, train.name, attributes, [count, *units], [train], domain=SPIKING_DOMAIN)
        )
        inputs.append(count)
        outputs += [x, spikes]
        twin = neurons[node.name]
        cuts.append(Cut(node.name, twin.inputs[0].name, twin.outputs[0].name, x.name, spikes.name, count.name))
    graph.nodes += added
    graph.inputs, graph.outputs = inputs, outputs
    return Forced(standing_alone(graph, coding), tuple(cuts), tuple(means))


def counterpart(name: str, reference: Mapping[str, gs.Tensor]) -> str | None:
    """F's tensor that a mean of U is equal to."""
    if name in reference:
        return name
    bare = re.sub(rf"{MEAN}(_\d+)?$", "", name)
    return bare if bare in reference else None


def _means(graph: gs.Graph, reference: Mapping[str, gs.Tensor]) -> list[str]:
    """Names of U's means that F has as tensors: behind each TimeMean, and behind the scaling that follows it."""
    found: dict[str, None] = {}
    for node in graph.nodes:
        if node.op != operators.TIME_MEAN:
            continue
        tensor = node.outputs[0]
        while counterpart(tensor.name, reference) is None and len(tensor.outputs) == 1:
            tensor = tensor.outputs[0].outputs[0]
        found[tensor.name] = None
    return list(found)


def _redirect(old: gs.Variable, new: gs.Variable) -> None:
    """Let all readers of a tensor read another."""
    for node in list(old.outputs):
        for number, tensor in enumerate(node.inputs):
            if tensor is old:
                node.inputs[number] = new


@dataclass(frozen=True)
class Magnitudes:
    """m of F's linear stretches. proto: None where nothing is linear. sources: inputs, tensors of F, fed with |u|.

    roundings: k of each target that proto computes, in the precision of sums; stored: roundings to their own type.
    narrow: the targets behind a float16 tensor, whatever type they have themselves. measured: sources that linear nodes
    read as values; others may be indices and shapes, which stay as they are.
    """

    proto: onnx.ModelProto | None
    sources: tuple[str, ...]
    roundings: Mapping[str, int]
    stored: Mapping[str, int]
    narrow: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()


def magnitudes(folded: gs.Graph, targets: Iterable[str], coding: str) -> Magnitudes:
    """The graph of magnitudes for the targets that linear nodes make."""
    graph = folded.copy()
    graph.toposort()
    infer_shapes(graph)
    names = names_of(graph)
    steps = max((n.attrs["time_steps"] for n in graph.nodes if n.op in operators.FOLDED_NEURONS), default=1)
    tensors = graph.tensors()
    counts: dict[str, tuple[int, int]] = {}
    narrow: set[str] = set()
    measured: set[str] = set()
    sources: dict[str, gs.Variable] = {tensor.name: tensor for tensor in graph.inputs}
    for node in list(graph.nodes):
        if node.op not in operators.FOLDED_NEURONS and _is_linear(node):
            before = [counts.get(tensor.name, (SAME_NODE, 4)) for tensor in data_inputs(node)]
            measured.update(tensor.name for tensor in data_inputs(node))
            own = _roundings(node)
            total = max((k for k, _ in before), default=0) + own, max((d for _, d in before), default=0) + 2
            counts.update({tensor.name: total for tensor in node.outputs})
            if any(_is_float16(tensor) or tensor.name in narrow for tensor in (*node.inputs, *node.outputs)):
                narrow |= {tensor.name for tensor in node.outputs}
            multiplies = not (node.op in SUMS or moves(node) or is_maximum(node))
            _make_absolute(node, names)
            if multiplies:
                _bound_below(graph, node, names)
            continue
        # A·n and + o in F; L·A, W·(L·A), Mul and Add in U: 8 at most beside the layers' own
        start = (8 + steps + 2, 6) if node.op in operators.FOLDED_NEURONS else (SAME_NODE, 4)
        for tensor in node.outputs:
            counts[tensor.name] = start
            sources[tensor.name] = tensor
        node.outputs.clear()
    wanted = [name for name in dict.fromkeys(targets) if name in tensors and name not in sources]
    graph.outputs = [tensors[name] for name in wanted]
    graph.inputs = list(sources.values())
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable):
            tensor.shape = None
            tensor.dtype = np.float32 if _is_float(tensor) else tensor.dtype
    proto = standing_alone(graph, coding) if wanted else None
    used = tuple(value.name for value in proto.graph.input) if proto else ()
    picked = {name: counts[name] for name in wanted}
    roundings, stored = ({name: found[part] for name, found in picked.items()} for part in (0, 1))
    return Magnitudes(proto, used, roundings, stored, frozenset(narrow.intersection(wanted)), frozenset(measured))


def _bound_below(graph: gs.Graph, node: gs.Node, names: Names) -> None:
    """Make the node's output at least η."""
    output, least = node.outputs[0], gs.Constant(names.fresh("least"), np.array(LEAST))
    inner = gs.Variable(names.fresh(f"{output.name}/unbounded"), output.dtype)
    node.outputs[0] = inner
    graph.nodes.append(gs.Node("Max", inner.name, {}, [inner, least], [output]))


def _is_float(tensor: gs.Tensor) -> bool:
    return tensor.dtype is None or is_float(tensor.dtype)


def _is_float16(tensor: gs.Tensor) -> bool:
    return is_float(tensor.dtype) and np.dtype(tensor.dtype) == np.float16


def _is_linear(node: gs.Node) -> bool:
    if not all(_is_float(tensor) for tensor in node.outputs) or node.attrs.get("mode") == "cubic":
        return False
    if not all(tensor.dtype is None or is_number(tensor.dtype) for tensor in data_inputs(node)):
        return False  # its input cannot be fetched, so it cannot be compared
    return weight_layer(node) is not None or is_linear(node) or is_maximum(node)


def _roundings(node: gs.Node) -> int:
    """Roundings on the longest path through a linear node, in either form; W·o in U's bias doubles a layer's."""
    layer = weight_layer(node)
    if layer:
        shape = layer.weight.shape
        summed = {"Conv": int(np.prod(shape[1:])), "ConvTranspose": int(np.prod(shape) // shape[1])}
        return 2 * summed.get(node.op, int(max(shape[-2:]))) + 6
    if node.op == "AveragePool":
        return int(np.prod(node.attrs["kernel_shape"])) + 1
    if node.op in ("GlobalAveragePool", "ReduceMean", "ReduceSum"):
        inner = node.inputs[0].shape[1:] if node.inputs[0].shape else [None]
        sizes = [size for size in inner if isinstance(size, int)]
        return int(np.prod(sizes)) + 1 if len(sizes) == len(inner) else UNKNOWN_SIZE
    return {"BatchNormalization": 6, "Resize": 64, "Upsample": 64}.get(node.op, len(node.inputs))


def _make_absolute(node: gs.Node, names: Names) -> None:
    """Make the node work on magnitudes: constants become absolute values in float32, differences become sums."""
    for number, tensor in enumerate(node.inputs):
        if isinstance(tensor, gs.Constant) and _is_float(tensor):
            values = np.asarray(np.abs(np.asarray(values_of(tensor), np.float32)))
            if node.op == "BatchNormalization" and number == 3:
                values = np.asarray(-values)
            node.inputs[number] = gs.Constant(names.fresh(f"{tensor.name}/absolute"), values)
    node.op = {"Sub": "Add", "Neg": "Identity"}.get(node.op, node.op)
    for name in ("alpha", "beta"):
        if name in node.attrs:
            node.attrs[name] = abs(node.attrs[name])
    if node.op == "Cast":
        node.attrs["to"] = onnx.TensorProto.FLOAT
