"""Normalisation: spell a network so that weight layers and activations are all that is left to look at.

Each rule edits the top-level graph in place and reports what it rewrote and which near-matches it left, and
why. Subgraphs (If, Loop, Scan) are left alone; a tensor that one captures, and every graph input and output,
keeps its name. The docstring of a rule is its algebra; weights.py does the arithmetic.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.preparation import compute_constants
from graphpass.graph.time_axis import constant_values, given, given_pads
from graphpass.graph.weights import bypass, fresh_name, held_names, is_op, producer, remove, take_over, used_once
from graphpass.passes.base import HELD, Miss, Rule, RuleReport
from graphpass.passes.folding import affine, batch_norm_after, batch_norm_into_weights, scale_and_shift

LARGEST_FILL = 1 << 28
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")
__all__ = ["RULES", "Miss", "Rule", "RuleReport", "normalise"]


def normalise(graph: gs.Graph) -> tuple[RuleReport, ...]:
    """Runs RULES in order, drops dead nodes, sorts topologically. In place; one report per rule."""
    reports = tuple(rule(graph) for rule in RULES)
    graph.cleanup(recurse_subgraphs=False, recurse_functions=False)
    graph.toposort(recurse_subgraphs=False, recurse_functions=False)
    return reports


def name_nodes(graph: gs.Graph) -> RuleReport:
    """node without a name of its own → <op>_<k>, k its place in the graph; unique names stay."""
    taken = {node.name for node in graph.nodes}
    seen: set[str] = set()
    rewrites = 0
    for k, node in enumerate(graph.nodes):
        if not node.name or node.name in seen:
            node.name = f"{node.op}_{k}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
            rewrites += 1
        seen.add(node.name)
        for i, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant) and not tensor.name:
                tensor.name = fresh_name(graph, f"{node.name}_constant_{i}")
    return RuleReport("name_nodes", rewrites, ())


def constants(graph: gs.Graph) -> RuleReport:
    """y = Constant() → initializer y. Values are handed on unread: bfloat16 and float8 stay as they are."""
    held, rewrites, misses = held_names(graph), 0, []
    for node in [node for node in graph.nodes if is_op(node, "Constant")]:
        values = _constant_values(node)
        if values is None:
            misses.append(Miss("constants", node.name, "its value is not a dense number"))
        elif node.outputs[0].name in held:
            misses.append(Miss("constants", node.name, HELD))
        else:
            output = node.outputs[0]
            remove(graph, node)
            output.to_constant(values)
            rewrites += 1
    return RuleReport("constants", rewrites, tuple(misses))


def _constant_values(node: gs.Node) -> NDArray[Any] | None:
    for attribute, dtype in (("value_float", "float32"), ("value_floats", "float32"),
                             ("value_int", "int64"), ("value_ints", "int64")):  # fmt: skip
        if attribute in node.attrs:
            return np.array(node.attrs[attribute], dtype)
    value = node.attrs.get("value")
    # graphsurgeon wraps the tensor in a Constant that loads its values on first use; the loader is handed on
    return value._values if isinstance(value, gs.Constant) else None


def filled_weights(graph: gs.Graph) -> RuleReport:
    """ConstantOfShape(c) → initializer, where a layer reads it as weights; at most LARGEST_FILL numbers."""
    rule, held, rewrites, misses = "filled_weights", held_names(graph), 0, []
    for node in [node for node in graph.nodes if is_op(node, "ConstantOfShape")]:
        shape = node.inputs[0]
        if not isinstance(shape, gs.Constant) or not any(is_op(reader, *LAYERS) for reader in node.outputs[0].outputs):
            continue
        value = node.attrs.get("value")
        fill = np.zeros(1, np.float32) if value is None else np.asarray(value.values)
        size = math.prod(int(n) for n in shape.values)
        if node.outputs[0].name in held or size > LARGEST_FILL:
            misses.append(Miss(rule, node.name, HELD if size <= LARGEST_FILL else f"it has {size} numbers"))
            continue
        output = node.outputs[0]
        remove(graph, node)
        output.to_constant(np.full([int(n) for n in shape.values], fill.ravel()[0], fill.dtype))
        rewrites += 1
    return RuleReport(rule, rewrites, tuple(misses))


def identities(graph: gs.Graph) -> RuleReport:
    """Identity(x) → x;  Dropout(x) at inference → x;  Cast(x, to = dtype of x) → x."""
    held, rewrites, misses = held_names(graph), 0, []
    kept = {tensor.name for tensor in graph.inputs} | held
    for node in list(graph.nodes):
        reason = _not_an_identity(graph, node)
        if reason is None:
            x, y = node.inputs[0], node.outputs[0]
            if y.name not in held:
                bypass(graph, node)
            elif y.name not in {tensor.name for tensor in graph.outputs}:
                reason = "a subgraph captures its output"
            elif isinstance(x, gs.Constant) or producer(x) is None or x.name in kept:
                reason = "it joins a graph output to a graph input, a constant or another held tensor"
            else:
                take_over(graph, producer(x), x, node)
            rewrites += reason is None
        if reason:
            misses.append(Miss("identities", node.name, reason))
    return RuleReport("identities", rewrites, tuple(misses))


def _not_an_identity(graph: gs.Graph, node: gs.Node) -> str | None:
    """None for an identity, "" for any other node, a reason for a near-match."""
    if is_op(node, "Identity"):
        return None
    if is_op(node, "Cast"):
        source = node.inputs[0].dtype
        if source is not None and not isinstance(
            source, int
        ):  # graphsurgeon keeps an ONNX code where numpy has no type
            source = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(source))
        return None if source is not None and source == node.attrs.get("to") else ""
    if not is_op(node, "Dropout"):
        return ""
    if len(node.outputs) > 1 and (node.outputs[1].outputs or node.outputs[1].name in held_names(graph)):
        return "its mask is used"
    if graph.opset < 7 and not node.attrs.get("is_test", 0):
        return "it is in training mode"
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        mode = node.inputs[2]
        if not isinstance(mode, gs.Constant) or mode.values.any():
            return "it may run in training mode"
    return None


def sums(graph: gs.Graph) -> RuleReport:
    """Sum(a, b, c) → Add(Add(a, b), c);  Sum(a) → Identity(a)."""
    rewrites = 0
    for node in [node for node in graph.nodes if is_op(node, "Sum")]:
        first, *middle = node.inputs
        node.op = "Add" if middle else "Identity"
        for k, term in enumerate(middle[:-1]):
            name = fresh_name(graph, f"{node.name}_{k}")
            partial = gs.Variable(f"{name}_sum", dtype=node.outputs[0].dtype)
            graph.nodes.insert(
                next(i for i, each in enumerate(graph.nodes) if each is node),
                gs.Node("Add", name, inputs=[first, term], outputs=[partial]),
            )
            first = partial
        node.inputs = [first, *middle[-1:]]
        rewrites += 1
    return RuleReport("sums", rewrites, ())


def constant_arithmetic(graph: gs.Graph) -> RuleReport:
    """f(c) → the constant f(c), f in FOLDABLE, c constant: weights that the exporter reshapes at run time."""
    rule, held, rewrites, misses = "constant_arithmetic", held_names(graph), 0, []
    for node in list(graph.nodes):
        known = all(isinstance(tensor, gs.Constant) for tensor in node.inputs) and bool(node.inputs)
        if not known or not is_op(node, *FOLDABLE) or node.outputs[0].name in held:
            continue
        arrays = [tensor.values if isinstance(tensor.dtype, np.dtype) else None for tensor in node.inputs]
        if any(array is None or array.dtype.kind not in "fiub" for array in arrays):
            continue
        try:
            with np.errstate(all="ignore"):
                result = FOLDABLE[node.op](node, *arrays)
        except (ValueError, IndexError) as error:
            misses.append(Miss(rule, node.name, str(error)))
            continue
        if result is not None and result.size <= max(tensor.values.size for tensor in node.inputs):
            output = node.outputs[0]
            remove(graph, node)
            output.to_constant(np.ascontiguousarray(result).reshape(result.shape))
            rewrites += 1
    return RuleReport(rule, rewrites, tuple(misses))


def _cast(node: gs.Node, x: NDArray[Any]) -> NDArray[Any] | None:
    if node.attrs.get("to") not in CASTABLE or (x.dtype.kind == "f" and CASTABLE[node.attrs["to"]][0] != "f"):
        return None  # float to integer differs between runtimes where it overflows
    return x.astype(CASTABLE[node.attrs["to"]])


def _reshape(node: gs.Node, x: NDArray[Any], shape: NDArray[Any]) -> NDArray[Any]:
    keep_zero = node.attrs.get("allowzero", 0)
    return x.reshape([x.shape[k] if n == 0 and not keep_zero else int(n) for k, n in enumerate(shape)])


def _axes(node: gs.Node, axes: tuple[NDArray[Any], ...]) -> tuple[int, ...] | None:
    given = axes[0].tolist() if axes else node.attrs.get("axes")
    return None if given is None else tuple(int(axis) for axis in given)


def _arithmetic(function: Callable[..., NDArray[Any]]) -> Callable[..., NDArray[Any] | None]:
    """Folds floats only: integer division and overflow differ between numpy and ONNX."""
    return lambda node, *arrays: function(*arrays) if all(a.dtype.kind == "f" for a in arrays) else None


CASTABLE = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.FLOAT: "float32",
            onnx.TensorProto.DOUBLE: "float64", onnx.TensorProto.INT64: "int64"}  # fmt: skip
FOLDABLE: dict[str, Callable[..., NDArray[Any] | None]] = {
    "Identity": lambda node, x: x,
    "Cast": _cast,
    "Transpose": lambda node, x: np.transpose(x, node.attrs.get("perm")),
    "Reshape": _reshape,
    "Unsqueeze": lambda node, x, *axes: np.expand_dims(x, _axes(node, axes) or ()),
    "Squeeze": lambda node, x, *axes: np.squeeze(x, _axes(node, axes)),
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(np.divide),
    "Sqrt": _arithmetic(np.sqrt),
    "Neg": _arithmetic(np.negative),
}


def computed_integers(graph: gs.Graph) -> RuleReport:
    """f(c) → the constant f(c) of constant integers c: pads, axes and shapes that exporters compute at run time."""
    return RuleReport("computed_integers", compute_constants(graph), ())


def padding(graph: gs.Graph) -> RuleReport:
    """Conv(Pad(x, p)) → Conv(x) with pads + p, where zeros are added, and along the kernel's axes alone."""
    rule, held, rewrites, misses = "padding", held_names(graph), 0, []
    for node in [node for node in graph.nodes if is_op(node, "Pad")]:
        readers = node.outputs[0].outputs
        if not any(is_op(reader, "Conv") for reader in readers):
            continue
        reason = _no_padding_of(node, held)
        if reason:
            misses.append(Miss(rule, node.name, reason))
            continue
        (layer,) = readers
        rank = len(layer.inputs[1].shape)
        own = np.reshape(layer.attrs.get("pads", [0] * 2 * (rank - 2)), (2, rank - 2))
        layer.attrs["pads"] = (own + given_pads(node, rank)[:, 2:]).ravel().tolist()  # type: ignore[index]
        layer.attrs.pop("auto_pad", None)
        bypass(graph, node)
        rewrites += 1
    return RuleReport(rule, rewrites, tuple(misses))


def _no_padding_of(node: gs.Node, held: frozenset[str]) -> str | None:
    """Why a Pad in front of a Conv is not the convolution's own padding; None where it is."""
    output = node.outputs[0]
    layer = output.outputs[0]
    if not used_once(output, held) or layer.inputs[0] is not output or layer.inputs[1].shape is None:
        return "not one convolution alone reads it as data"
    pads = given_pads(node, len(layer.inputs[1].shape))
    if pads is None or pads[:, :2].any() or (pads < 0).any():
        return "its pads are computed, negative or along samples or channels"
    value = constant_values(node, 2) if given(node, 2) else np.asarray(node.attrs.get("value", 0.0))
    if node.attrs.get("mode", "constant") not in ("constant", b"constant") or value is None or value.any():
        return "it adds other values than zeros"
    if layer.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return "the convolution's own padding depends on the size"
    return None


RULES: tuple[Rule, ...] = (
    name_nodes,
    constants,
    filled_weights,
    sums,
    identities,
    constant_arithmetic,
    computed_integers,
    padding,
    batch_norm_into_weights,
    batch_norm_after,
    scale_and_shift,
    affine,
)
