"""What BatchNormalization knows of the data that a network was trained on, and a network that is matched to other data.

    BN(t) = (t − μ)·γ/√(σ² + ε) + β      over that data BN(t) has mean β and deviation γ, a channel

On other inputs t has other moments. With μ, σ² measured on those instead, BN(t) has mean β and deviation γ again: the
*matched* network's activations are spread on made-up inputs as the given network's are on its own data. So thresholds
that are fitted to the matched network fit the given one. Corrections of weights are carried over by the ratio of the
folded weights, W/W': an error of the inputs costs the given network W·δ where it costs the matched one W'·δ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.im2col import geometry, to_matrix
from graphpass.errors import PlanError
from graphpass.graph.edit import Editor
from graphpass.graph.layers import WeightLayer, weight_layers
from graphpass.graph.names import Names, names_of
from graphpass.graph.plan import LayerPlan, Plan
from graphpass.graph.weights import floats_of, is_op, values_of

Array = NDArray[np.float64]

SMALLEST_VARIANCE = 1e-8  # of what does not vary on the made-up inputs


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of each channel of what a BatchNormalization reads, float64 [C]."""

    mean: Array
    variance: Array


def batch_norms(graph: gs.Graph) -> list[gs.Node]:
    """The BatchNormalization nodes that normalise each channel by constants, and whose input's rank is known."""
    return [
        node
        for node in graph.nodes
        if is_op(node, "BatchNormalization")
        and not node.attrs.get("training_mode", 0)
        and node.attrs.get("spatial", 1)
        and len(node.inputs[0].shape or ()) >= 2
        and all(floats_of(tensor) is not None for tensor in node.inputs[1:5])
    ]


def use_batch_statistics(graph: gs.Graph) -> dict[str, tuple[str, str]]:
    """Let every BatchNormalization normalise by the batch that is run; the statistics become the graph's outputs.

    Returns the outputs' names by the name of what the node makes: mean and variance over all axes but that of channels.
    """
    edit = Editor(graph)
    outputs, names = [], {}
    for number, node in enumerate(batch_norms(graph)):
        x, y = node.inputs[0], node.outputs[0]
        rank, dtype = len(x.shape), node.inputs[1].values.dtype
        builder = _NormBuilder(edit.names, f"statistics/{number}", dtype, [0, *range(2, rank)], [])
        shape = (-1, *[1] * (rank - 2))
        scale, shift = (builder.constant(part, node.inputs[k].values.reshape(shape)) for k, part in _AFFINE)
        epsilon = builder.constant("epsilon", np.array(node.attrs.get("epsilon", 1e-5), dtype))
        edit.remove(node)
        mean = builder.average(x)
        centred = builder.add("Sub", x, mean)
        variance = builder.average(builder.add("Mul", centred, centred))
        deviation = builder.add("Sqrt", builder.add("Add", variance, epsilon))
        scaled = builder.add("Mul", builder.add("Div", centred, deviation), scale)
        builder.nodes.append(gs.Node("Add", f"statistics/{number}/last", {}, [scaled, shift], [y]))
        for made in builder.nodes:
            edit.insert_before(node, made)
        outputs += [mean, variance]
        names[y.name] = (mean.name, variance.name)
    edit.finish()
    graph.outputs = outputs
    return names


_AFFINE = ((1, "scale"), (2, "shift"))  # inputs of a BatchNormalization


@dataclass(frozen=True)
class _NormBuilder:
    """New nodes of one normalisation, in order."""

    names: Names
    name: str
    dtype: np.dtype[np.floating]
    axes: list[int]
    nodes: list[gs.Node]

    def constant(self, part: str, values: NDArray[Any]) -> gs.Constant:
        return gs.Constant(self.names.fresh(f"{self.name}/{part}"), values)

    def add(self, op: str, *inputs: gs.Tensor) -> gs.Variable:
        name = self.names.fresh(f"{self.name}/{len(self.nodes)}")
        output = gs.Variable(name, self.dtype)
        self.nodes.append(gs.Node(op, name, {}, list(inputs), [output]))
        return output

    def average(self, x: gs.Tensor) -> gs.Variable:
        return self.add("ReduceMean", x, self.constant("axes", np.array(self.axes)))


def match(graph: gs.Graph, moments: Mapping[str, Moments]) -> None:
    """Give the normalisations of a graph these means and variances, by the name of what the node makes."""
    names = names_of(graph)
    for node in batch_norms(graph):
        known = moments[node.outputs[0].name]
        for k, values in ((3, known.mean), (4, np.maximum(known.variance, SMALLEST_VARIANCE))):
            name = names.fresh(f"{node.outputs[0].name}/matched_{k}")
            node.inputs[k] = gs.Constant(name, values.astype(node.inputs[k].values.dtype))


def carried_over(plan: Plan, matched: gs.Graph, given: gs.Graph) -> Plan:
    """The plan of a matched network for the given one, both normalised: sites as they are, weights by W/W'.

    ΔW = ΔW'·W/W', Δb = Δb'·‖W‖/‖W'‖ a channel.
    """
    old = {layer.node.name: layer for layer in weight_layers(matched)}
    new = {layer.node.name: layer for layer in weight_layers(given)}
    layers = tuple(_carried(layer, old[layer.name], new[layer.name]) for layer in plan.layers)
    return replace(plan, layers=layers)


def _carried(change: LayerPlan, matched: WeightLayer, given: WeightLayer) -> LayerPlan:
    old, new = (np.asarray(values_of(layer.weight), np.float64) for layer in (matched, given))
    if np.array_equal(old, new):
        return change
    ratio = np.divide(new, old, out=np.zeros_like(new), where=old != 0)
    weight = new + (np.asarray(change.weight, np.float64) - old) * ratio
    shape = geometry(given)
    if isinstance(shape, str):
        raise PlanError(f"layer {change.name!r} has new weights, though {shape}", "report this")
    before, after = (np.linalg.norm(to_matrix(values, shape), axis=1).ravel() for values in (old, new))
    factor = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    return LayerPlan(change.name, weight.astype(given.weight.dtype), (change.bias_change * factor).astype(np.float32))


def lookup_rows(graph: gs.Graph) -> dict[str, int]:
    """Rows of the constant table that an input of the graph looks up, by the input's name."""
    found: dict[str, int] = {}
    for tensor in graph.inputs:
        stack, seen = [tensor], set()
        while stack:
            for node in stack.pop().outputs:
                if id(node) in seen:
                    continue
                seen.add(id(node))
                table = node.inputs[0] if is_op(node, "Gather") else None
                if isinstance(table, gs.Constant) and len(table.shape) >= 2 and not node.attrs.get("axis", 0):
                    found[tensor.name] = min(int(table.shape[0]), found.get(tensor.name, int(table.shape[0])))
                elif is_op(node, "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
                    stack.extend(node.outputs)
    return found
