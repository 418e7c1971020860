"""Where neurons go, and what stays analogue and why.

A site is an activation that feeds a weight layer, directly or through linear, shape-only or pooling operators.
Identity sites, on request, put neurons in front of other weight layers, too: sites.identities.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.errors import OptionError
from graphpass.graph.affine import Affine, neuron_affine
from graphpass.graph.channels import channel_axis
from graphpass.graph.domains import STANDARD_DOMAINS
from graphpass.graph.layers import (
    RECURRENT,
    Known,
    WeightLayer,
    draws,
    holds_weights,
    is_fixed,
    rank_of,
    reached_layers,
    weight_layer,
)
from graphpass.graph.names import names_of
from graphpass.graph.plan import Left
from graphpass.graph.shapes import infer_shapes
from graphpass.graph.trains import Train, Trains, Way
from graphpass.graph.types import type_name
from graphpass.maths.curves import Curve, curve_of
from graphpass.sites.activations import OPERATORS, Activation, Parameters, falling, find_activations
from graphpass.sites.identities import missing_identities, place_identities, sources

SUBGRAPH_OPS = frozenset("If Loop Scan SequenceMap".split())
TYPE_REFUSED = "activations are not converted"
EXCLUDED, NOT_INCLUDED = "excluded by --exclude", "not matched by --include"  # why a site was left
HOLDS = "; this one holds "  # what a body has that is left alone
SEQUENCE_OPS = frozenset(
    "SequenceConstruct SequenceInsert SequenceErase SequenceAt SplitToSequence ConcatFromSequence Optional "
    "OptionalGetElement".split()
)

UNREAD = {  # activations whose parameters may be more than neurons have
    "Clip": "its limits are computed or differ from value to value, or leave no range",
    "PRelu": "its slopes are computed, or vary along several axes",
}


FAR = 1000.0  # no clip is meant to end there: exporters write a large number, as 3.4e38, for a side that is open


@dataclass(frozen=True)
class Site:
    """One place for neurons, by the names of the normalised graph.

    input: x, in front of the activation; output: f(x), which the neurons replace for every reader.
    The output of an identity site is a new tensor that only the weight layers in `layers` read: see place_identities.
    axis: the channel axis, None for one set of parameters for the whole tensor.
    """

    name: str
    kind: str
    input: str
    output: str
    axis: int | None
    layers: tuple[str, ...]
    parameters: Mapping[str, float | np.ndarray] = field(default_factory=dict)

    @property
    def curve(self) -> Curve | None:
        """f, where levels are even on f(x) and not on x."""
        return curve_of(self.kind, self.parameters)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The two limits of a clip, such as 0 and 6 of ReLU6; None where a side is open, which FAR means, too."""
        low, high = self.window
        return (low, high) if self.kind == "clip" and max(-low, high) < FAR else None

    @property
    def window(self) -> tuple[float, float]:
        """The x that levels which are even on x are for: beyond them, f stays as it is there."""
        if self.kind == "clip":
            return float(self.parameters["low"]), float(self.parameters["high"])
        if self.kind != "hard_sigmoid" or not self.parameters["alpha"]:
            return -np.inf, np.inf
        alpha, beta = float(self.parameters["alpha"]), float(self.parameters["beta"])
        return -beta / alpha, (1 - beta) / alpha


def _slopes_axis(parameters: Parameters) -> int | None:
    """The axis, from the end, that the slopes of a PRelu vary along; None where they vary along none."""
    slope = np.asarray(parameters.get("slope", 0.0))
    return next((place - slope.ndim for place, size in enumerate(slope.shape) if size != 1), None)


@dataclass(frozen=True)
class Coverage:
    """Sites in topological order, what stays analogue, and how many weight layers see binary spikes alone.

    refused: of what stays analogue, the activations in front of weight layers.
    """

    sites: tuple[Site, ...]
    left: tuple[Left, ...]
    weight_layers: int
    spiking_layers: int
    refused: tuple[Left, ...] = ()

    @property
    def complete(self) -> bool:
        return all(entry.expected for entry in self.left)


def exactly(name: str) -> str:
    """The pattern of --include and --exclude that matches one name alone."""
    return f"^{re.escape(name)}$"


