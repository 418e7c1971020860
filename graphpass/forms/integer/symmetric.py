"""Integers for runtimes whose zero points are all 0, as TensorRT's (decision 0035): int8 data, floats in between.

    q → DequantizeLinear → Conv, Gemm or MatMul, Add, f → Clip(least, largest) → QuantizeLinear → q'        q, q' int8

A layer computes Σ W'·q + c in the unit of the counts behind it, with int8 weights (quantised.py) and c as float32, a
whole number of the steps of its sums: such runtimes take no int32 into DequantizeLinear. Terms of a sum are added as
they are and rounded once, so that neither a layer's sum nor a current in front of a curved f needs 8 bits of its own.

Such runtimes have int8 tensors between QuantizeLinear and DequantizeLinear alone: what moves counts moves floats that
are whole numbers, between the two.
"""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.integer.borders import rounded_nodes
from graphpass.forms.integer.counting import Counting
from graphpass.forms.integer.layers import Linear
from graphpass.forms.integer.quantised import dequantised, gathered, quantise, quantised, settled
from graphpass.forms.integer.sums import ROUNDED, TOO_FAR, CountSum, CountTerm, rounded_away, scaled_sum
from graphpass.forms.integer.tensors import SYMMETRIC
from graphpass.graph.affine import neuron_affine

Array = NDArray[np.float64]


def symmetric_nodes(total: CountSum, rank: int, counting: Counting, count: gs.Variable) -> list[gs.Node] | str:
    """Nodes that compute the counts of a current of this many axes from integers, or why they cannot."""
    made = _layers(total, rank, counting, count.name) if total.layers else _counts(total, rank, counting, count.name)
    if isinstance(made, str):
        return made
    nodes, terms = made
    current = terms[0]
    for number, term in enumerate(terms[1:]):
        current = _binary("Add", current, term, f"{count.name}/sum_{number}", nodes)
    if (counting.least, counting.largest) == (SYMMETRIC.least, SYMMETRIC.largest):
        return [*nodes, quantised(current, 1.0, 0, count)]
    return [*nodes, *rounded_nodes(current, counting, count)]


def _layers(total: CountSum, rank: int, counting: Counting, name: str) -> tuple[list[gs.Node], list[gs.Variable]] | str:
    """The terms of a current with weight layers, in counts: Σ (W/θ)·(…) + c, r·q with r = A/θ."""
    scaled = scaled_sum(total, rank, counting)
    if isinstance(scaled, str):
        return scaled
    nodes, terms, theta = list[gs.Node](), list[gs.Variable](), scaled.theta
    constant: Array = scaled.added / theta - 0.5
    for number, linear in enumerate(scaled.linears):
        done = settled(linear.scaled(1 / theta, constant if number == 0 else np.zeros_like(constant)))
        if isinstance(done, str):
            return done
        if rounded_away(done, theta, counting.steps) > ROUNDED:
            return TOO_FAR
        real = gs.Variable(f"{name}/layer_{number}", np.float32)
        nodes += layer_nodes(done, real, real.name)
        terms.append(real)
    along = theta.reshape([-1 if axis == scaled.axis else 1 for axis in range(rank)])
    for number, known in enumerate(total.counts):
        terms.append(_times(known.tensor, known.affine.scale / along, f"{name}/term_{number}", nodes))
    return nodes, terms


def _counts(total: CountSum, rank: int, counting: Counting, name: str) -> tuple[list[gs.Node], list[gs.Variable]] | str:
    """The terms of a current of counts alone, in the unit of the counts that it makes."""
    transform = neuron_affine(counting.threshold, counting.shift, 1.0, rank)
    theta: Array = transform.scale.astype(np.float64)
    if not total.counts:
        return "it comes from no weight layer"
    if any(each.affine.scale.ndim != rank for each in total.counts) or any(c.ndim > rank for c in total.constants):
        return "its terms have different ranks"
    nodes = list[gs.Node]()
    constant = transform.offset.astype(np.float64)
    constant = constant + sum(each.affine.offset.astype(np.float64) for each in total.counts)
    constant = (constant + sum(each.astype(np.float64) for each in total.constants)) / theta - 0.5
    terms = [
        _times(known.tensor, known.affine.scale / theta, f"{name}/term_{number}", nodes)
        for number, known in enumerate(total.counts)
    ]
    terms[0] = _binary("Add", terms[0], constant, f"{name}/shift", nodes)
    return nodes, terms


