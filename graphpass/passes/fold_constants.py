"""fold_constants: a result that depends on constants alone is computed once, by onnxruntime, and becomes a constant.

    f(c₁, c₂ …) → the constant c that running f gives

for every f except those that draw random numbers, hold subgraphs, or have a result of a type that numpy lacks. Weights
that a network standardises, reshapes or casts as it runs become ordinary weights.
Memory is bounded: a result that is larger than the constants it is computed from is computed only if it is small, or
if a weight layer reads it and it has at most LARGEST_WEIGHT bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from graphpass.errors import SessionError
from graphpass.graph.inference import with_shapes
from graphpass.graph.layers import draws
from graphpass.graph.model import export_untyped
from graphpass.graph.types import NUMBERS, is_number, onnx_type
from graphpass.graph.weights import is_op, values_of
from graphpass.passes.base import HELD, Rewriting
from graphpass.runtime.session import open_session, run

LARGEST_GROWN = 1 << 20  # bytes that a result may have, however small its inputs
LARGEST_WEIGHT = 1 << 30  # bytes of a result that a weight layer reads
SMALL = 1 << 10  # values of a constant that sizes may depend on
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")


@dataclass(frozen=True)
class _Size:
    """Bytes of one tensor, and whether its type is a numeric type of numpy."""

    nbytes: int
    is_number: bool


def fold_constants(work: Rewriting) -> None:
    """f(c₁, c₂ …) → the constant that onnxruntime computes for it."""
    known = -1
    while known != work.rewrites + work.misses:  # sizes of further results may depend on these
        known = work.rewrites + work.misses
        _fold(work, _affordable(work, _dependent_on_constants(work)))
        work.next_round()


def _dependent_on_constants(work: Rewriting) -> list[gs.Node]:
    """The nodes that depend on constants alone and may be run, in order."""
    made: set[int] = set()
    found = []
    for node in work.graph.nodes:
        given = [tensor for tensor in node.inputs if not tensor.is_empty()]
        if not given or not all(isinstance(tensor, gs.Constant) or id(tensor) in made for tensor in given):
            continue
        reason = _not_foldable(node, work.edit.held)
        if reason:
            work.miss(node, reason)
        if not work.is_missed(node):
            made |= {id(tensor) for tensor in node.outputs}
            found.append(node)
    return found


def _not_foldable(node: gs.Node, held: frozenset[str]) -> str | None:
    if draws(node):
        return "it draws random numbers"
    if any(node.subgraphs()):
        return "it holds subgraphs, which are left alone"
    if any(tensor.name in held for tensor in node.outputs):
        return HELD
    return None


def _affordable(work: Rewriting, group: Sequence[gs.Node]) -> list[gs.Node]:
    """The nodes whose results are known to be small enough. Sizes that are unknown may be known in the next round."""
    sizes = _sizes(group, work.graph) if group else {}
    region, refused = [], set()
    for node in group:
        given = [tensor for tensor in node.inputs if not tensor.is_empty()]
        known = [sizes.get(tensor.name) or _size_of(tensor) for tensor in given]
        results = [sizes.get(tensor.name) for tensor in node.outputs if not tensor.is_empty()]
        if any(id(tensor) in refused for tensor in given) or any(size is None for size in known):
            refused |= {id(tensor) for tensor in node.outputs}
            continue
        taken = sum(size.nbytes for size in known if size)
        wanted = sum(size.nbytes for size in results if size)
        bound = LARGEST_WEIGHT if _is_weight(node) else LARGEST_GROWN
        if None in results and taken > LARGEST_GROWN:
            work.miss(node, "how large its result would be is not known")
        elif wanted > max(taken, bound):
            work.miss(node, f"its result of {wanted:,} bytes would be larger than its inputs")
        if work.is_missed(node):
            refused |= {id(tensor) for tensor in node.outputs}
        else:
            region.append(node)
    return region


def _is_weight(node: gs.Node) -> bool:
    """Whether a weight layer reads the node's result, directly or through nodes that otherwise depend on constants."""
    stack, seen = list(node.outputs), set()
    while stack:
        for reader in stack.pop().outputs:
            if is_op(reader, *LAYERS):
                return True
            if id(reader) not in seen and all(isinstance(t, gs.Constant) or t in node.outputs for t in reader.inputs):
                seen.add(id(reader))
                stack.extend(reader.outputs)
    return False


