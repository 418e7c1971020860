"""Where the nodes of a network are drawn: a row for each, and lanes for branches beside each other.

Lanes are found by grandalf, which draws layers by Sugiyama, Tagawa and Toda (IEEE Transactions on Systems, Man and
Cybernetics 11, 1981): nodes in layers, so that edges lead downward, with few crossings.
"""

from dataclasses import dataclass
from typing import Any

from grandalf.graphs import Edge, Graph, Vertex
from grandalf.layouts import SugiyamaLayout

from graphpass.graph.outline import Outline

ROUNDS = 3  # in which ways are ordered
MOST_STEPS = 6000  # of all edges together, from layer to layer: beyond it the drawing would take long and show nothing

Point = tuple[float, float]  # lane, row


@dataclass(frozen=True)
class Drawing:
    """nodes: a point for each. edges: a line for each, with a point in every layer. lanes: how many there are."""

    nodes: tuple[Point, ...]
    edges: tuple[tuple[Point, ...], ...]
    lanes: float


class _Box:
    """What grandalf wants to know of a node; it writes xy."""

    def __init__(self) -> None:
        self.w, self.h = 1.0, 1.0
        self.xy = (0.0, 0.0)


def drawing_of(outline: Outline) -> Drawing | None:
    """The rows and lanes of an outline; None where branches are too many to be drawn."""
    depths = _depths(outline)
    if sum(depths[end] - depths[start] for start, end in outline.edges) > MOST_STEPS:
        return None
    vertices = [Vertex(number) for number in range(len(outline.nodes))]
    for vertex in vertices:
        vertex.view = _Box()
    found = _Drawn([(0.0, 0.0)] * len(vertices), {})
    for part in Graph(vertices, [Edge(vertices[start], vertices[end]) for start, end in outline.edges]).C:
        layout = SugiyamaLayout(part)
        layout.xspace = 0
        layout.init_all(inverted_edges=[])
        layout.draw(ROUNDS)
        found.add(layout)
    points = [*found.nodes, *(point for line in found.edges.values() for point in line)]
    least = min((lane for lane, _ in points), default=0.0)
    nodes = tuple((lane - least, row) for lane, row in found.nodes)
    edges = tuple(tuple((lane - least, row) for lane, row in found.edges[each[0], each[1]]) for each in outline.edges)
    return Drawing(nodes, edges, 1 + max((lane for lane, _ in points), default=0.0) - least)


@dataclass
class _Drawn:
    """The parts of a network, one below the other. edges: by their nodes."""

    nodes: list[Point]
    edges: dict[tuple[int, int], list[Point]]
    rows: int = 0

    def add(self, layout: Any) -> None:
        """A row for each node, layer by layer; an edge that passes a layer passes it in the middle of its rows."""
        middles = []
        for layer in layout.layers:
            real = sorted((v for v in layer if isinstance(v, Vertex)), key=lambda v: float(v.view.xy[0]))
            for vertex in real:
                self.nodes[vertex.data] = (float(vertex.view.xy[0]), self.rows)
                self.rows += 1
            middles.append(self.rows - (len(real) + 1) / 2)
        for edge in layout.g.E():
            start, end = edge.v[0].data, edge.v[1].data
            ranks = range(layout.grx[edge.v[0]].rank + 1, layout.grx[edge.v[1]].rank)
            inner = [(float(layout.ctrls[edge][rank].view.xy[0]), middles[rank]) for rank in ranks]
            self.edges[start, end] = [self.nodes[start], *inner, self.nodes[end]]


def _depths(outline: Outline) -> list[int]:
    depths = [0] * len(outline.nodes)
    for start, end in outline.edges:  # sorted by their ends
        depths[end] = max(depths[end], depths[start] + 1)
    return depths
