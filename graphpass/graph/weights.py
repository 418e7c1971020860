"""Weight layers: Conv, ConvTranspose, Gemm and MatMul (with the Add that holds its bias), read and rescaled.

    y = W·x + b          scale_outputs   s·y + t = (s·W)·x + (s·b + t)
                         scale_inputs    W·(s·x + t) + b = (W·s)·x + (b + Σ W·t)

s and t have one value per output (input) channel. Arithmetic is float64; `write` casts back to
the weight's own dtype. A weight or bias is never edited: the layer gets a constant of its own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphpass.graph.domains import STANDARD_DOMAINS
from graphpass.graph.edit import Editor, used_once
from graphpass.graph.layers import WEIGHTS, WeightLayer

RANK_KEEPING_OPS = ("Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "Clip", "HardSwish",
                    "HardSigmoid", "Gelu", "BatchNormalization", "MaxPool", "AveragePool",
                    "GlobalAveragePool", "Softmax", "Concat")  # fmt: skip
BROADCASTING_OPS = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow")
FLOATS = tuple(np.dtype(name) for name in ("float16", "float32", "float64"))

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """What a layer computes, α and β multiplied in: float64 W, as stored; b [C_out] or None; add: Add of a MatMul."""

    layer: WeightLayer
    add: gs.Node | None
    weight: Array
    bias: Array | None

    @property
    def node(self) -> gs.Node:
        return self.layer.node

    @property
    def last(self) -> gs.Node:
        return self.add or self.node


def is_op(node: gs.Node, *ops: str) -> bool:
    """True for a node of the standard domain with one of these op types."""
    return node.op in ops and node.domain in STANDARD_DOMAINS


def floats_of(tensor: gs.Tensor) -> Array | None:
    """The values of a float16, float32 or float64 constant, as float64; None for anything else."""
    if not isinstance(tensor, gs.Constant) or tensor.dtype not in FLOATS:
        return None
    return np.asarray(values_of(tensor), np.float64)


def values_of(tensor: gs.Constant) -> NDArray[Any]:
    """The values of a constant of numpy's types; unlike `tensor.values`, the tensor does not keep a copy."""
    kept = tensor._values
    return np.asarray(kept.load() if isinstance(kept, LazyValues) else kept)


def producer(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.inputs[0] if len(tensor.inputs) == 1 else None


def ranks_of(graph: gs.Graph) -> dict[str, int]:
    """Number of axes of every tensor for which it is known: from its shape, or from the op that makes it."""
    tensors = graph.tensors().values()
    ranks = {each.name: len(each.shape) for each in tensors if each.shape is not None}
    for node in graph.nodes:
        inputs = [ranks.get(each.name) for each in node.inputs if not each.is_empty()]
        rank: int | None = None
        if is_op(node, "Gemm", "Flatten"):
            rank = 2
        elif is_op(node, "Conv", "ConvTranspose"):
            rank = inputs[1]
        elif is_op(node, *RANK_KEEPING_OPS) and inputs:
            rank = inputs[0]
        elif is_op(node, *BROADCASTING_OPS) and None not in inputs:
            rank = max(filter(None, inputs), default=0)
        if rank is not None and node.outputs:
            ranks.setdefault(node.outputs[0].name, rank)
    return ranks


def bias_of_add(node: gs.Node, channels: int) -> tuple[gs.Variable, Array] | None:
    """(x, b [channels]) of Add(x, b) where b varies on the last axis only; None for any other node."""
    if not is_op(node, "Add"):
        return None
    for x, constant in (node.inputs, reversed(node.inputs)):
        values = floats_of(constant)
        if values is None or not isinstance(x, gs.Variable):
            continue
        if values.size in (1, channels) and values.size == (values.shape or (1,))[-1]:
            return x, np.broadcast_to(values.reshape(-1), (channels,))
    return None


def read_weights(node: gs.Node, held: frozenset[str]) -> Weights | str:
    """The layer that `node` belongs to, or why its weights cannot be rewritten. node: one of WEIGHTS."""
    weight = floats_of(node.inputs[1])
    if weight is None:
        return "its weight is not a constant of float16, float32 or float64"
    layer = WeightLayer(node, 0, 1)
    if node.op == "MatMul":
        if weight.ndim != 2:
            return f"its weight has {weight.ndim} axes, not 2"
        follower = node.outputs[0].outputs[0] if used_once(node.outputs[0], held) else None
        found = bias_of_add(follower, layer.outputs) if follower is not None else None
        return Weights(layer, follower if found else None, weight, found[1] if found else None)
    if layer.transposes_data:
        return "it transposes its input"
    bias: Array | None = None
    if layer.bias is not None:
        bias = floats_of(layer.bias)
        if bias is None:
            return "its bias is not a constant of float16, float32 or float64"
        if bias.size not in (1, layer.outputs) or bias.size != (bias.shape or (1,))[-1]:
            return "its bias differs between rows"
        bias = np.broadcast_to(bias.reshape(-1), (layer.outputs,)) * layer.beta
    return Weights(layer, None, weight * layer.alpha, bias)


def layer_ending_at(tensor: gs.Tensor, held: frozenset[str]) -> Weights | str | None:
    """The weight layer whose result is `tensor`, why it cannot be rewritten, or None where there is none."""
    node = producer(tensor)
    if node is None:
        return None
    if is_op(node, "MatMul", "Gemm") and isinstance(node.inputs[1], gs.Variable):
        return None  # a product of two activations
    if is_op(node, *WEIGHTS):
        layer = read_weights(node, held)
        # A MatMul that is followed by its bias ends at the Add; here only the MatMul itself is asked for.
        return Weights(layer.layer, None, layer.weight, None) if isinstance(layer, Weights) and layer.add else layer
    if is_op(node, "Add"):
        for x in node.inputs:
            matmul = producer(x)
            if matmul is not None and is_op(matmul, "MatMul"):
                layer = read_weights(matmul, held)
                if isinstance(layer, Weights) and layer.add is node:
                    return layer
    return None


def scale_outputs(layer: Weights, scale: Array, shift: Array) -> tuple[Array, Array | None]:
    """W' = s·W, b' = s·b + t. scale s, shift t: [C_out]."""
    weight, kind, groups = layer.weight, layer.node.op, layer.layer.groups
    if kind == "ConvTranspose":
        split = weight.reshape(groups, -1, *weight.shape[1:])
        factor = scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
        scaled = (split * factor).reshape(weight.shape)
    elif kind == "Conv" or layer.layer.transposes_weight:
        scaled = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    else:
        scaled = weight * scale
    if layer.bias is None and not shift.any():
        return scaled, None
    return scaled, shift + (0 if layer.bias is None else layer.bias * scale)


def scale_inputs(layer: Weights, scale: Array, shift: Array) -> tuple[Array, Array | None]:
    """W' = W·s, b' = b + Σ W·t over input channels and taps. s, t: [C_in]; t = 0 for ConvTranspose."""
    weight, kind, groups = layer.weight, layer.node.op, layer.layer.groups
    if kind == "Conv":
        ones = (1,) * (weight.ndim - 2)
        split = weight.reshape(groups, -1, *weight.shape[1:])
        scaled = (split * scale.reshape(groups, 1, -1, *ones)).reshape(weight.shape)
        taps = split.reshape(*split.shape[:3], -1).sum(axis=-1)
        added = np.einsum("gmc,gc->gm", taps, shift.reshape(groups, -1)).reshape(-1)
    elif kind == "ConvTranspose":
        scaled, added = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)), np.zeros(layer.layer.outputs)
    elif layer.layer.transposes_weight:
        scaled, added = weight * scale, weight @ shift
    else:
        scaled, added = weight * scale[:, None], shift @ weight
    if layer.bias is None and not shift.any():
        return scaled, None
    return scaled, added + (0 if layer.bias is None else layer.bias)