@dataclass(frozen=True)
class Selection:
    """Which sites to convert: regular expressions searched in node names; identity sites on request.

    Raises OptionError for a text that is not a regular expression, or one that is too deep or large for Python's re.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    identity_sites: bool = False

    def __post_init__(self) -> None:
        for pattern in (*self.include, *self.exclude):
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else error
                raise OptionError(
                    f"{_shortened(pattern)} is not a regular expression ({reason})", "see Python's re module"
                ) from error

    def refusal(self, name: str) -> str | None:
        """Why a site of this name is not selected; None if it is."""
        if any(re.search(pattern, name) for pattern in self.exclude):
            return EXCLUDED
        if self.include and not any(re.search(pattern, name) for pattern in self.include):
            return NOT_INCLUDED
        return None

    def require_effect(self, coverage: Coverage) -> None:
        """Raises OptionError unless every pattern matches a site that was found, or excludes one."""
        names = [site.name for site in coverage.sites]
        names += [entry.node for entry in coverage.left if entry.reason in (EXCLUDED, NOT_INCLUDED)]
        for option, patterns in (("--include", self.include), ("--exclude", self.exclude)):
            for pattern in patterns:
                if not any(re.search(pattern, name) for name in names):
                    raise OptionError(
                        f"{option} {pattern!r} matches no site", "see `graphpass inspect` for the names of sites"
                    )


def _shortened(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 100 else f"{pattern[:100]}…")


def find_sites(graph: gs.Graph, selection: Selection | None = None) -> Coverage:
    """Sites and coverage of a normalised graph. Names are unique; order is topological."""
    selection = selection or Selection()
    sites: list[Site] = []
    left: list[Left] = []
    refused: dict[str, Left] = {}  # by the layers that they feed
    activations = list(find_activations(graph))
    for activation in activations:
        layers = tuple(dict.fromkeys(layer.node.name for layer in reached_layers(activation.output)))
        axis = channel_axis(activation.input, activation.output)
        axis = _slopes_axis(activation.parameters) if axis is None else axis
        reason = _left_because(activation, layers, axis) or selection.refusal(activation.name)
        if reason:
            left.append(Left(activation.name, activation.kind, reason, True))
            refused.update(dict.fromkeys(layers, left[-1]))
        else:
            sites.append(
                Site(
                    activation.name,
                    activation.kind,
                    activation.input.name,
                    activation.output.name,
                    axis,
                    layers,
                    activation.parameters,
                )
            )
    more, unwanted = _identity_sites(graph, sites, selection)
    if selection.identity_sites:
        sites = _sorted(graph, [*sites, *more])
        left.extend(unwanted)
    driven = spike_driven(graph, sites)
    within_reach = set() if selection.identity_sites else {layer for site in more for layer in site.layers}
    left.extend(_left_layers(graph, driven, within_reach, refused))
    left.extend(_left_bodies(graph))
    left.extend(_left_operators(graph, activations))
    left.extend(unsteady(graph))
    known, nodes = Known(), [node for part in (graph, *graph.subgraphs(recursive=True)) for node in part.nodes]
    reached = sum(reason is None for reason in driven.values())
    unfit = tuple({entry.node: entry for entry in refused.values()}.values())
    return Coverage(tuple(sites), tuple(left), sum(holds_weights(node, known) for node in nodes), reached, unfit)


def _left_because(activation: Activation, layers: Sequence[str], axis: int | None) -> str | None:
    if not layers:
        return "its output reaches no weight layer as spikes (a gate, or the network's output)"
    if 0 in (activation.output.shape or ()):
        return "it holds no values at all"
    slopes, rank = _slopes_axis(activation.parameters), rank_of(activation.output)
    if slopes is not None and (rank is None or axis is None or slopes != axis % rank - rank):
        return "its slopes vary along an axis that is not known to be that of its channels: no thresholds a channel fit"
    return _wrong_type(activation.output) or falling(activation)


def _wrong_type(tensor: gs.Tensor) -> str | None:
    """Why neurons cannot replace this tensor: they take float32 and float16 alone. None if they can."""
    if tensor.dtype is None:
        return None
    name = type_name(tensor.dtype)
    return None if name in ("float16", "float32") else f"{name} {TYPE_REFUSED}"


def spike_driven(graph: gs.Graph, sites: Sequence[Site]) -> dict[str, str | None]:
    """For each weight layer of a sorted graph: None where its input is binary spikes alone, else the reason.

    sites: identity sites among them may be in the graph already (`place_identities`). The unrolled form treats the
    layer in the same way, since it uses the same walk (graph.trains).
    """
    graph = graph.copy()
    outputs = {tensor.name for node in graph.nodes for tensor in node.outputs}
    place_identities(graph, [site for site in sites if site.output not in outputs])
    infer_shapes(graph)
    tensors = graph.tensors()
    trains = Trains({site.output: _spikes_of(site, tensors[site.output]) for site in sites})
    made = {site.output for site in sites}
    reasons: dict[str, str | None] = {}
    for node in graph.nodes:
        layer, way = weight_layer(node), trains.take(node)
        if layer:
            train = trains.known.get(layer.data.name)
            reasons[node.name] = None if way is Way.LAYER else _analogue_because(layer, made, train)
    return reasons


def _spikes_of(site: Site, output: gs.Tensor) -> Affine | None:
    """Scale and offset of the site's neurons, with the right axes, without values; None where they vary by sample."""
    rank = rank_of(output)
    if rank is None:
        return None
    if site.kind == "qcfs":
        parts = [np.asarray(site.parameters[name], np.float32) for name in ("amplitude", "offset")]
        along = any(part.ndim == rank and part.shape[0] > 1 for part in parts)
        return None if along else neuron_affine(parts[0], parts[1], 1.0, rank)
    shape = [1] * rank
    if site.axis is not None and rank > 1:
        size = output.shape[site.axis % rank]
        shape[site.axis % rank] = size if isinstance(size, int) else 1
    return None if rank == 0 or shape[0] > 1 else Affine(np.ones(shape, np.float32), np.ones(shape, np.float32))