def layer_nodes(linear: Linear, output: gs.Variable, name: str) -> list[gs.Node]:
    """A settled layer on int8 data as nodes: output = v, float32. name: begins the names of nodes and tensors."""
    weight, bias, scales = quantise(linear)
    nodes = list[gs.Node]()
    data = gathered(linear, name, nodes)
    inputs = [
        dequantised(data, 1, 0, f"{name}/data", nodes),
        dequantised(
            gs.Constant(f"{name}/integers", weight), scales, 0, f"{name}/weight", nodes, 1 - linear.convolution
        ),
    ]
    constant = (bias * scales.astype(np.float64)).astype(np.float32)
    added = gs.Constant(f"{name}/bias", constant)
    if linear.convolution:
        return [*nodes, gs.Node("Conv", f"{name}/conv", linear.attributes, [*inputs, added], [output])]
    if data.shape is not None and len(data.shape) == 2:
        return [*nodes, gs.Node("Gemm", f"{name}/product", {}, [*inputs, added], [output])]
    if data.shape is not None:  # a bias of one axis would make onnxruntime 1.32 write nodes that it then refuses
        added.values = constant.reshape(*(1,) * (len(data.shape) - 1), -1)
    product = gs.Variable(f"{name}/product", np.float32)
    nodes.append(gs.Node("MatMul", product.name, {}, inputs, [product]))
    return [*nodes, gs.Node("Add", f"{name}/shifted", {}, [product, added], [output])]


def decoded_nodes(known: CountTerm, output: gs.Variable, name: str) -> list[gs.Node]:
    """output = scale·q + offset of int8 counts, in the type of the output."""
    dtype, nodes = np.dtype(output.dtype or np.float32), list[gs.Node]()
    value = _times(known.tensor, known.affine.scale.astype(np.float64), name, nodes)
    if known.affine.shifted:
        value = _binary("Add", value, known.affine.offset, f"{name}/offset", nodes)
    if dtype != np.float32:
        kind = int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
        nodes.append(gs.Node("Cast", f"{name}/cast", {"to": kind}, [value], [output]))
    nodes[-1].outputs = [output]
    return nodes


def surround_moves(graph: gs.Graph, stem: Callable[[str], str]) -> None:
    """Nodes that read or make int8 numbers get floats instead, in place: DequantizeLinear → node → QuantizeLinear.

    The graph is sorted. stem: a name that begins no other.
    """
    counts: set[str] = set()
    nodes = list[gs.Node]()
    for node in graph.nodes:
        if node.op == "QuantizeLinear":
            counts.add(node.outputs[0].name)
        elif node.op != "DequantizeLinear" and any(tensor.name in counts for tensor in node.inputs):
            made = [tensor for tensor in node.outputs if tensor.dtype == np.int8]
            name = stem(f"{node.outputs[0].name}/moved")
            node.inputs = [
                dequantised(tensor, 1, 0, f"{name}/{number}", nodes)
                if tensor.name in counts
                else _as_float(tensor, f"{name}/{number}/float")
                for number, tensor in enumerate(node.inputs)
            ]
            floats = {t.name: gs.Variable(f"{name}/{t.name}", np.float32, t.shape) for t in made}
            node.outputs = [floats.get(tensor.name, tensor) for tensor in node.outputs]
            nodes.append(node)
            nodes += [quantised(floats[tensor.name], 1.0, 0, tensor) for tensor in made]
            counts |= floats.keys()
            continue
        nodes.append(node)
    graph.nodes = nodes


def _as_float(tensor: gs.Tensor, name: str) -> gs.Tensor:
    """A constant of int8 as float32; all others are what they are."""
    is_int8 = isinstance(tensor, gs.Constant) and tensor.values.dtype == np.int8
    return gs.Constant(name, tensor.values.astype(np.float32)) if is_int8 else tensor


def _times(counts: gs.Variable, factor: NDArray[np.floating], name: str, nodes: list[gs.Node]) -> gs.Variable:
    """factor·q, by nodes behind `nodes`: a DequantizeLinear, whose scale has to be one number above 0, or a Mul."""
    with np.errstate(over="ignore"):
        scale = factor.astype(np.float32)
    if scale.size == 1 and np.finfo(np.float32).tiny <= scale.item() < np.inf:
        return dequantised(counts, float(scale.item()), 0, name, nodes)
    return _binary("Mul", dequantised(counts, 1, 0, name, nodes), scale, f"{name}/factor", nodes)


def _binary(
    op: str, one: gs.Variable, other: gs.Variable | NDArray[np.floating], name: str, nodes: list[gs.Node]
) -> gs.Variable:
    """one op other, by a node behind `nodes`."""
    operand = other if isinstance(other, gs.Variable) else gs.Constant(f"{name}/by", other.astype(np.float32))
    result = gs.Variable(name, np.float32, one.shape)
    nodes.append(gs.Node(op, f"{name}/{op}", {}, [one, operand], [result]))
    return result
