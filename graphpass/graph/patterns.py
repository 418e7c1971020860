"""Pattern matching on the tensors of a graph. activations.py says what a pattern may hold.

The search backtracks: where a tensor can be read in two ways (a product as one factor, or as its factors), both
are tried. It follows at most DEPTH nodes, so that a hostile graph costs no more than an ordinary one.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.domains import STANDARD_DOMAINS
from graphpass.graph.weights import is_op, producer

# float16 keeps 11 bits: √2 and 1/6 come back from a float16 export with a relative error of up to 5e-4
NEAR = 1e-3
DEPTH = 6  # most nodes from the top of one product, sum or nest of clips

Pattern = Any  # str | float | nested tuple | Callable[[gs.Tensor], Binding | None]; see activations.py
COMMUTATIVE = ("Add", "Mul", "Max", "Min")


@dataclass(frozen=True)
class Binding:
    """What a match found: tensors and scalars by name, and the nodes, the final one last."""

    tensors: Mapping[str, gs.Variable] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    nodes: tuple[gs.Node, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> gs.Node:
        return self.nodes[-1]

    def add(self, *nodes: gs.Node) -> "Binding":
        """With these nodes at the end, each once."""
        new = {id(node): node for node in nodes}
        old = (node for node in self.nodes if id(node) not in new)
        return replace(self, nodes=(*old, *new.values()))


def scalar_of(tensor: gs.Tensor) -> float | None:
    """The value of a constant with one element, whatever its number of axes; None for anything else."""
    if not isinstance(tensor, gs.Constant) or math.prod(tensor.shape) != 1:
        return None
    return float(np.asarray(tensor.values).reshape(()).astype(np.float64))


NOTHING = Binding()


def matches(pattern: Pattern, tensor: gs.Tensor, found: Binding = NOTHING) -> Iterator[Binding]:
    """Every way in which `tensor` matches `pattern`, given a match so far."""
    node = producer(tensor)
    if callable(pattern):
        binding = pattern(tensor)
        if binding is not None:
            yield binding
    elif isinstance(pattern, float):
        value = scalar_of(tensor)
        if value is not None and _near(value, pattern):
            yield found
    elif pattern == "*":
        yield found
    elif isinstance(pattern, str):
        if isinstance(tensor, gs.Variable) and found.tensors.get(pattern, tensor) is tensor:
            yield replace(found, tensors={**found.tensors, pattern: tensor})
    elif pattern[0] == "|":
        for each in pattern[1:]:
            yield from matches(each, tensor, found)
    elif pattern[0] == "clip":
        for inner, low, high, nodes in clips(tensor):
            bound = _capture(pattern[1], low, _capture(pattern[2], high, found))
            if bound is not None:
                yield from (each.add(*nodes) for each in matches(pattern[3], inner, bound))
    elif pattern[0] == "where":
        for x, border, *parts, nodes in choices(node) if node is not None else ():
            bound = _capture(pattern[1], border, found)
            if bound is not None:
                known = [each if (n := _number_beside(each, x)) is None else _constant(n) for each in parts]
                pairs = list(zip(("x", *pattern[2:]), (x, *known), strict=True))
                yield from (each.add(*nodes) for each in _all(pairs, bound))
    elif pattern[0] in ("*", "+"):
        wanted = [each for each in pattern[1:] if not _is_constant(each)]
        constant = next((each for each in pattern[1:] if _is_constant(each)), UNIT[pattern[0]])
        for value, tensors, nodes in _terms(pattern[0], tensor, len(wanted), DEPTH):
            bound = _capture(constant, value, found) if len(tensors) == len(wanted) else None
            if bound is not None:
                for order in itertools.permutations(tensors):
                    pairs = list(zip(wanted, order, strict=True))
                    yield from (each.add(*nodes) for each in _all(pairs, bound))
    elif node is not None and _qualified(node) == pattern[0]:
        inputs = list(node.inputs)
        while inputs and inputs[-1].is_empty():
            inputs.pop()
        if len(inputs) == len(pattern) - 1:
            for operands in [inputs, inputs[::-1]] if node.op in COMMUTATIVE else [inputs]:
                yield from (each.add(node) for each in _all(list(zip(pattern[1:], operands, strict=True)), found))


UNIT = {"*": 1.0, "+": 0.0}


def _all(pairs: list[tuple[Pattern, gs.Tensor]], found: Binding) -> Iterator[Binding]:
    if not pairs:
        yield found
        return
    for each in matches(*pairs[0], found):
        yield from _all(pairs[1:], each)


def _is_constant(pattern: Pattern) -> bool:
    return isinstance(pattern, float) or (isinstance(pattern, str) and pattern.startswith("$"))


def _near(value: float, wanted: float) -> bool:
    return value == wanted or math.isclose(value, wanted, rel_tol=NEAR)


def _capture(pattern: float | str, value: float, found: Binding | None) -> Binding | None:
    """A float in a pattern must be near the value; "$name" captures the value."""
    if found is None:
        return None
    if isinstance(pattern, float):
        return found if _near(value, pattern) else None
    return replace(found, scalars={**found.scalars, pattern[1:]: value})


def _qualified(node: gs.Node) -> str:
    return node.op if node.domain in STANDARD_DOMAINS else f"{node.domain}.{node.op}"


Terms = tuple[float, tuple[gs.Tensor, ...], tuple[gs.Node, ...]]


def _terms(kind: str, tensor: gs.Tensor, most: int, depth: int) -> Iterator[Terms]:
    """Ways to write `tensor`, split at its root, as constant·factors (constant + summands)."""
    node = producer(tensor)
    if node is None or depth == 0:
        return
    if kind == "*" and is_op(node, "Neg"):
        for value, tensors, nodes in _operand(kind, node.inputs[0], most, depth - 1):
            yield -value, tensors, (*nodes, node)
    elif is_op(node, *("Mul", "Div") if kind == "*" else ("Add", "Sub")):
        inverse = node.op in ("Div", "Sub")
        for left, left_tensors, left_nodes in _operand(kind, node.inputs[0], most, depth - 1):
            for right, tensors, nodes in _operand(kind, node.inputs[1], most - len(left_tensors), depth - 1):
                if inverse and (tensors or (kind == "*" and right == 0)):
                    continue
                right = (1 / right if kind == "*" else -right) if inverse else right
                value = left * right if kind == "*" else left + right
                yield value, left_tensors + tensors, (*left_nodes, *nodes, node)


def _operand(kind: str, tensor: gs.Tensor, most: int, depth: int) -> Iterator[Terms]:
    value = scalar_of(tensor)
    if value is not None:
        yield value, (), ()
    elif isinstance(tensor, gs.Variable):
        if most > 0:
            yield UNIT[kind], (tensor,), ()
        yield from _terms(kind, tensor, most, depth)


def clips(tensor: gs.Tensor, depth: int = DEPTH) -> Iterator[tuple[gs.Tensor, float, float, tuple[gs.Node, ...]]]:
    """(z, low, high, nodes) with tensor = clip(z, low, high); of nested clips the outermost combination first.

    Nested clips count as one clip only if nothing else reads the tensors between them.
    """
    node = producer(tensor)
    for inner, low, high, own in _clips_at(node) if node is not None and depth else ():
        if {id(reader) for reader in inner.outputs} <= {id(each) for each in own}:
            for z, lower, upper, nodes in clips(inner, depth - 1):
                yield z, min(max(lower, low), high), min(max(upper, low), high), (*nodes, *own)
        yield inner, low, high, own


def _clips_at(node: gs.Node) -> Iterator[tuple[gs.Tensor, float, float, tuple[gs.Node, ...]]]:
    """The clip that a node is: an operator, or a choice between x and the border that x is compared with."""
    bounds = clip_bounds(node)
    if bounds is not None:
        yield *bounds, (node,)
    for x, border, below, above, nodes in choices(node):
        if above is x and _number_beside(below, x) == border:
            yield x, border, math.inf, nodes
        if below is x and _number_beside(above, x) == border:
            yield x, -math.inf, border, nodes


def clip_bounds(node: gs.Node) -> tuple[gs.Tensor, float, float] | None:
    """(z, low, high) of a Relu, a Clip with constant bounds, a Min or Max with a scalar constant; floats."""
    if is_op(node, "Relu"):
        return node.inputs[0], 0.0, math.inf
    if is_op(node, "Clip"):
        low: float | None = node.attrs.get("min", -math.inf)
        high: float | None = node.attrs.get("max", math.inf)
        if len(node.inputs) > 1 and not node.inputs[1].is_empty():
            low = _float_of(node.inputs[1])
        if len(node.inputs) > 2 and not node.inputs[2].is_empty():
            high = _float_of(node.inputs[2])
        # an upper bound below the lower one is read differently by different runtimes
        return (node.inputs[0], low, high) if low is not None and high is not None and low <= high else None
    if is_op(node, "Min", "Max") and len(node.inputs) == 2:
        for z, constant in (node.inputs, node.inputs[::-1]):
            bound = _number_beside(constant, z)
            if bound is not None and isinstance(z, gs.Variable):
                return (z, bound, math.inf) if node.op == "Max" else (z, -math.inf, bound)
    return None


COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
Choice = tuple[gs.Variable, float, gs.Tensor, gs.Tensor, tuple[gs.Node, ...]]


def choices(node: gs.Node) -> Iterator[Choice]:
    """(x, border, below, above, nodes): `below` where x < border, `above` where x > border; either where x = border.

    A Where, a product with a comparison, or a sum of one with a comparison and one with its opposite.
    """
    if is_op(node, "Where"):
        condition, yes, no = node.inputs
        yield from _compared(condition, yes, no, (node,))
    elif is_op(node, "Mul"):
        for condition, other, nodes in _masked(node):
            yield from _compared(condition, other, _constant(0.0), nodes)
    elif is_op(node, "Add"):
        for first, second in (node.inputs, node.inputs[::-1]):
            for condition, yes, one in _masked(producer(first)):
                for opposite, no, two in _masked(producer(second)):
                    negation = producer(opposite)
                    if negation is not None and is_op(negation, "Not") and negation.inputs[0] is condition:
                        yield from _compared(condition, yes, no, (*one, negation, *two, node))


def _masked(node: gs.Node | None) -> Iterator[tuple[gs.Tensor, gs.Tensor, tuple[gs.Node, ...]]]:
    """(condition, x, nodes) of a product of x and a condition as a number."""
    for factor, other in (node.inputs, node.inputs[::-1]) if node is not None and is_op(node, "Mul") else ():
        cast = producer(factor)
        if cast is not None and is_op(cast, "Cast"):
            yield cast.inputs[0], other, (cast, node)


def _compared(condition: gs.Tensor, yes: gs.Tensor, no: gs.Tensor, nodes: tuple[gs.Node, ...]) -> Iterator[Choice]:
    """`yes` where a condition holds, which compares a tensor with a number, else `no`."""
    node = producer(condition)
    if node is not None and is_op(node, "Not"):
        yes, no, nodes, node = no, yes, (node, *nodes), producer(node.inputs[0])
    if node is None or not is_op(node, *COMPARISONS):
        return
    for place, (x, number) in enumerate((node.inputs, node.inputs[::-1])):
        border = _number_beside(number, x)
        if border is not None and isinstance(x, gs.Variable):
            less = node.op.startswith("Less") == (place == 0)
            yield x, border, *((yes, no) if less else (no, yes)), (node, *nodes)


def _constant(value: float) -> gs.Constant:
    return gs.Constant("number", np.array(value))


def _number_beside(tensor: gs.Tensor, x: gs.Tensor) -> float | None:
    """The float that a tensor no larger than x holds everywhere: a constant, or one made in the shape of x."""
    if isinstance(tensor, gs.Constant):
        sizes = list(x.shape or ())
        if math.prod(tensor.shape) == 1 or list(tensor.shape) != sizes[max(len(sizes) - len(tensor.shape), 0) :]:
            return _float_of(tensor)
        values = np.asarray(tensor.values)
        same = values.dtype.kind == "f" and values.size > 0 and bool((values == values.flat[0]).all())
        return float(values.flat[0]) if same else None
    node = producer(tensor)
    if node is None or not is_op(node, "Expand", "ConstantOfShape"):
        return None
    shape = producer(node.inputs[-1])
    if shape is None or not is_op(shape, "Shape") or shape.inputs[0] is not x:
        return None
    if shape.attrs.get("start", 0) != 0 or "end" in shape.attrs:  # of some axes alone
        return None
    if node.op == "Expand":
        return _float_of(node.inputs[0])
    value = node.attrs.get("value")
    return 0.0 if value is None else float(np.asarray(getattr(value, "values", value)).flat[0])


def _float_of(tensor: gs.Tensor) -> float | None:
    """scalar_of for floats only: a Clip of integers is arithmetic on shapes, not an activation."""
    integer = isinstance(tensor, gs.Constant) and isinstance(tensor.dtype, np.dtype) and tensor.dtype.kind in "iub"
    return None if integer else scalar_of(tensor)
