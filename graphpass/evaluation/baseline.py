"""The baseline: the ANN with every site's output rounded to a number of levels between its least and largest value.

    q = clip(round(x / s) + z, 0, L)            y = s·(q − z)
    s = (max(high, 0) − min(low, 0)) / L        z = round(−min(low, 0) / s)

Asymmetric unsigned quantisation, one scale a tensor and zero exact, as onnxruntime.quantization's min-max calibration
does it. It is the folded neuron with θ = A = s, ψ = s·(z + 1/2), o = −s·z (ties round up, there to even).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.forms.folded import neuron_node
from graphpass.graph.names import names_of
from graphpass.graph.plan import SitePlan


class Ranged(Protocol):
    """A site and the least and largest value of its activation."""

    @property
    def name(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def lowest(self) -> float: ...
    @property
    def highest(self) -> float: ...


def quantise_sites(
    graph: gs.Graph, sites: Sequence[Ranged], levels: Mapping[str, int], time_steps: int, coding: str
) -> gs.Graph:
    """Puts rounding behind each site's output, in place; returns the graph, sorted. levels: by the name of the site.

    time_steps and coding only fill in attributes of the nodes that compute the rounding.
    """
    tensors, names = graph.tensors(), names_of(graph)
    for site in sites:
        x = tensors[site.output]
        y = gs.Variable(names.fresh(f"{site.output}/quantised"), x.dtype, x.shape)
        for node in list(x.outputs):
            node.inputs = [y if tensor is x else tensor for tensor in node.inputs]
        graph.nodes.append(neuron_node(rounding(site, levels[site.name]), time_steps, coding, x, y, names))
    return graph.toposort()


def rounding(site: Ranged, levels: int) -> SitePlan:
    """Min-max rounding of a site's output to `levels` levels, as neurons."""
    low, high = min(site.lowest, 0.0), max(site.highest, 0.0)
    scale = float(np.float32((high - low) / (levels - 1))) or 1.0
    zero = round(-low / scale)
    values = (scale, scale * (zero + 0.5), scale, -scale * zero)
    threshold, shift, amplitude, offset = (np.array([value], np.float32) for value in values)
    name, output = f"{site.name}/baseline", site.output
    arrays = (threshold, shift, amplitude, offset)
    return SitePlan(name, "identity", output, f"{output}/quantised", (), (1,), levels, *arrays)
