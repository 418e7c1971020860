"""Nodes at the borders of the integer form: where counts are made of floats, and floats of counts."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.integer.counting import Counting
from graphpass.forms.integer.quantised import quantised, scalar
from graphpass.forms.integer.sums import CountTerm
from graphpass.forms.integer.tensors import Encoding, Numbers, is_float32
from graphpass.graph.affine import Affine, neuron_affine
from graphpass.graph.layers import WeightLayer
from graphpass.graph.weights import values_of


def scaled_layer(layer: WeightLayer, transform: Affine, name: Callable[[str], str]) -> gs.Variable | None:
    """(layer + ψ)/θ − 1/2 as the new output of the layer's node; None where the layer cannot take that in.

    transform: θ and ψ, as `neuron_affine` makes it of a neuron's first two parameters. name: makes a name unique.
    """
    node = layer.node
    constant = layer.bias is None or isinstance(layer.bias, gs.Constant)
    if node.op != "Conv" or np.dtype(layer.weight.dtype) != np.float32 or transform.varying - {1} or not constant:
        return None
    output = node.outputs[0]
    weight = np.asarray(values_of(layer.weight), np.float64)
    theta, psi = (part.astype(np.float64) for part in transform.vectors(1, len(weight)))
    bias = 0.0 if layer.bias is None else np.asarray(layer.bias.values, np.float64)
    with np.errstate(over="ignore"):
        scaled = (weight / theta.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.float32)
        shifted = ((bias + psi) / theta - 0.5).astype(np.float32)
    if not (np.isfinite(scaled).all() and np.isfinite(shifted).all()):
        return None
    current = gs.Variable(name(f"{output.name}/scaled"), np.float32, output.shape)
    node.inputs = [
        node.inputs[0],
        gs.Constant(f"{current.name}/weight", scaled),
        gs.Constant(f"{current.name}/bias", shifted),
    ]
    node.outputs = [current]
    return current


def rounded_nodes(current: gs.Variable, counting: Counting, count: gs.Variable) -> list[gs.Node]:
    """count = round(clip(current, least, largest)), in the type of the count.

    In this order: onnxruntime would move a bare QuantizeLinear in front of a max pooling, where it is slow.
    """
    limited = gs.Variable(f"{count.name}/limited", np.float32, count.shape)
    ends = (("least", counting.least), ("most", counting.largest))
    limits = [scalar(f"{count.name}/{name}", end, np.float32) for name, end in ends]
    return [
        gs.Node("Clip", limited.name, {}, [current, *limits], [limited]),
        quantised(limited, 1, 0, count),
    ]


def as_float32(x: gs.Variable, count: gs.Variable, nodes: list[gs.Node]) -> gs.Variable:
    """x as float32, by a node behind `nodes` where it is not known to be that."""
    if is_float32(x):
        return x
    single = gs.Variable(f"{count.name}/single", np.float32, x.shape)
    nodes.append(gs.Node("Cast", single.name, {"to": onnx.TensorProto.FLOAT}, [x], [single]))
    return single


def scaled_floats(x: gs.Tensor, counting: Counting, count: gs.Variable, nodes: list[gs.Node]) -> gs.Variable:
    """(x + ψ)/θ − 1/2 of a float x, by nodes behind `nodes`."""
    theta, psi = counting.threshold.astype(np.float64), counting.shift.astype(np.float64)
    steps = [("Mul", _squashed(1 / theta)), ("Add", _squashed(psi / theta - 0.5))]
    for op, values in steps:
        if np.any(values != (op == "Mul")):
            result = gs.Variable(f"{count.name}/{op}", np.float32, count.shape)
            nodes.append(gs.Node(op, result.name, {}, [x, gs.Constant(f"{result.name}/by", values)], [result]))
            x = result
    return x


def _squashed(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32, one number without axes where all are equal: onnxruntime gives axes to one that has any, where it moves
    channels last, and leaves nodes that take them away again for others who read it.
    """
    rounded = values.astype(np.float32)
    return np.asarray(rounded.flat[0]) if np.ptp(rounded) == 0 else rounded


def encoded_counts(count: gs.Variable, code: Encoding, rank: int, numbers: Numbers) -> CountTerm:
    """What the counts of an encoded tensor of this rank stand for."""
    affine = neuron_affine(code.scale, np.zeros(1), 1.0, rank)
    return CountTerm(count, affine, numbers.largest, code.zero, numbers.least)


def scaled_nodes(known: CountTerm, output: gs.Variable, name: str) -> list[gs.Node]:
    """output = what counts stand for, in the type of the output. name: begins the names of the nodes."""
    scale, offset = known.affine.scale, known.affine.offset
    dtype = np.dtype(output.dtype or np.float32)
    kind = int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
    steps: list[tuple[str, str, NDArray[np.float32] | None]] = [("Cast", "", None)]
    steps += [("Sub", "zero", np.full((), known.zero, np.float32))] if known.zero else []
    steps += [("Mul", "scale", scale)] if np.any(scale != 1) else []
    steps += [("Add", "offset", offset)] if np.any(offset) else []
    nodes, data = [], known.tensor
    for number, (op, part, values) in enumerate(steps):
        last = number == len(steps) - 1
        result = output if last else gs.Variable(f"{name}/{number}", dtype, output.shape)
        operand = [] if values is None else [gs.Constant(f"{name}/{part}", values.astype(dtype))]
        attributes = {"to": kind} if op == "Cast" else {}
        nodes.append(gs.Node(op, f"{name}/{op}", attributes, [data, *operand], [result]))
        data = result
    return nodes
