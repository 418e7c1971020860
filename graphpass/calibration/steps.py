"""The steps of calibration: which layers are corrected together, towards which tensor, for which site."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.im2col import geometry
from graphpass.forms.folded import has_constant_bias
from graphpass.graph.edit import held_names
from graphpass.graph.layers import WeightLayer, rank_of, weight_layers
from graphpass.sites.sites import Site

Array = NDArray[Any]


@dataclass(frozen=True)
class Step:
    """A site, a weight layer that no site follows, or a site with the layers whose sum is its pre-activation.

    target: the tensor that is sampled: the site's pre-activation or the layer's output. With layers, target is the sum
    of their outputs and of the addends.
    """

    target: str
    layers: tuple[WeightLayer, ...]
    site: Site | None
    addends: tuple[gs.Tensor, ...] = ()

    def activation(self, x: Array) -> Array | None:
        """a = f(x) where a rule of one line gives it: no site, an identity, a ReLU or a clip. None for all others."""
        kind = self.site.kind if self.site else "identity"
        if self.site is None or kind == "identity":
            return x
        if kind == "relu":
            return np.maximum(x, 0)
        if kind == "clip":
            low, high = (x.dtype.type(self.site.parameters[end]) for end in ("low", "high"))
            return np.clip(x, low, high)
        return None

    def __str__(self) -> str:
        return f"site {self.site.name!r}" if self.site else f"layer {self.layers[0].node.name!r}"


def steps_of(graph: gs.Graph, sites: Sequence[Site], correct: bool) -> list[Step]:
    """Sites and, if they are to be corrected, weight layers, in the order of their targets.

    A layer goes with the site that it feeds. So a site comes before everything else that reads its pre-activation, and
    the layers in front of it run there first. A layer whose features lie along another axis than the site's channels
    stays as it is.
    """
    position = {t.name: number for number, node in enumerate(graph.nodes) for t in node.outputs}
    tensors = graph.tensors()
    lossless = {site.input for site in sites if "steps" in site.parameters}
    site_inputs = {site.input for site in sites}
    feeding: dict[str, list[WeightLayer]] = {}
    alone: list[Step] = []
    if correct:
        shared, held = _shared_weights(graph), held_names(graph)
        for layer in weight_layers(graph):
            if 0 in (layer.output.shape or ()):
                continue
            if layer.weight.name in shared or not has_constant_bias(layer) or isinstance(geometry(layer), str):
                continue
            target = _target(layer, site_inputs, held)
            if target not in site_inputs:
                alone.append(Step(target, (layer,), None))
            elif target not in lossless:
                feeding.setdefault(target, []).append(layer)
    together = []
    for site in sites:
        rank = rank_of(tensors[site.input])
        layers = tuple(each for each in feeding.pop(site.input, ()) if _is_along(each.output_axis, site.axis, rank))
        addends = _addends(tensors[site.input], layers) if layers else ()
        together.append(Step(site.input, layers, site, addends))
    return sorted([*alone, *together], key=lambda s: position.get(s.target, -1))  # -1: an input of the network


def _is_along(one: int, other: int | None, rank: int | None) -> bool:
    """Whether two axes of a tensor of this rank are the same."""
    return other is not None and (one == other or (rank is not None and one % rank == other % rank))


def _target(layer: WeightLayer, site_inputs: set[str], held: frozenset[str]) -> str:
    """The site input that the layer's output becomes by additions alone; else the output itself.

    held: names of tensors that are read elsewhere, too: what is added to them later is not theirs to make up for.
    """
    tensor = layer.output
    while tensor.name not in site_inputs:
        if tensor.name in held or len(tensor.outputs) != 1 or tensor.outputs[0].op != "Add":
            return str(layer.output.name)
        total = tensor.outputs[0].outputs[0]
        if total.shape is None or tensor.shape is None or list(total.shape) != list(tensor.shape):
            return str(layer.output.name)
        tensor = total
    return str(tensor.name)


def _addends(target: gs.Tensor, layers: Sequence[WeightLayer]) -> tuple[gs.Tensor, ...]:
    """What `target` is the sum of, besides the outputs of the layers (as _target followed them)."""
    ends = {layer.output.name for layer in layers}
    sums = {layer.output.name for layer in layers}  # tensors with a layer in them
    for layer in layers:
        tensor = layer.output
        while tensor.name != target.name:
            tensor = tensor.outputs[0].outputs[0]
            sums.add(tensor.name)
    addends: list[gs.Tensor] = []
    stack = [target]
    while stack:
        tensor = stack.pop()
        if tensor.name not in sums:
            addends.append(tensor)
        elif tensor.name not in ends:
            stack.extend(tensor.inputs[0].inputs)
    return tuple(addends)


def _shared_weights(graph: gs.Graph) -> set[str]:
    """Names of weights that more than one node reads: they stay as they are."""
    readers: dict[str, int] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant):
                readers[tensor.name] = readers.get(tensor.name, 0) + 1
    return {name for name, count in readers.items() if count > 1}
