"""Operators that onnxruntime's optimisers make of several, in the standard operators that they stand for.

    FusedConv → Conv, Add, activation       FusedGemm → Gemm, activation       BiasGelu, FastGelu → Add, GELU
    FusedMatMul, TransposeMatMul → Transpose, MatMul, Mul

A rule returns False for a node that it cannot write; the node then stays as it is, and is reported
(graphpass/sites/sites.py). Operators for one processor (com.microsoft.nchwc) and attention stay, too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from onnx import ModelProto, NodeProto

from graphpass.graph.tensors import graphs_of
from graphpass.graph.upgrade import NodeWriter, drop, facts_of, names_of

MICROSOFT = "com.microsoft"
# activation → what its parameters are as attributes, in the order in which a FusedConv has them
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys("Relu Sigmoid Tanh Softplus Softsign".split(), ()),
    **dict.fromkeys("Elu LeakyRelu ThresholdedRelu".split(), ("alpha",)),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
}
Rule = Callable[[NodeWriter], bool]


def split_fused(path: Path, proto: ModelProto) -> None:
    """Write fused operators as standard ones, in place; in a model of opset 11 or newer without functions."""
    graphs = graphs_of(proto.graph)
    if not any(each.domain == MICROSOFT and each.op_type in FUSED for graph in graphs for each in graph.node):
        return
    names, facts = names_of(graphs), facts_of(graphs)
    for graph in reversed(graphs):  # what is inside first: nodes are copied
        made: list[NodeProto] = []
        for node in graph.node:
            writer = NodeWriter(path, node, 1, names, facts)
            fused = node.domain == MICROSOFT and node.op_type in FUSED
            made += writer.made if fused and FUSED[node.op_type](writer) else [node]
        del graph.node[:]
        graph.node.extend(made)


def _plain(to: NodeWriter, op: str, inputs: list[str], output: str, *without: str) -> None:
    """The node as a standard operator, without some attributes."""
    kept = to.keep(op, inputs, [output])
    kept.domain = ""
    drop(kept, *without)


def _fused_conv(to: NodeWriter) -> bool:
    """activation(Conv(x, w, b) + z)."""
    kind, values = to.attribute("activation", b"").decode(), list(to.attribute("activation_params", []))
    x, w, b, z = [*to.node.input, "", ""][:4]
    names = {"": (), "Clip": ("min", "max"), **PARAMETERS}.get(kind)
    if names is None or len(names) != len(values):
        return False
    result = to.node.output[0]
    linear = to.tensor("linear") if kind else result
    summand = to.tensor("conv") if z else linear
    _plain(to, "Conv", [x, w, *([b] if b else [])], summand, "activation", "activation_params")
    if z:
        to.add("Add", [summand, z], linear)
    if kind == "Clip":
        to.add("Clip", [linear, *(to.constant_like("limit", each, x) for each in values)], result)
    elif kind:
        to.add(kind, [linear], result, **dict(zip(names, values, strict=True)))
    return True


def _fused_gemm(to: NodeWriter) -> bool:
    """activation(Gemm(a, b, c))."""
    kind = to.attribute("activation", b"").decode()
    given = {name: to.attribute(f"activation_{name}") for name in PARAMETERS.get(kind, ())}
    if kind not in PARAMETERS or None in given.values():
        return False
    linear = to.tensor("linear")
    fused = ("activation", *(f"activation_{name}" for name in ("alpha", "beta", "gamma")))
    _plain(to, "Gemm", list(to.node.input), linear, *fused)
    to.add(kind, [linear], to.node.output[0], **given)
    return True


def _fused_mat_mul(to: NodeWriter) -> bool:
    """α·AB, of A and B with their last two axes exchanged where transA and transB say so."""
    inputs = []
    for name, side in zip(to.node.input, "AB", strict=True):
        if to.attribute(f"transBatch{side}", 0):
            return False
        if to.attribute(f"trans{side}", 0):
            rank = to.facts.ranks.get(name)
            if rank is None:
                return False
            if rank > 1:
                name = to.add("Transpose", [name], perm=[*range(rank - 2), rank - 1, rank - 2])
        inputs.append(name)
    alpha, result = to.attribute("alpha", 1.0), to.node.output[0]
    product = result if alpha == 1 else to.tensor("product")
    _plain(to, "MatMul", inputs, product, "alpha", "transA", "transB", "transBatchA", "transBatchB")
    if alpha != 1:
        to.add("Mul", [product, to.constant_like("alpha", alpha, to.node.input[0])], result)
    return True


def _bias_gelu(op: str) -> Rule:
    def rule(to: NodeWriter) -> bool:
        x, bias = [*to.node.input, ""][:2]
        if not bias:
            return False  # it is no sum
        to.keep(op, [to.add("Add", [x, bias])])
        return True

    return rule


FUSED: Mapping[str, Rule] = {
    "BiasGelu": _bias_gelu("Gelu"),
    "FastGelu": _bias_gelu("FastGelu"),
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_mat_mul,
    "TransposeMatMul": _fused_mat_mul,
}