UNFED = "no activation feeds it"
PARTLY = "its input is partly spikes, partly analogue"


def _analogue_because(layer: WeightLayer, outputs: Collection[str], train: Train | None) -> str:
    origin = sources(layer.data, outputs)
    if origin == {"input"}:
        return "its input is the network's own analogue input"
    if "site" not in origin:
        return UNFED
    if origin != {"site"}:
        return PARTLY
    if train is None:
        return "its input is the mean of spikes over time: an operator before it mixes samples, or has unknown sizes"
    if not train.spikes:
        return "its input is sums or means of spikes, which are no spikes: multiply-and-adds"
    return "the scales of its spikes differ along other axes than its inputs: multiply-and-adds"


def _identity_sites(graph: gs.Graph, sites: Sequence[Site], selection: Selection) -> tuple[list[Site], list[Left]]:
    """Identity sites where neurons are missing, and those that cannot be or are not selected."""
    tensors, names = graph.tensors(), names_of(graph)
    added: list[Site] = []
    unwanted: list[Left] = []
    for tensor, layers in missing_identities(graph, {site.output for site in sites}).items():
        name = names.fresh(f"{tensor}/identity")
        reason = selection.refusal(name) or _wrong_type(tensors[tensor])
        if reason:
            unwanted.append(Left(name, "identity", reason, True))
            continue
        added.append(Site(name, "identity", tensor, name, channel_axis(tensors[tensor]), tuple(layers)))
    return added, unwanted


def _sorted(graph: gs.Graph, sites: Sequence[Site]) -> list[Site]:
    """Sites in topological order."""
    position = {tensor.name: number for number, node in enumerate(graph.nodes) for tensor in node.outputs}
    return sorted(sites, key=lambda s: position.get(s.input if s.kind == "identity" else s.output, -1))


