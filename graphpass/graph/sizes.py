"""What tensors of sizes hold, as far as a graph tells: what its Shape nodes give, moved about and reckoned with.

    Shape(x)                                        the sizes of x
    Cast, Concat, Gather, Identity, Slice, …        the same ones elsewhere
    Add, Div, Mul, Sub                              of numbers: numbers

A value is an array of whole numbers, symbols (text: a size that is free, the same wherever the symbol stands) and None
for what is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from graphpass.graph.domains import STANDARD_DOMAINS

LARGEST = 256  # numbers of a value that is followed
WHOLE = {TensorProto.INT32: np.dtype(np.int32), TensorProto.INT64: np.dtype(np.int64)}  # types that sizes have

Value = NDArray[np.object_]
Shapes = Mapping[str, Sequence[int | str | None] | None]


def sizes_of(graph: gs.Graph, shapes: Shapes) -> dict[str, Value]:
    """The values of tensors of WHOLE types that Shape nodes of a sorted graph lead to, by name. shapes: of tensors, by
    name.
    """
    found: dict[str, Value] = {}
    for node in graph.nodes:
        if node.domain not in STANDARD_DOMAINS or len(node.outputs) != 1:
            continue
        made = None
        if node.op == "Shape":
            made = _shape(node, shapes.get(node.inputs[0].name))
        elif node.op in _RULES and any(tensor.name in found for tensor in node.inputs):
            values = [found[tensor.name] if tensor.name in found else _constant(tensor) for tensor in node.inputs]
            made = _RULES[node.op](node, values)
        if made is not None and made.size <= LARGEST and _holds(node, made):
            found[node.outputs[0].name] = made
    return found


def _holds(node: gs.Node, made: Value) -> bool:
    """Whether the node's result is known to be of a type that holds its numbers. Sizes themselves are int64."""
    kind = node.outputs[0].dtype
    if kind is None:
        return node.op == "Shape" or not any(tensor.dtype == WHOLE[TensorProto.INT32] for tensor in node.inputs)
    if kind not in WHOLE.values():
        return False
    limits = np.iinfo(kind)
    return all(limits.min <= each <= limits.max for each in made.ravel() if isinstance(each, int))


def numbers(value: Value) -> NDArray[np.int64] | None:
    """The value as int64, None where some of it is no number."""
    return value.astype(np.int64) if all(isinstance(each, int) for each in value.ravel()) else None


def _value(entries: Sequence[int | str | None], shape: tuple[int, ...] | None = None) -> Value:
    made = np.empty(len(entries), dtype=object)
    made[:] = entries
    return made if shape is None else made.reshape(shape)


def _constant(tensor: gs.Tensor) -> Value | None:
    if not isinstance(tensor, gs.Constant) or tensor.dtype not in WHOLE.values() or np.prod(tensor.shape) > LARGEST:
        return None
    return _value(np.asarray(tensor.values).ravel().tolist(), tuple(tensor.shape))


def _shape(node: gs.Node, sizes: Sequence[int | str | None] | None) -> Value | None:
    if sizes is None:
        return None
    known = [size if isinstance(size, int | str) else None for size in sizes]
    return _value(known[node.attrs.get("start", 0) : node.attrs.get("end", None)])


# A rule is given the node and the values of its inputs, one of which at least is known.
SizeRule = Callable[[gs.Node, Sequence[Value | None]], Value | None]


def _same(node: gs.Node, values: Sequence[Value | None]) -> Value | None:
    return values[0]


def _cast(node: gs.Node, values: Sequence[Value | None]) -> Value | None:
    return values[0] if node.attrs.get("to") in (*WHOLE, np.int32, np.int64) else None


def _concat(node: gs.Node, values: Sequence[Value | None]) -> Value | None:
    parts = [_unknown(tensor) if value is None else value for tensor, value in zip(node.inputs, values, strict=True)]
    if any(part is None or part.ndim != 1 for part in parts):
        return None
    return np.concatenate([part for part in parts if part is not None])


def _unknown(tensor: gs.Tensor) -> Value | None:
    """As many entries as a vector has, none of them known."""
    known = tensor.shape is not None and len(tensor.shape) == 1 and isinstance(tensor.shape[0], int)
    return _value([None] * tensor.shape[0]) if known and tensor.shape[0] <= LARGEST else None


def _gather(node: gs.Node, values: Sequence[Value | None]) -> Value | None:
    data, index = values[0], None if values[1] is None else numbers(values[1])
    if data is None or index is None or data.ndim != 1 or (index >= data.size).any() or (index < -data.size).any():
        return None
    return np.asarray(data[index], dtype=object)


def _slice(node: gs.Node, values: Sequence[Value | None]) -> Value | None:
    parts = [None if value is None else numbers(value) for value in values[1:]]
    if values[0] is None or values[0].ndim != 1 or any(part is None or part.size != 1 for part in parts):
        return None
    ends = [int(part.item()) for part in parts if part is not None]
    return values[0][slice(*ends[:2], *ends[3:])] if len(ends) >= 2 and (len(ends) < 4 or ends[3]) else None


def _flat(node: gs.Node, values: Sequence[Value | None]) -> Value | None:
    """Unsqueeze, Squeeze and Reshape of one number."""
    data, named = values[0], values[1] if len(values) > 1 else None
    if data is None or data.size != 1:
        return None
    if node.op == "Squeeze":
        return data.reshape(())
    if named is None:
        return None
    return data.reshape((1,) * (named.size if node.op == "Reshape" else data.ndim + named.size))


def _reckoned(reckon: Callable[[int, int], int | None]) -> SizeRule:
    """Of whole numbers; what is not known of either, or is beyond int64, makes nothing known."""

    def known(one: object, other: object) -> int | None:
        made = reckon(one, other) if isinstance(one, int) and isinstance(other, int) else None
        return made if made is not None and abs(made) < 2**63 else None

    every = np.frompyfunc(known, 2, 1)

    def rule(node: gs.Node, values: Sequence[Value | None]) -> Value | None:
        one, other = values
        if one is None or other is None:
            return None
        made: Any = every(one, other)
        return made if isinstance(made, np.ndarray) else _value([made], ())

    return rule


def _quotient(a: int, b: int) -> int | None:
    """Towards 0, as integers of a runtime divide; of positive ones alone, which runtimes agree about."""
    return a // b if a >= 0 and b > 0 else None


_RULES: Mapping[str, SizeRule] = {
    "Add": _reckoned(lambda a, b: a + b),
    "Cast": _cast,
    "Concat": _concat,
    "Div": _reckoned(_quotient),
    "Gather": _gather,
    "Identity": _same,
    "Mul": _reckoned(lambda a, b: a * b),
    "Reshape": _flat,
    "Slice": _slice,
    "Squeeze": _flat,
    "Sub": _reckoned(lambda a, b: a - b),
    "Unsqueeze": _flat,
}
