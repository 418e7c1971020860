"""Edits of a graph in one pass: nodes are inserted and removed, tensors joined, names made up.

An Editor is made at the start of a pass, and `finish` brings the graph's list of nodes up to date at its end. So the
cost of a pass is linear, however many edits it makes. Links between nodes and tensors change at once.
"""

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from graphpass.graph.names import Names, names_of


def held_names(graph: gs.Graph) -> frozenset[str]:
    """Names of tensors that are read outside the node list: graph outputs, and what subgraphs capture."""
    held = {tensor.name for tensor in graph.outputs}
    for subgraph in graph.subgraphs(recursive=True):
        held |= {tensor.name for node in subgraph.nodes for tensor in node.inputs}
        held |= {tensor.name for tensor in subgraph.outputs}
    return frozenset(held)


def tensors_read(node: gs.Node) -> Iterator[gs.Tensor]:
    """What a node reads; so do the bodies of If, Loop and Scan, by name."""
    yield from node.inputs
    for body in node.subgraphs():
        for inner in (body, *body.subgraphs(recursive=True)):
            yield from (tensor for reader in inner.nodes for tensor in reader.inputs)
            yield from inner.outputs


def used_once(tensor: gs.Tensor, held: frozenset[str]) -> bool:
    return len(tensor.outputs) == 1 and tensor.name not in held


class Editor:
    """held: names of the tensors that are read outside the node list."""

    def __init__(self, graph: gs.Graph):
        self.held = held_names(graph)
        self.names: Names = names_of(graph)
        self._graph = graph
        self._behind: dict[int, list[gs.Node]] = {}
        self._before: dict[int, list[gs.Node]] = {}
        self._gone: set[int] = set()

    def insert_after(self, node: gs.Node, new: gs.Node) -> None:
        """Insert `new` right behind `node`, so that the list of nodes stays sorted."""
        self._behind.setdefault(id(node), []).insert(0, new)

    def insert_before(self, node: gs.Node, new: gs.Node) -> None:
        """Insert `new` right in front of `node`."""
        self._before.setdefault(id(node), []).append(new)

    def remove(self, node: gs.Node) -> None:
        """Remove a node and its links to tensors."""
        node.inputs.clear()
        node.outputs.clear()
        self._gone.add(id(node))

    def bypass(self, node: gs.Node) -> None:
        """Every reader of the node's result reads its input instead."""
        x, y = node.inputs[0], node.outputs[0]
        for reader in list(y.outputs):
            for k, tensor in enumerate(reader.inputs):
                if tensor is y:
                    reader.inputs[k] = x
        self.remove(node)

    def take_over(self, maker: gs.Node, x: gs.Variable, node: gs.Node) -> None:
        """`maker` produces the node's result in place of x; other readers of x read that result."""
        y = node.outputs[0]
        self.remove(node)
        for reader in list(x.outputs):
            for k, tensor in enumerate(reader.inputs):
                if tensor is x:
                    reader.inputs[k] = y
        maker.outputs[next(k for k, tensor in enumerate(maker.outputs) if tensor is x)] = y

    def finish(self) -> None:
        """Bring the graph's list of nodes up to date."""
        nodes: list[gs.Node] = []
        stack = list(reversed(self._graph.nodes))
        opened: set[int] = set()
        while stack:
            node = stack.pop()
            around = (self._before.get(id(node)), self._behind.get(id(node)))
            if any(around) and id(node) not in opened:  # an inserted node may have neighbours that were inserted
                opened.add(id(node))
                before, behind = ([*each] if each else [] for each in around)
                stack += reversed([*before, node, *behind])
            elif id(node) not in self._gone:
                nodes.append(node)
        self._graph.nodes = nodes
        self._behind, self._before, self._gone = {}, {}, set()
