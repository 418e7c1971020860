"""Identity neurons, y ≈ x: they turn data of weight layers into spikes where activations alone do not feed the layers.

    nothing but analogue values            on the layer's data
    spikes and analogue values, copied     on each analogue part, in front of the Concat, Slice … that joins them
    spikes and analogue values, added      on the sum, so that the layer sees binary spikes

Tensors that depend on the network's inputs alone stay as they are.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

import onnx_graphsurgeon as gs

from graphpass.graph.edit import held_names
from graphpass.graph.layers import WeightLayer, copied_from, data_inputs, passes, weight_layer, weight_layers


def sources(tensor: gs.Tensor, outputs: Collection[str]) -> set[str]:
    """Where a tensor's values come from through passing operators: 'site', 'input' (the network's), 'analogue'."""
    found: set[str] = set()
    seen: set[int] = set()
    stack = [tensor]
    while stack:
        current = stack.pop()
        if id(current) in seen or isinstance(current, gs.Constant):
            continue
        seen.add(id(current))
        if current.name in outputs:
            found.add("site")
        elif not current.inputs:
            found.add("input")
        elif passes(current.inputs[0]) and (inner := data_inputs(current.inputs[0])):
            stack.extend(inner)
        else:  # a lookup in a constant table, too
            found.add("analogue")
    return found


def missing_identities(graph: gs.Graph, outputs: set[str]) -> dict[str, list[str]]:
    """Tensor → names of the weight layers that will see spikes alone if identity neurons replace it.

    outputs: names of the tensors that neurons make already.
    """
    held = held_names(graph)
    wanted: dict[str, list[str]] = {}
    for layer in weight_layers(graph):
        made_of = sources(layer.data, outputs)
        if made_of <= {"site"} or made_of == {"input"}:
            continue
        for tensor in _analogue_parts(layer, outputs, held) if "site" in made_of else [layer.data.name]:
            wanted.setdefault(tensor, []).append(layer.node.name)
    return wanted


def _analogue_parts(layer: WeightLayer, outputs: set[str], held: frozenset[str]) -> list[str]:
    """The tensors among those that a layer's data are copied from that are not spikes, by name.

    Where a copy has another reader, which has to see the analogue values, the data themselves are returned.
    """

    def sees_both(reader: gs.Node, tensor: gs.Tensor) -> bool:
        other = weight_layer(reader)
        return other is not None and other.data is tensor and sources(tensor, outputs) > {"site"}

    copying, entries = copied_from(layer, outputs)
    inside = {id(node) for node in copying}
    for tensor in (tensor for node in copying for tensor in node.outputs):
        readers = (reader for reader in tensor.outputs if id(reader) not in inside)
        if tensor.name in held or not all(sees_both(reader, tensor) for reader in readers):
            return [str(layer.data.name)]
    names = dict.fromkeys(str(node.inputs[number].name) for node, number in entries)
    return [name for name in names if name not in outputs]


def feeds_layers_alone(tensor: gs.Variable) -> bool:
    """Whether weight layers, and nothing else, read a tensor as their data."""
    layers = [weight_layer(node) for node in tensor.outputs]
    return bool(layers) and all(layer and layer.data is tensor for layer in layers)


class _Placed(Protocol):
    """The fields that Site and SitePlan share."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def input(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def layers(self) -> tuple[str, ...]: ...


def place_identities(graph: gs.Graph, sites: Iterable[_Placed]) -> None:
    """Insert the Identity node of each identity site behind its input, on the way to its layers. Sorts the graph."""
    tensors, nodes = graph.tensors(), {node.name: node for node in graph.nodes}
    for site in sites:
        if site.kind != "identity" or site.input not in tensors:
            continue
        x = tensors[site.input]
        y = gs.Variable(site.output, x.dtype, x.shape)
        for name in site.layers:
            layer = weight_layer(nodes[name]) if name in nodes else None
            if layer:
                for node, number in copied_from(layer, {site.input})[1]:
                    if node.inputs[number] is x:
                        node.inputs[number] = y
        graph.nodes.append(gs.Node("Identity", site.name, {}, [x], [y]))
    graph.toposort()
