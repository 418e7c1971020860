"""c·x + d, a value each for a channel, as one BatchNormalization: what the network had before it was normalised.

    BN(x) = γ·(x − μ)/√(σ² + ε) + β        γ = c, β = d, μ = 0, σ² + ε = 1 in float32

onnxruntime makes a convolution of one tap of it, which works in blocks of channels; a product and a sum do not.
"""

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.edit import held_names
from graphpass.graph.layers import rank_of
from graphpass.graph.names import Names, names_of

EPSILON = 2.0**-16

Array = NDArray[np.float32]


def join_products_and_sums(graph: gs.Graph) -> None:
    """Replace every Mul by a constant with an Add of a constant behind it, in place.

    Both are float32, and vary along axis 1 of three or more, one of them at least: arithmetic with single numbers is a
    part of activations, which runtimes recognise. The Add alone reads the product.
    """
    held, names, before = held_names(graph), names_of(graph), len(graph.nodes)
    for node in list(graph.nodes):
        product = node.outputs[0] if node.outputs else None
        after = product.outputs[0] if product is not None and len(product.outputs) == 1 else None
        if product is None or after is None or product.name in held:
            continue
        if (node.op, after.op) == ("Mul", "Add") and not node.domain and not after.domain:
            _join(graph, names, node, after)
    if len(graph.nodes) > before:
        graph.nodes = [node for node in graph.nodes if node.outputs]
        graph.toposort()


def _join(graph: gs.Graph, names: Names, product: gs.Node, total: gs.Node) -> None:
    x, scale = _operands(product)
    inner, shift = _operands(total)
    if x is None or inner is None or scale is None or shift is None:
        return
    rank, shape = rank_of(inner), inner.shape
    if rank is None or rank < 3 or rank_of(x) != rank:
        return
    channels = shape[1] if shape else None
    if not isinstance(channels, int) or x.shape[1] != channels:
        return
    if not all(_along_channels(values, rank, channels) for values in (scale, shift)) or scale.size == shift.size == 1:
        return
    parts: dict[str, Array] = {"scale": scale, "shift": shift}
    parts |= {"mean": np.zeros(1, np.float32), "variance": np.full(1, 1 - EPSILON, np.float32)}
    constants = [
        gs.Constant(names.fresh(f"{product.name}/{part}"), np.resize(values, channels))
        for part, values in parts.items()
    ]
    node = gs.Node("BatchNormalization", names.fresh(f"{product.name}/normalise"), {"epsilon": EPSILON})
    node.inputs, node.outputs = [x, *constants], list(total.outputs)
    graph.nodes.append(node)
    for old in (product, total):
        old.inputs.clear()
        old.outputs.clear()


def _operands(node: gs.Node) -> tuple[gs.Variable | None, Array | None]:
    """The tensor and the constant that a node joins; None for what is not there."""
    constants = [tensor for tensor in node.inputs if isinstance(tensor, gs.Constant)]
    others = [tensor for tensor in node.inputs if not isinstance(tensor, gs.Constant)]
    if len(constants) != 1 or len(others) != 1 or constants[0].dtype != np.float32:
        return None, None
    return others[0], np.asarray(constants[0].values)


def _along_channels(values: Array, rank: int, channels: int) -> bool:
    """Whether values broadcast to a tensor of this rank as one value, or as one for each channel along axis 1."""
    shape = (1,) * (rank - values.ndim) + values.shape
    return values.ndim <= rank and all(size == 1 or (axis == 1 and size == channels) for axis, size in enumerate(shape))
