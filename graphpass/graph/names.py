"""Names of nodes and tensors. Each graph has one authority on names, so that a new name never equals an old one.

    fresh(base)     base, or the first free one of base_1, base_2 …; it is taken from then on
    settle(graph)   different tensors, and different nodes, of the same name get different names
    site_of(…)      the site that a node of neurons belongs to: <site>/neuron, its second neurons …/beyond, and behind
                    max poolings …/pooled

The cost is linear in the size of the graph and in the number of new names.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.domains import SPIKING_DOMAIN

NEURONS = "/neuron"  # the ending that a site's name has for its neurons
BEYOND, POOLED = "/beyond", "/pooled"  # and further ones: of second neurons, and behind pooling


class Names:
    """The names of a graph and its subgraphs. Make one at the start of a pass, and take all new names from it."""

    def __init__(self, taken: set[str]):
        self._taken = taken
        self._next: dict[str, int] = {}

    def fresh(self, base: str) -> str:
        """`base`, or `base` with the first number that makes it new; the name is taken from now on."""
        name, number = base, self._next.get(base, 0)
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._next[base] = number
        self._taken.add(name)
        return name


class Stems:
    """Names that begin no other: <stem>/<what> is free for every what. names: those that are there."""

    def __init__(self, names: Iterable[str]):
        self._taken = {name[:end] for name in names for end in (*_slashes(name), len(name))}

    def fresh(self, base: str) -> str:
        """`base`, or `base` with a number, that neither is a name nor begins one; it is taken from then on."""
        number, name = 0, base
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name


def _slashes(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "/"]


def names_of(graph: gs.Graph) -> Names:
    """The names of every tensor and node of a graph and its subgraphs."""
    tensors = {tensor.name for each in _graphs(graph) for tensor in _tensors(each)}
    return Names(tensors | {node.name for each in _graphs(graph) for node in each.nodes})


def site_of(neurons: str, sites: Iterable[str]) -> str | None:
    """The site that a node of neurons belongs to, or None; a site may have several nodes.

    The name of a site may begin with the name of another site, even with one of the endings.
    """
    site = activation_of(neurons)
    return site if site is not None and site in sites else None


def activation_of(neurons: str) -> str | None:
    """The name of the activation that a node of neurons stands for, by the name of the node; None for other names."""
    name = re.sub(rf"({POOLED}(_\d+)?|{BEYOND})+$", "", neurons)
    return name.removesuffix(NEURONS) if name.endswith(NEURONS) else None


def settle(graph: gs.Graph) -> None:
    """Rename tensors and nodes in place until no two share a name, since a file knows them by their names alone.

    Of those that share a name, an input or output of the graph keeps it, else one in a subgraph, else a neuron, else a
    variable, else the first. Constants with the same name and equal values become one.
    """
    _settle_tensors(graph)
    _settle_nodes(graph)


def _settle_tensors(graph: gs.Graph) -> None:
    owners: dict[str, gs.Tensor] = {}
    clashing: list[gs.Tensor] = []
    for tensor in _by_precedence(graph):
        owner = owners.setdefault(tensor.name, tensor)
        if owner is not tensor and not _same_constant(owner, tensor):
            clashing.append(tensor)
    names = names_of(graph) if clashing else None
    renamed: set[int] = set()
    for tensor in clashing:
        if names and id(tensor) not in renamed:
            renamed.add(id(tensor))
            tensor.name = names.fresh(tensor.name)


def _by_precedence(graph: gs.Graph) -> Iterator[gs.Tensor]:
    """Every distinct tensor, in order of precedence. A tensor without a producer refers to the tensor of its name."""
    yield from (*graph.inputs, *graph.outputs)
    for inner in graph.subgraphs(recursive=True):
        yield from inner.inputs
        yield from (tensor for node in inner.nodes for tensor in node.outputs if not tensor.is_empty())
    made = [tensor for node in graph.nodes for tensor in node.outputs if not tensor.is_empty()]
    read = (tensor for node in graph.nodes for tensor in node.inputs)
    yield from made
    yield from (tensor for tensor in read if isinstance(tensor, gs.Constant) and not tensor.is_empty())


def _same_constant(one: gs.Tensor, other: gs.Tensor) -> bool:
    if not (isinstance(one, gs.Constant) and isinstance(other, gs.Constant)):
        return False
    if one._values is other._values:
        return True
    if one.dtype != other.dtype or tuple(one.shape) != tuple(other.shape):
        return False
    return not isinstance(one.dtype, int) and np.asarray(one.values).tobytes() == np.asarray(other.values).tobytes()


def _settle_nodes(graph: gs.Graph) -> None:
    seen: set[str] = set()
    names: Names | None = None
    for node in sorted(graph.nodes, key=lambda node: node.domain != SPIKING_DOMAIN):
        if node.name and node.name in seen:
            names = names or names_of(graph)
            node.name = names.fresh(node.name)
        seen.add(node.name)


def _graphs(graph: gs.Graph) -> list[gs.Graph]:
    return [graph, *graph.subgraphs(recursive=True)]


def _tensors(graph: gs.Graph) -> Iterator[gs.Tensor]:
    yield from (*graph.inputs, *graph.outputs)
    for node in graph.nodes:
        yield from (*node.inputs, *node.outputs)
