"""cancel_transposes: operators on single elements between two Transposes that undo each other compute the same without.

tf2onnx moves the Transposes of a network of Keras to where its channels change sides, but not past a Pow: a spelled-out
GELU has its cube between two of them.
"""

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from graphpass.graph.weights import is_op, producer
from graphpass.passes.base import HELD, Rewriting

SINGLE_ELEMENTS = tuple(
    "Abs Add Cast Ceil Celu Clip Div Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Max Min Mish "
    "Mul Neg PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Softplus Softsign Sqrt Sub Swish Tanh ThresholdedRelu "
    "Where".split()
)
MOST = 64  # operators between Transposes: each Transpose looks at so many, whatever the graph is


def cancel_transposes(work: Rewriting) -> None:
    """Transpose(f(Transpose(x, q⁻¹), …), q) → f(x, …), f of SINGLE_ELEMENTS operators and constants of one number."""
    for last in work.nodes("Transpose"):
        order = last.attrs.get("perm")
        found = None if order is None else _between(last, order, work.edit.held)
        if found is None:
            continue
        inside, first = found
        if not inside and last.outputs[0].name in work.edit.held:
            work.miss(last, HELD)
            continue
        for node in inside:
            made = node.outputs[0]
            made.shape = None if made.shape is None else [made.shape[axis] for axis in order]
        for reader in (*inside, last):
            for k, tensor in enumerate(reader.inputs):
                if any(tensor is each.outputs[0] for each in first):
                    reader.inputs[k] = tensor.inputs[0].inputs[0]
        if inside:
            work.edit.take_over(producer(last.inputs[0]), last.inputs[0], last)
        else:
            work.edit.bypass(last)
        work.done()


def _between(last: gs.Node, order: Sequence[int], held: frozenset[str]) -> tuple[list[gs.Node], list[gs.Node]] | None:
    """The operators between `last` and the Transposes that it undoes, and these; None where others are among them."""
    inside: dict[int, gs.Node] = {}
    first: dict[int, gs.Node] = {}
    left = [last.inputs[0]]
    while left:
        tensor = left.pop()
        node = producer(tensor)
        if isinstance(tensor, gs.Constant):
            if tensor.values.size != 1 or tensor.values.ndim > len(order):
                return None
        elif node is not None and is_op(node, "Transpose") and _undoes(order, node.attrs.get("perm")):
            first[id(node)] = node
        elif node is None or not is_op(node, *SINGLE_ELEMENTS) or tensor.name in held or len(inside) > MOST:
            return None
        elif id(node) not in inside:
            inside[id(node)] = node
            left += [each for each in node.inputs if not each.is_empty()]
    readers = {id(last), *inside}
    if any(id(reader) not in readers for node in inside.values() for reader in node.outputs[0].outputs):
        return None
    return list(inside.values()), list(first.values())


def _undoes(order: Sequence[int], other: Sequence[int] | None) -> bool:
    """Whether Transpose(Transpose(x, other), order) = x."""
    return other is not None and [other[axis] for axis in order] == list(range(len(order)))