def _size_of(tensor: gs.Tensor) -> _Size | None:
    if not isinstance(tensor, gs.Constant):
        return None
    width = helper.tensor_dtype_to_np_dtype(onnx_type(tensor.dtype)).itemsize
    return _Size(int(np.prod(tensor.shape, dtype=np.int64)) * width, is_number(tensor.dtype))


def _sizes(group: Sequence[gs.Node], graph: gs.Graph) -> dict[str, _Size]:
    """Sizes of the nodes' results, as far as they can be inferred without running them."""
    proto, _ = _model(group, [tensor for node in group for tensor in node.outputs if tensor.name], graph)
    inferred = with_shapes(proto).graph
    sizes = {}
    for value in (*inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        dims = [each.dim_value if each.HasField("dim_value") else -1 for each in kind.shape.dim]
        if kind.elem_type and kind.HasField("shape") and min(dims, default=0) >= 0:
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            nbytes = int(np.prod([float(each) for each in dims])) * dtype.itemsize
            sizes[value.name] = _Size(nbytes, dtype in NUMBERS)
    return sizes


def _model(
    nodes: Sequence[gs.Node], wanted: Iterable[gs.Tensor], graph: gs.Graph
) -> tuple[onnx.ModelProto, list[gs.Constant]]:
    """The nodes as a model that makes `wanted`, and its inputs: the constants of more than SMALL numbers."""
    twins: dict[int, gs.Tensor] = {}
    fed = []
    for tensor in (tensor for node in nodes for tensor in node.inputs):
        if not isinstance(tensor, gs.Constant) or id(tensor) in twins:
            continue
        if is_number(tensor.dtype) and int(np.prod(tensor.shape, dtype=np.int64)) > SMALL:
            twins[id(tensor)] = gs.Variable(tensor.name, np.dtype(tensor.dtype), list(tensor.shape))
            fed.append(tensor)
        else:
            twins[id(tensor)] = gs.Constant(tensor.name, tensor._values)

    def twin(tensor: gs.Tensor) -> gs.Tensor:
        return twins.setdefault(id(tensor), gs.Variable(tensor.name))

    copies = [
        gs.Node(
            node.op, node.name, dict(node.attrs), [*map(twin, node.inputs)], [*map(twin, node.outputs)], node.domain
        )
        for node in nodes
    ]
    inputs, outputs = [twins[id(tensor)] for tensor in fed], [twin(tensor) for tensor in wanted]
    part = gs.Graph(copies, inputs, outputs, opset=graph.opset, import_domains=graph.import_domains)
    return export_untyped(part), fed


def _is_moment(tensor: gs.Tensor) -> bool:
    """Whether it is the mean or variance of a BatchNormalization in training mode. If nothing reads them, onnxruntime
    (1.32) overwrites with them the values that it normalises with.
    """
    (maker,) = tensor.inputs
    return bool(maker.op == "BatchNormalization" and maker.outputs[0] is not tensor)


def _fold(work: Rewriting, region: Sequence[gs.Node]) -> None:
    """Run the chosen nodes and replace them by their results.

    Where the runtime cannot run all of them, the first half is tried, and the next round continues from there.
    """
    inside = {id(node) for node in region}
    results = [tensor for node in region for tensor in node.outputs]
    wanted = [tensor for tensor in results if any(id(reader) not in inside for reader in tensor.outputs)]
    others = {name for name, size in (_sizes(region, work.graph) if wanted else {}).items() if not size.is_number}
    wanted = [tensor for tensor in wanted if tensor.name not in others]
    if not wanted:
        return
    kept = [*wanted, *(tensor for tensor in results if _is_moment(tensor) and tensor not in wanted)]
    proto, fed = _model(region, kept, work.graph)
    try:
        session = open_session(proto, threads=1, use_native=False)
        values = run(session, {tensor.name: values_of(tensor) for tensor in fed})
    except SessionError as error:
        if len(region) > 1:
            _fold(work, region[: len(region) // 2])
        else:
            work.miss(region[0], error.what)
        return
    for tensor in wanted:
        (maker,) = tensor.inputs
        maker.outputs[next(k for k, each in enumerate(maker.outputs) if each is tensor)] = gs.Variable.empty()
        tensor.to_constant(np.array(values[tensor.name]))  # a copy: the result holds on to the session
    for node in reversed(region):
        if not any(tensor.outputs for tensor in node.outputs if not tensor.is_empty()):
            work.edit.remove(node)
            work.done()
