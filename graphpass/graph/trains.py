"""Which tensors are trains of spikes, and how each node treats them.

A tensor is *static*, [N, …] and the same at every step, or a *train*, [T·N, …]. A walk through the sorted nodes decides
for each node what it does with the trains among its inputs:

    FIRE     neurons: static or train in, a train of spikes out
    ABSORB   arithmetic with a constant: part of the train's scale and offset
    MOVE     spikes move with their scale and offset, or a train is averaged over positions
    JOIN     a Concat of trains
    POOL     max pooling of nested trains of one scale and offset a channel: exact at each step
    LAYER    a weight layer that sees binary spikes alone, with their scale and offset in its weights: additions
    SUM      other nodes that are linear in time: step by step on real numbers
    SHAPE    the shape of a train
    REST     all other nodes, also weight layers whose input is no longer spikes: on the mean over time

Whether a layer is a LAYER follows from the graph and from the axes along which the parameters of neurons vary, not
from their values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import onnx_graphsurgeon as gs

from graphpass.graph.affine import Affine, arithmetic, fits, joined, through
from graphpass.graph.layers import is_maximum, moves, rank_of, weight_layer
from graphpass.graph.time_axis import ELEMENTWISE, keeps_steps_apart


class Way(Enum):
    """How a node treats trains."""

    FIRE = "fire"
    ABSORB = "absorb"
    MOVE = "move"
    JOIN = "join"
    POOL = "pool"
    LAYER = "layer"
    SUM = "sum"
    SHAPE = "shape"
    REST = "rest"


@dataclass(frozen=True)
class Train:
    """affine: scale and offset that are not applied yet, or None. spikes: whether it consists of spikes alone."""

    affine: Affine | None = None
    spikes: bool = False


class Trains:
    """What a walk has found so far. known: trains by the name of their tensor.

    neurons: scale and offset of the spikes that replace a tensor, by its name; None where their parameters vary along
    axis 0, where samples and time-steps lie. nested: whether a larger count spikes in all the steps in which a smaller
    count does, as in the rate code. Only then is the maximum of the spikes at each step that of the counts.
    """

    def __init__(self, neurons: Mapping[str, Affine | None], nested: bool = True):
        self._neurons, self._nested = neurons, nested
        self.known: dict[str, Train] = {}

    def take(self, node: gs.Node) -> Way:
        """How the next node treats the trains among its inputs; those of its outputs that are trains become known."""
        numbers = [k for k, tensor in enumerate(node.inputs) if tensor.name in self.known]
        if any(tensor.name in self._neurons for tensor in node.outputs):
            affine = self._neurons[node.outputs[0].name]
            return self._found(node, Way.FIRE if affine else Way.REST, [Train(affine, True)] if affine else [])
        if not numbers:
            return Way.REST
        first = self.known[node.inputs[numbers[0]].name]
        if node.op == "Shape":
            return Way.SHAPE if rank_of(node.inputs[0]) is not None else Way.REST
        if is_maximum(node):
            alike = first.spikes and len(node.outputs) == 1
            if self._nested and alike and first.affine and _pools_apart(first.affine):
                return self._found(node, Way.POOL, [first])
            return Way.REST
        if not keeps_steps_apart(node, numbers):
            return Way.REST
        layer = weight_layer(node)
        if layer:
            if not (first.spikes and first.affine and fits(layer, first.affine)):
                return Way.REST
            return self._found(node, Way.LAYER, [Train()])
        if len(numbers) == 1 and first.affine and (absorbed := arithmetic(node, first.affine)):
            return self._found(node, Way.ABSORB, [Train(absorbed, first.spikes)])
        if node.op == "Concat":
            parts = [self.known.get(tensor.name) for tensor in node.inputs]
            affines = [part.affine for part in parts if part and part.affine]
            affine = joined(node, affines) if len(affines) == len(parts) else None
            spikes = all(part and part.spikes for part in parts)
            return self._found(node, Way.JOIN if affine else Way.SUM, [Train(affine, bool(affine and spikes))])
        if node.op not in ELEMENTWISE and first.affine and (moved := through(node, first.affine)):
            spikes = first.spikes and moves(node)
            return self._found(node, Way.MOVE, [Train(affine, spikes) for affine in moved])
        return self._found(node, Way.SUM, [Train() for _ in node.outputs])

    def _found(self, node: gs.Node, way: Way, trains: list[Train]) -> Way:
        for tensor, train in zip(node.outputs, trains, strict=False):
            self.known[tensor.name] = train
        return way


def _pools_apart(affine: Affine) -> bool:
    """Whether the largest of several spikes is the largest value: one increasing function for each channel."""
    return not affine.varying - {1} and bool((affine.scale >= 0).all())
