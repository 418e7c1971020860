"""The quantise-clip-floor-shift chain of a QCFS-trained network, read symbolically.

A chain of affine operators (Mul, Div, Add, Sub, Neg with constants) and clips (Clip, Relu, Min, Max) around
one Floor or Round is, before and behind the Floor, a clipped line: both kinds of operator keep the form

    clip(p·z + q, low, high)

so the chain is A·clip(floor((x + ψ)/θ), 0, L) + o with θ = 1/p, ψ = (q − m)/p, o = Q + A·m, where m … m + L
are the values of the Floor that pass both clips and A·n + Q is the line behind it. p and q are float64; low
and high go through the very float operations of the graph: a saturated x gives the count it gives there.
Round is floor(v + 1/2), except that it sends ties to the even neighbour: a tie (x exactly between two levels)
may differ by one level, nothing else can.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.patterns import Binding, clip_bounds
from graphpass.graph.weights import Array, floats_of, is_op, producer
from graphpass.maths.neuron import LARGEST_COUNT

# The ends of a chain like ·T/θ, clip, ·θ/T are whole up to the rounding of constants (float16: 5e-4 each).
WHOLE = 2e-3
LONGEST = 24  # nodes looked at; the longest spelling seen has 9


@dataclass(frozen=True)
class Line:
    """clip(p·z + q, low, high), p ≠ 0. p, q float64; low, high in the dtype of the graph."""

    p: Array
    q: Array
    low: NDArray[Any]
    high: NDArray[Any]


def read_qcfs(tensor: gs.Tensor) -> Binding | None:
    """The chain that ends at `tensor`, with its parameters (see Activation), or None.

    The chain starts as far up as its operators go, while nothing else reads its tensors; behind another Floor
    it starts as late as it can, because what lies between belongs to the chain before.
    """
    before, floor, after, crowded = _chain(tensor)
    if floor is None:
        return None
    # a tensor behind the Floor that others read too, and that is a chain already, is where the chain ends
    shared = [k for k, node in enumerate((floor, *after[:-1])) if len(node.outputs[0].outputs) > 1]
    if after and any(_read(before, floor, after[:k], crowded) for k in shared):
        return None
    return _read(before, floor, after, crowded)


def _read(before: list[gs.Node], floor: gs.Node, after: list[gs.Node], crowded: bool) -> Binding | None:
    """The longest chain that ends here, the shortest if there is another Floor above, or None."""
    alone = next((k for k in range(len(before), 0, -1) if len(_data(before[k - 1]).outputs) > 1), 0)
    starts = range(len(before), -1, -1) if crowded else [alone, *range(len(before) + 1)]
    for start in starts:
        nodes = (*before[start:], floor, *after)
        x = _data(nodes[0])
        parameters = _parameters(before[start:], floor, after) if isinstance(x, gs.Variable) else None
        if parameters is not None:
            return Binding({"x": x}, {}, nodes, parameters)
    return None


def _chain(tensor: gs.Tensor) -> tuple[list[gs.Node], gs.Node | None, list[gs.Node], bool]:
    """(nodes before the Floor, the Floor, nodes after it, whether another Floor is above), in graph order."""
    before: list[gs.Node] = []
    after: list[gs.Node] = []
    floor: gs.Node | None = None
    node = producer(tensor)
    for _ in range(LONGEST):
        if node is None:
            break
        if is_op(node, "Floor", "Round"):
            if floor is not None:
                return before[::-1], floor, after[::-1], True
            floor = node
        elif clip_bounds(node) is None and _affine(node) is None:
            break
        else:
            (after if floor is None else before).append(node)
        node = producer(_data(node))
    return before[::-1], floor, after[::-1], False


def _data(node: gs.Node) -> gs.Tensor:
    """The input that is not a constant."""
    return next((each for each in node.inputs if isinstance(each, gs.Variable)), node.inputs[0])


def _affine(node: gs.Node) -> tuple[gs.Constant | None, bool] | None:
    """(the constant, whether it is the first operand) of an affine operator; None for any other node."""
    if is_op(node, "Neg"):
        return None, False
    if not is_op(node, "Mul", "Div", "Add", "Sub"):
        return None
    first = isinstance(node.inputs[0], gs.Constant)
    constant, other = (node.inputs[0], node.inputs[1]) if first else (node.inputs[1], node.inputs[0])
    values = floats_of(constant)
    if values is None or not isinstance(other, gs.Variable) or (node.op == "Div" and first):
        return None
    per_channel = sum(n != 1 for n in values.shape) <= 1
    zero = node.op in ("Mul", "Div") and not values.all()
    return (constant, first) if per_channel and not zero and np.isfinite(values).all() else None


def _apply(line: Line, node: gs.Node) -> Line:
    """The line behind one more operator."""
    bounds = clip_bounds(node)
    if bounds is not None:
        low, high = (np.asarray(bound, line.low.dtype) for bound in bounds[1:])
        return Line(line.p, line.q, np.clip(line.low, low, high), np.clip(line.high, low, high))
    constant, first = _affine(node) or (None, False)
    if constant is None:
        return Line(-line.p, -line.q, -line.high, -line.low)
    raw = np.asarray(constant.values)
    wide = raw.astype(np.float64)
    if node.op in ("Mul", "Div"):
        operation: np.ufunc = np.multiply if node.op == "Mul" else np.divide
        ends = operation(line.low, raw), operation(line.high, raw)
        return Line(operation(line.p, wide), operation(line.q, wide), np.minimum(*ends), np.maximum(*ends))
    if node.op == "Sub" and first:
        return Line(-line.p, wide - line.q, raw - line.high, raw - line.low)
    operation = np.add if node.op == "Add" else np.subtract
    return Line(line.p, operation(line.q, wide), operation(line.low, raw), operation(line.high, raw))


def _line(nodes: list[gs.Node], low: NDArray[Any], high: NDArray[Any]) -> Line:
    line = Line(np.ones(()), np.zeros(()), low, high)
    for node in nodes:
        line = _apply(line, node)
    return line


def _parameters(before: list[gs.Node], floor: gs.Node, after: list[gs.Node]) -> Mapping[str, object] | None:
    """threshold, shift, amplitude, offset (float32, one shape) and steps; None if the form does not fit."""
    constants = [each for node in (*before, *after) for each in node.inputs if isinstance(each, gs.Constant)]
    dtype = np.result_type(np.float16, *[each.dtype for each in constants if floats_of(each) is not None])
    infinity = np.asarray(np.inf, dtype)
    try:
        with np.errstate(all="ignore"):
            head = _line(before, -infinity, infinity)
            rounding = np.floor if floor.op == "Floor" else np.round
            least, most = rounding(head.low), rounding(head.high)
            tail = _line(after, -infinity, infinity)
            # the values of the floor at which the clips behind it take hold
            ends = (tail.low - tail.q) / tail.p, (tail.high - tail.q) / tail.p
            least, most = np.maximum(least, np.minimum(*ends)), np.minimum(most, np.maximum(*ends))
            if not np.isfinite(least).all() or not np.isfinite(most).all() or np.any(head.p <= 0):
                return None
            first, steps = np.round(least), np.round(most) - np.round(least)
            whole = all(np.all(np.abs(end - np.round(end)) <= WHOLE * np.maximum(1, np.abs(end)))
                        for end in (least, most))  # fmt: skip
            count = int(steps.flat[0])
            if not whole or np.any(steps != count) or not 1 <= count <= LARGEST_COUNT:
                return None
            half = 0.0 if floor.op == "Floor" else 0.5
            values = np.broadcast_arrays(1 / head.p, (head.q + half - first) / head.p, tail.p, tail.q + tail.p * first)
    except ValueError:  # constants of shapes that do not broadcast: two channel axes
        return None
    if sum(n != 1 for n in values[0].shape) > 1:
        return None
    names = ("threshold", "shift", "amplitude", "offset")
    floats = {name: value.astype(np.float32) for name, value in zip(names, values, strict=True)}
    return {**floats, "steps": count}