def _left_layers(
    graph: gs.Graph, driven: Mapping[str, str | None], within_reach: Collection[str], refused: Mapping[str, Left]
) -> list[Left]:
    """Weight layers that spikes do not reach, and products that are no weight layers.

    within_reach: the layers that identity sites would put neurons in front of. refused: activations that are no sites,
    by the layers that they feed.
    """
    left, known = [], Known()
    for node in graph.nodes:
        layer = weight_layer(node)
        if layer:
            reason = driven[node.name]
            if reason == UNFED and node.name in refused:
                reason = f"the activation that feeds it, {refused[node.name].node!r}, stays analogue"
            if reason and node.name in within_reach:
                reason += f"; --identity-sites puts neurons in front of {'the rest' if reason == PARTLY else 'it'}"
            if reason:
                left.append(Left(node.name, node.op, reason, True))
        elif node.op in ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"):
            reason = "a product of two activations works on the mean over time"
            if node.op == "Einsum" and (holds_weights(node, known) or len(node.inputs) == 1):
                reason = "an Einsum works on the mean over time; written as a MatMul it could be spike-driven"
            elif any(isinstance(tensor, gs.Constant) and 0 in tensor.shape for tensor in node.inputs[:2]):
                reason = "its weights hold no values at all"
            elif any(is_fixed(tensor, known) for tensor in node.inputs[:2]):
                reason = "its weights are no matrix of float16, float32 or float64"
            elif node.op in ("Conv", "ConvTranspose"):
                reason = "its weights are computed as it runs; " + reason
            left.append(Left(node.name, node.op, reason, True))
    return left


def _left_bodies(graph: gs.Graph) -> list[Left]:
    left = []
    for node in graph.nodes:
        if node.op in SUBGRAPH_OPS:
            inside = [inner for body in node.subgraphs(recursive=True) for inner in body.nodes]
            active = sorted({inner.op for inner in inside if inner.op in _CONVERTIBLE or holds_weights(inner)})
            reason = "bodies of If, Loop and Scan are left alone"
            if held := sorted({*active, *(OPERATORS & {inner.op for inner in inside})}):
                advice = "export the branch in use alone" if node.op == "If" else "export it unrolled"
                reason += f"{HOLDS}{', '.join(held)} ({advice})"
            left.append(Left(node.name, node.op, reason, not active))
        elif node.op in RECURRENT:
            left.append(Left(node.name, node.op, "recurrent layers are not converted", False))
    return left


def _left_operators(graph: gs.Graph, activations: Iterable[Activation]) -> list[Left]:
    """Operators that contain an activation or weights, activations with parameters that neurons do not have, and
    operators on sequences, which spikes cannot pass."""
    known = {id(node) for activation in activations for node in activation.nodes}
    left = []
    for node in graph.nodes:
        if node.domain not in STANDARD_DOMAINS:
            weighted = any(
                isinstance(tensor, gs.Constant) and len(tensor.shape or ()) >= 2 for tensor in node.inputs
            )  # a matrix or a kernel
            if id(node) not in known and (weighted or "Gelu" in node.op or "activation" in node.attrs):
                reason = f"an operator of {node.domain} made of several (export the network without optimising it)"
                left.append(Left(node.name, node.op, reason, False))
        elif node.op in SEQUENCE_OPS:
            reason = "no spikes pass a sequence of tensors (use Split and Concat instead)"
            left.append(Left(node.name, node.op, reason, False))
        elif node.op in UNREAD and id(node) not in known:
            output = node.outputs[0]
            if not _wrong_type(output) and any(reached_layers(output)):
                left.append(Left(node.name, node.op, UNREAD[node.op], True))
        elif node.op == "DeformConv":
            left.append(Left(node.name, node.op, "a deformable convolution works on the mean over time", True))
    return left


def unsteady(graph: gs.Graph) -> list[Left]:
    """Nodes whose results differ from run to run, or depend on the other samples of the batch."""
    left = []
    for node in (node for part in (graph, *graph.subgraphs(recursive=True)) for node in part.nodes):
        if draws(node) and node.op == "Dropout":
            reason = f"in training mode, it drops other values at every run ({INFERENCE})"
        elif draws(node):
            reason = "random, it draws other numbers at every run"
        elif node.op == "BatchNormalization" and node.attrs.get("training_mode", 0):
            reason = f"in training mode, it normalises each batch by its own statistics ({INFERENCE})"
        else:
            continue
        left.append(Left(node.name, node.op, reason, True))
    return left


INFERENCE = "export the network in inference mode"
_CONVERTIBLE = frozenset("Relu LeakyRelu PRelu Clip Gelu HardSwish Elu Selu Conv Gemm".split())
