"""The folded form: one pass carries the count. Cost does not grow with T.

Every site's output f(x) is replaced by y = A·clip(floor((x + ψ)/θ), 0, L) + o, where f is curved by
y = A·clip(floor((f(x) + ψ)/θ), 0, L) + o with f as it stands in the network; compensated layers get their new weights.
Where a channel has a second neuron, y is the sum of y(x) and of its y(x − clip(x, low, high)).
"""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.errors import PlanError
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.layers import WeightLayer, weight_layers
from graphpass.graph.names import BEYOND, NEURONS, Names, names_of
from graphpass.graph.plan import LayerPlan, Plan, SitePlan
from graphpass.maths.outliers import bounds
from graphpass.maths.thresholds import Levels
from graphpass.sites.identities import place_identities

VALUE = "/activation"  # suffix of the tensor f(x) in front of a curved site's neurons


def fold(graph: gs.Graph, plan: Plan) -> gs.Graph:
    """Put the plan's neurons and weights into a normalised graph, in place; returns it, cleaned up and sorted.

    Raises PlanError when a site or layer of the plan is not in the graph.
    """
    layers = {layer.node.name: layer for layer in weight_layers(graph)}
    names = names_of(graph)
    for change in plan.layers:
        replace_weight(graph, names, _named(layers, change.name), change)
    for site in plan.sites:
        for name in site.layers if site.kind == "identity" else ():
            _named(layers, name)
    place_identities(graph, plan.sites)
    tensors = graph.tensors()
    graph.nodes.extend([node for site in plan.sites for node in _put_neurons(tensors, site, plan, names)])
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    return graph


def _named(found: dict[str, WeightLayer], name: str) -> WeightLayer:
    if name not in found:
        raise PlanError(f"the plan's layer {name!r} is not in the model", "use the plan with its own model")
    return found[name]


def _put_neurons(tensors: dict[str, gs.Tensor], site: SitePlan, plan: Plan, names: Names) -> list[gs.Node]:
    if site.input not in tensors or site.output not in tensors:
        raise PlanError(f"the plan's site {site.name!r} is not in the model", "use the plan with its own model")
    output, current = tensors[site.output], tensors[site.input]
    if site.scale == "activation":
        current = value_of(site, output, names)
    else:
        output.inputs.clear()
    return neuron_nodes(site, plan.time_steps, plan.coding, current, output, names)


def value_of(site: SitePlan, output: gs.Variable, names: Names) -> gs.Variable:
    """f(x) as a tensor of its own: the output's makers make that from now on, and the output has none."""
    value = gs.Variable(names.fresh(f"{site.output}{VALUE}"), output.dtype, output.shape)
    for node in list(output.inputs):
        node.outputs = [value if tensor is output else tensor for tensor in node.outputs]
    return value


def neuron_nodes(
    site: SitePlan, time_steps: int, coding: str, x: gs.Variable, y: gs.Variable, names: Names
) -> list[gs.Node]:
    """The folded neurons of a site as nodes from x to y, in order.

    The neurons' nodes have the site's name with /neuron, and /neuron/beyond, whatever others are called: evaluations
    know them by that, and they keep it when names are settled.
    """

    def neurons(ending: str, levels: Levels, current: gs.Variable, result: gs.Variable) -> gs.Node:
        shaped = site.shaped(levels)
        inputs = [current, *(constant(part + ending, getattr(shaped, part)) for part in Levels.__annotations__)]
        attributes = {"time_steps": time_steps, "levels": site.levels, "coding": coding}
        name = site.name + NEURONS + ending
        return gs.Node(operators.FOLDED_NEURON, name, attributes, inputs, [result], domain=SPIKING_DOMAIN)

    def constant(part: str, values: np.ndarray) -> gs.Constant:
        return gs.Constant(names.fresh(f"{site.name}/{part}"), np.ascontiguousarray(values))

    if site.beyond is None:
        return [neurons("", site.values, x, y)]

    def between(part: str) -> gs.Variable:
        return gs.Variable(names.fresh(f"{site.output}/{part}"), x.dtype, x.shape)

    above, inside, rest, near, far = map(between, ("above", "inside", "rest", "near", "far"))
    low, high = (end.reshape(site.shape).astype(x.dtype or np.float32) for end in bounds(site.values, site.levels))
    return [
        gs.Node("Max", names.fresh(f"{site.name}/above"), {}, [x, constant("low", low)], [above]),
        gs.Node("Min", names.fresh(f"{site.name}/inside"), {}, [above, constant("high", high)], [inside]),
        gs.Node("Sub", names.fresh(f"{site.name}/rest"), {}, [x, inside], [rest]),
        neurons("", site.values, x, near),
        neurons(BEYOND, site.beyond, rest, far),
        gs.Node("Add", names.fresh(f"{site.name}/sum"), {}, [near, far], [y]),
    ]


def replace_weight(graph: gs.Graph, names: Names, layer: WeightLayer, change: LayerPlan) -> list[gs.Node]:
    """Give a layer new weights and add to its bias; returns the nodes this added to the graph.

    They are row-major whatever the plan's array is: sums over it round by the order in memory, and a plan that was
    saved and read again has another order than one from the calibration. An array that is so already is not copied.
    """
    old = layer.weight
    if tuple(old.shape) != change.weight.shape:
        raise PlanError(
            f"the plan's weights of {layer.node.name!r} are {change.weight.shape}, the model's {tuple(old.shape)}",
            "use the plan with its own model",
        )
    layer.node.inputs[layer.weight_index] = gs.Constant(
        names.fresh(f"{layer.node.name}/weight"), np.asarray(change.weight, old.dtype, order="C")
    )
    return add_to_bias(graph, names, layer, change.bias_change) if np.any(change.bias_change) else []


def add_to_bias(graph: gs.Graph, names: Names, layer: WeightLayer, change: np.ndarray) -> list[gs.Node]:
    """b ← b + change (float [outputs]); a MatMul gets an Add behind it, which is returned.

    The Add's constant is [outputs], or [outputs, 1] where features lie along the last axis but one.
    """
    node, dtype = layer.node, layer.weight.dtype
    if node.op == "MatMul":
        output = node.outputs[0]
        inner = gs.Variable(names.fresh(f"{output.name}/product"), output.dtype, output.shape)
        node.outputs[0] = inner
        shaped = change.reshape(-1, *(1,) * (-1 - layer.output_axis))
        bias = gs.Constant(names.fresh(f"{node.name}/bias"), shaped.astype(dtype))
        addition = gs.Node("Add", names.fresh(f"{node.name}/add_bias"), {}, [inner, bias], [output])
        graph.nodes.append(addition)
        return [addition]
    old = layer.bias
    if old is None:
        new = change.astype(dtype)
    elif isinstance(old, gs.Constant):
        values = np.asarray(old.values, np.float32)
        new = (values + (change / layer.beta if layer.beta else 0.0)).astype(dtype)
    else:
        raise PlanError(f"the bias of {node.name!r} is computed at run time", "leave the layer uncompensated")
    constant = gs.Constant(names.fresh(f"{node.name}/bias"), new)
    if len(node.inputs) > 2:
        node.inputs[2] = constant
    else:
        node.inputs.append(constant)
    return []


def has_constant_bias(layer: WeightLayer) -> bool:
    """Whether add_to_bias can change this layer."""
    constant = isinstance(layer.bias, gs.Constant) and layer.beta != 0
    return layer.bias is None or constant