def misfit(layer: Weights, weight: Array, bias: Array | None) -> str | None:
    """Why the dtype of the layer cannot hold these values (float16 ends at 65504); None if it can."""
    dtype = layer.node.inputs[1].dtype
    fits = all(np.all(np.abs(each) <= np.finfo(dtype).max) for each in (weight, bias) if each is not None)
    return None if fits else f"the folded weight or bias does not fit {dtype}"


def write(edit: Editor, layer: Weights, weight: Array, bias: Array | None) -> gs.Node:
    """Gives the layer this weight and bias, in the dtype of its weight, and returns its last node.

    A MatMul without an Add gets one when there is a bias.
    """
    node, dtype = layer.node, layer.node.inputs[1].dtype
    _set_constant(edit, node, 1, weight.astype(dtype), node.name + "_weight")
    if node.op == "Gemm":
        node.attrs.pop("alpha", None)
        node.attrs.pop("beta", None)
    if bias is None:
        return layer.last
    if node.op != "MatMul":
        _set_constant(edit, node, 2, bias.astype(dtype), node.name + "_bias")
        return node
    if layer.add is not None:
        index = next(k for k, each in enumerate(layer.add.inputs) if isinstance(each, gs.Constant))
        axes = max(len(layer.add.inputs[index].shape), 1)
        values = bias.astype(dtype).reshape(*(1,) * (axes - 1), -1)
        _set_constant(edit, layer.add, index, values, node.name + "_bias")
        return layer.add
    name = edit.names.fresh(node.name + "_add")
    output = node.outputs[0]
    node.outputs[0] = gs.Variable(edit.names.fresh(node.name + "_product"), output.dtype, output.shape)
    constant = gs.Constant(edit.names.fresh(node.name + "_bias"), bias.astype(dtype))
    add = gs.Node("Add", name, inputs=[node.outputs[0], constant], outputs=[output])
    edit.insert_after(node, add)
    return add


def _set_constant(edit: Editor, node: gs.Node, index: int, values: NDArray[Any], name: str) -> None:
    """Input `index` of the node becomes a constant of its own; an old name that nobody else uses is kept."""
    old = node.inputs[index] if index < len(node.inputs) else None
    if old is not None and old.name and len(old.outputs) == 1 and old.name not in edit.held:
        name = old.name
    else:
        name = edit.names.fresh(name)
    if old is None:
        node.inputs.append(gs.Constant(name, values))
    else:
        node.inputs[index] = gs.Constant(name, values)
