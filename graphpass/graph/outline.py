"""A network in few nodes, to be drawn: its inputs, sites, weight layers, the nodes where branches join, its outputs.

A node that has one of these in front of it, or none, is left out, and what reads it is drawn behind that one: poolings,
reshapes, and the arithmetic of an activation that reads a single x. What computes sizes carries no data.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.layers import Known, holds_weights
from graphpass.graph.names import site_of

MOST_NODES = 400  # beyond it, weight layers are left out, too
LONGEST = 200  # characters of a name
LARGEST = 1200  # beyond it nothing is drawn
SIZES = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class OutlineNode:
    """kind: input, site, layer, meeting or output. site: the name of its site, empty unless it has neurons."""

    name: str
    kind: str
    op: str
    site: str = ""


@dataclass(frozen=True)
class Outline:
    """edges: from and to, places in nodes; they lead forward. layers: whether weight layers are among the nodes."""

    nodes: tuple[OutlineNode, ...]
    edges: tuple[tuple[int, ...], ...]
    layers: bool = True


def outline_of(graph: gs.Graph, sites: Collection[str]) -> Outline | None:
    """The outline of a graph in any form, sorted; None where it is too large to be drawn.

    sites: their names; `graph.names.site_of` finds their neurons.
    """
    for layers in (True, False):
        found = _Outliner(graph, sites, layers).outline()
        if len(found.nodes) <= MOST_NODES:
            return found
    return found if len(found.nodes) <= LARGEST else None


class _Outliner:
    """One walk over sorted nodes. made: which nodes of the outline a tensor comes from, by name."""

    def __init__(self, graph: gs.Graph, sites: Collection[str], layers: bool):
        self._graph, self._sites, self._layers = graph, sites, layers
        self._nodes: list[OutlineNode] = []
        self._edges: list[tuple[int, ...]] = []
        self._made: dict[str, tuple[int, ...]] = {}
        self._known = Known()

    def outline(self) -> Outline:
        for tensor in self._graph.inputs:
            self._made[tensor.name] = self._add(OutlineNode(tensor.name, "input", ""), ())
        for node in self._graph.nodes:
            before = self._before(node.inputs) if node.op not in SIZES else ()
            made = self._kept(node, before)
            self._made.update({tensor.name: made for tensor in node.outputs})
        for tensor in self._graph.outputs:
            self._add(OutlineNode(tensor.name, "output", ""), self._before([tensor]))
        return Outline(tuple(self._nodes), tuple(self._edges), self._layers)

    def _before(self, tensors: Iterable[gs.Tensor]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(number for tensor in tensors for number in self._made.get(tensor.name, ())))

    def _kept(self, node: gs.Node, before: tuple[int, ...]) -> tuple[int, ...]:
        site = site_of(node.name, self._sites) if node.domain == SPIKING_DOMAIN else None
        if site is not None:
            return self._add(OutlineNode(node.name, "site", node.op, site), before)
        if len(before) > 1:
            return self._add(OutlineNode(node.name, "meeting", node.op), before)
        if before and self._layers and holds_weights(node, self._known):
            return self._add(OutlineNode(node.name, "layer", node.op), before)
        return before

    def _add(self, node: OutlineNode, before: tuple[int, ...]) -> tuple[int, ...]:
        number = len(self._nodes)
        self._nodes.append(replace(node, name=node.name[-LONGEST:]))
        self._edges.extend((each, number) for each in before)
        return (number,)
