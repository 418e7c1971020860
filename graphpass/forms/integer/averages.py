"""Means of counts as 8-bit numbers of each channel's own scale.

    mean(y) = A·m + o      m = mean(n), from 0 to L      q = round(m/s)      s = L/255

A and o end in the weights behind the mean. So nothing is multiplied element by element in front of it, channels of
small values have as many steps as others, and onnxruntime computes the pooling in integers.
"""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.forms.integer.quantised import dequantised, quantised
from graphpass.forms.integer.sums import CountTerm
from graphpass.forms.integer.tensors import Numbers, encoding_of
from graphpass.graph.affine import Affine, through
from graphpass.graph.layers import is_padded, rank_of
from graphpass.graph.time_axis import axes_of

AVERAGES = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})


def averaged(
    node: gs.Node, known: CountTerm, count_of: Callable[[gs.Variable], gs.Variable], numbers: Numbers
) -> tuple[list[gs.Node], CountTerm] | None:
    """A mean of counts over positions that are all there, as nodes, and what they make; None for any other node.

    count_of: makes the counts of a float tensor. Data of as many steps as there are numbers is no mean of counts: there
    is nothing between its steps.
    """
    if (
        node.op not in AVERAGES
        or node.domain
        or is_padded(node.attrs)
        or known.largest - known.least >= numbers.largest
    ):
        return None
    made, code = through(node, known.affine), encoding_of(known.least - known.zero, known.largest - known.zero, numbers)
    if made is None or code is None or made[0].scale.ndim != rank_of(node.outputs[0]):
        return None
    count = count_of(node.outputs[0])
    name, nodes, step = f"{count.name}/mean", list[gs.Node](), float(code.scale)
    values = dequantised(known.tensor, 1, known.zero, f"{name}/data", nodes)
    mean = gs.Variable(f"{name}/value", np.float32, count.shape)
    node.inputs, node.outputs = [values, *node.inputs[1:]], [mean]
    nodes += [*_spatial(node, known.affine.scale.ndim, name), quantised(mean, step, code.zero, count)]
    affine = Affine(made[0].scale * np.float32(step), made[0].offset)
    return nodes, CountTerm(count, affine, numbers.largest, code.zero, numbers.least)


def _spatial(node: gs.Node, rank: int, name: str) -> list[gs.Node]:
    """The node; a ReduceMean over all axes behind the channels as the pooling that onnxruntime has for integers."""
    axes = axes_of(node) if node.op == "ReduceMean" else None
    if rank < 3 or axes is None or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        return [node]
    (data, *_), (mean,), kept = node.inputs, node.outputs, node.attrs.get("keepdims", 1)
    pooled = mean if kept else gs.Variable(f"{name}/pooled", np.float32)
    node.op, node.attrs, node.inputs, node.outputs = "GlobalAveragePool", {}, [data], [pooled]
    if kept:
        return [node]
    inputs = [pooled, gs.Constant(f"{name}/axes", np.arange(2, rank, dtype=np.int64))]
    return [node, gs.Node("Squeeze", f"{name}/squeeze", {}, inputs, [mean])]
