"""Normalisation: spell a network so that weight layers and activations are all that is left to look at.

Each rule edits the top-level graph in place and reports what it rewrote and which near-matches it left, and
why. Subgraphs (If, Loop, Scan) are left alone; a tensor that one captures, and every graph input and output,
keeps its name. The docstring of a rule is its algebra; graph/weights.py does the arithmetic, graph/edit.py the edits.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphpass.graph.edit import Editor, used_once
from graphpass.graph.names import names_of
from graphpass.graph.time_axis import constant_values, given, given_pads
from graphpass.graph.weights import is_op, producer
from graphpass.passes.base import HELD, Miss, Rule, RuleReport
from graphpass.passes.fold_constants import fold_constants
from graphpass.passes.folding import affine, batch_norm_after, batch_norm_into_weights, scale_and_shift

__all__ = ["RULES", "Miss", "Rule", "RuleReport", "normalise"]


def normalise(graph: gs.Graph) -> tuple[RuleReport, ...]:
    """Runs RULES in order, drops dead nodes, sorts topologically. In place; one report per rule."""
    reports = tuple(rule(graph) for rule in RULES)
    graph.cleanup(recurse_subgraphs=False, recurse_functions=False)
    graph.toposort(recurse_subgraphs=False, recurse_functions=False)
    return reports


def name_nodes(graph: gs.Graph) -> RuleReport:
    """node without a name of its own → <op>_<k>, k its place in the graph; unique names stay."""
    names, rewrites = names_of(graph), 0
    seen: set[str] = set()
    for k, node in enumerate(graph.nodes):
        if not node.name or node.name in seen:
            node.name = names.fresh(f"{node.op}_{k}")
            rewrites += 1
        seen.add(node.name)
        for number, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant) and not tensor.name:
                tensor.name = names.fresh(f"{node.name}_constant_{number}")
    return RuleReport("name_nodes", rewrites, ())


def constants(graph: gs.Graph) -> RuleReport:
    """y = Constant() → initializer y. Values are handed on unread: bfloat16 and float8 stay as they are."""
    edit, rewrites, misses = Editor(graph), 0, []
    for node in [node for node in graph.nodes if is_op(node, "Constant")]:
        value = node.attrs.get("value")
        if not isinstance(value, gs.Constant):
            misses.append(Miss("constants", node.name, "its value is no number"))
        elif node.outputs[0].name in edit.held:
            misses.append(Miss("constants", node.name, HELD))
        else:
            output = node.outputs[0]
            edit.remove(node)
            # graphsurgeon wraps the tensor in a Constant that loads its values on first use; the loader is handed on
            output.to_constant(value._values)
            rewrites += 1
    edit.finish()
    return RuleReport("constants", rewrites, tuple(misses))


def identities(graph: gs.Graph) -> RuleReport:
    """Identity(x) → x;  Dropout(x) at inference → x;  Cast(x, to = dtype of x) → x."""
    edit, rewrites, misses = Editor(graph), 0, []
    outputs = {tensor.name for tensor in graph.outputs}
    kept = {tensor.name for tensor in graph.inputs} | edit.held
    for node in graph.nodes:
        reason = _not_an_identity(graph, node, edit.held)
        if reason is None:
            x, y = node.inputs[0], node.outputs[0]
            if y.name not in edit.held:
                edit.bypass(node)
            elif y.name not in outputs:
                reason = "a subgraph captures its output"
            elif isinstance(x, gs.Constant) or producer(x) is None or x.name in kept:
                reason = "it joins a graph output to a graph input, a constant or another held tensor"
            else:
                edit.take_over(producer(x), x, node)
            rewrites += reason is None
        if reason:
            misses.append(Miss("identities", node.name, reason))
    edit.finish()
    return RuleReport("identities", rewrites, tuple(misses))


def _not_an_identity(graph: gs.Graph, node: gs.Node, held: frozenset[str]) -> str | None:
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
    if len(node.outputs) > 1 and (node.outputs[1].outputs or node.outputs[1].name in held):
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
    edit, rewrites = Editor(graph), 0
    for node in [node for node in graph.nodes if is_op(node, "Sum")]:
        first, *middle = node.inputs
        node.op = "Add" if middle else "Identity"
        for k, term in enumerate(middle[:-1]):
            name = edit.names.fresh(f"{node.name}_{k}")
            partial = gs.Variable(edit.names.fresh(f"{name}_sum"), dtype=node.outputs[0].dtype)
            edit.insert_before(node, gs.Node("Add", name, inputs=[first, term], outputs=[partial]))
            first = partial
        node.inputs = [first, *middle[-1:]]
        rewrites += 1
    edit.finish()
    return RuleReport("sums", rewrites, ())


def padding(graph: gs.Graph) -> RuleReport:
    """Conv(Pad(x, p)) → Conv(x) with pads + p, where zeros are added, and along the kernel's axes alone."""
    rule, edit, rewrites, misses = "padding", Editor(graph), 0, []
    for node in [node for node in graph.nodes if is_op(node, "Pad")]:
        readers = node.outputs[0].outputs
        if not any(is_op(reader, "Conv") for reader in readers):
            continue
        reason = _no_padding_of(node, edit.held)
        if reason:
            misses.append(Miss(rule, node.name, reason))
            continue
        (layer,) = readers
        rank = len(layer.inputs[1].shape)
        own = np.reshape(layer.attrs.get("pads", [0] * 2 * (rank - 2)), (2, rank - 2))
        layer.attrs["pads"] = (own + given_pads(node, rank)[:, 2:]).ravel().tolist()  # type: ignore[index]
        layer.attrs.pop("auto_pad", None)
        edit.bypass(node)
        rewrites += 1
    edit.finish()
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
    sums,
    identities,
    fold_constants,
    padding,
    batch_norm_into_weights,
    batch_norm_after,
    scale_and_shift,
    affine,
)
