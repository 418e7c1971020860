"""Models that graphpass does not take: files that are not valid ONNX, and valid models that it refuses.

The authority on validity is onnx's checker, except where it is stricter than onnxruntime: outputs without a shape,
graphs without a name, domains of the runtime that are not imported, initialisers that have to be inputs as well in IR
version 3, and operators that onnxruntime has although the file's opset does not (RUNTIME_OPERATORS).
"""

import math
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import onnx
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper, shape_inference

from graphpass.errors import ModelError, UnsupportedModelError
from graphpass.graph.description import stated_form
from graphpass.graph.domains import RUNTIME_DOMAINS, RUNTIME_OPERATORS, SPIKING_DOMAIN, STANDARD_DOMAINS, opset_of
from graphpass.graph.tensors import fits_a_message, nodes_of_function, walk
from graphpass.graph.types import NARROW, is_number, type_name

Called = tuple[str, str, str]  # domain, name and overload of an operator or a function

UNCHECKED = "graphpass.unchecked"  # domain that operators of the runtime are checked under
QUANTISED = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear ConvInteger MatMulInteger ConvIntegerToFloat "
    "MatMulIntegerToFloat DynamicQuantizeMatMul DynamicQuantizeLSTM QGemm QAttention QMoE QEmbedLayerNormalization "
    "MatMulNBits MatMulBnb4 MatMulFpQ4 GatherBlockQuantized QuantizeWithOrder DequantizeWithOrder QuantizeBFP "
    "DequantizeBFP".split()
)
MOST_VALUES = 2**44  # of an input whose sizes are fixed: 64 TiB of float32, and numpy's arithmetic ends at 2⁶³ bytes
MOST_NODES = 1_000_000  # of a model whose functions are inlined: no memory holds much more
QUANTISED_PREFIXES = ("QLinear", "QOrdered")


def where(path: Path, node: NodeProto) -> str:
    """The node as messages name it."""
    outputs = ", ".join(filter(None, node.output))
    return f"{path}: node {node.name or outputs!r} ({node.op_type})"


def require_text(path: Path, proto: ModelProto) -> None:
    """Raise ModelError for a name or another text that is not UTF-8: protobuf reads it as bytes, or fails later."""
    for message, field in _texts(proto):
        try:
            value = getattr(message, field)
            texts = [value] if isinstance(value, str | bytes) else list(value)
            wrong = next((each for each in texts if not isinstance(each, str)), None)
        except UnicodeDecodeError as error:
            wrong = error.object
        if wrong is not None:
            raise ModelError(
                f"{path}: the text {bytes(wrong[:80])!r} is not UTF-8 ({message.DESCRIPTOR.name}.{field})",
                "export the model with names and descriptions in UTF-8",
            )


def _texts(message: Any) -> Iterator[tuple[Any, str]]:
    """Every message in a message, itself first, with the name of each of its fields that hold text."""
    left = [message]
    while left:
        message = left.pop()
        texts, inner = _fields(message.DESCRIPTOR)
        yield from ((message, name) for name in texts)
        for name, repeated in inner:
            if repeated:
                left += getattr(message, name)
            elif message.HasField(name):
                left.append(getattr(message, name))


@cache
def _fields(descriptor: Any) -> tuple[list[str], list[tuple[str, bool]]]:
    """The fields that hold text, and those that hold messages, with whether they hold many."""
    texts = [field.name for field in descriptor.fields if field.type == field.TYPE_STRING]
    inner = [field for field in descriptor.fields if field.type == field.TYPE_MESSAGE]
    return texts, [(field.name, field.is_repeated) for field in inner]


def require_clear(path: Path, proto: ModelProto) -> None:
    """Raise ModelError for a model whose meaning is open: two versions of one domain, or no output at all."""
    for part in (proto, *proto.functions):
        versions: dict[str, int] = {}
        for entry in part.opset_import:
            domain = "" if entry.domain in STANDARD_DOMAINS else entry.domain
            if versions.setdefault(domain, entry.version) != entry.version:
                raise ModelError(
                    f"{path}: imports domain {domain!r} in the versions {versions[domain]} and {entry.version}",
                    "export it again, with one version of each domain",
                )
    if not proto.graph.output:
        raise ModelError(f"{path}: the network has no outputs", "export it again, with the outputs that are wanted")


def refuse(path: Path, proto: ModelProto) -> None:
    """Raise UnsupportedModelError for operators and inputs that graphpass does not take."""
    local = {(function.domain, function.name) for function in proto.functions}
    if any(node.domain == SPIKING_DOMAIN for node in proto.graph.node) or stated_form(proto):
        raise UnsupportedModelError(f"{path}: already a spiking network", "give the network that it came from")
    for node in walk(proto.graph):
        if (node.domain, node.op_type) not in local:
            _refuse_node(path, node)
    refuse_values(path, proto)


def refuse_values(path: Path, proto: ModelProto) -> None:
    """Raise UnsupportedModelError for inputs without a shape or too large, and values that are no numeric tensors."""
    initialisers = {tensor.name for tensor in proto.graph.initializer}
    zipped = {name for node in proto.graph.node if node.op_type == "ZipMap" for name in node.output}
    for value in [*proto.graph.input, *proto.graph.output]:
        kind = value.type.WhichOneof("value")
        element = value.type.tensor_type.elem_type
        if kind not in (None, "tensor_type") or (element and not is_number(helper.tensor_dtype_to_np_dtype(element))):
            name = kind if kind != "tensor_type" else "string" if element == TensorProto.STRING else type_name(element)
            if kind == "tensor_type" and element in NARROW:
                raise UnsupportedModelError(
                    f"{path}: {value.name!r} is a tensor of {name}, which numpy has no numbers for",
                    "export the network with inputs and outputs of float32 or float16",
                )
            raise UnsupportedModelError(
                f"{path}: {value.name!r} is a {name}, not a numeric tensor",
                "convert the part of the model between numeric tensors"
                + ("; skl2onnx leaves dictionaries out with options={'zipmap': False}" if value.name in zipped else ""),
            )
    for value in proto.graph.input:
        if value.name not in initialisers and not value.type.tensor_type.HasField("shape"):
            raise UnsupportedModelError(
                f"{path}: input {value.name!r} has no shape, not even a number of axes",
                "export the model with the shape of its inputs; sizes may be left free",
            )
        values = math.prod(max(size.dim_value, 1) for size in value.type.tensor_type.shape.dim)
        if values > MOST_VALUES:
            raise UnsupportedModelError(
                f"{path}: {value.name!r} has {values:.3g} values, by its sizes that are fixed",
                "export the model with smaller or free sizes",
            )


def _refuse_node(path: Path, node: NodeProto) -> None:
    if node.domain not in RUNTIME_DOMAINS:
        raise UnsupportedModelError(
            f"{where(path, node)} is a custom operator of domain {node.domain!r}",
            "export the model with standard operators",
        )
    if node.op_type in QUANTISED or node.op_type.startswith(QUANTISED_PREFIXES):
        raise UnsupportedModelError(
            f"{where(path, node)}: the model is already quantised",
            "convert the float model it was quantised from; graphpass makes integers of it with --form integer",
        )
    standard = node.domain in STANDARD_DOMAINS
    if standard and node.op_type not in RUNTIME_OPERATORS and not defs.has(node.op_type):
        raise UnsupportedModelError(
            f"{where(path, node)} is not an operator of ONNX up to opset {defs.onnx_opset_version()}",
            "export the model with standard operators",
        )


def check(path: Path, bare: ModelProto) -> None:
    """Raise ModelError for a model that is not valid, naming the node if it is the fault of one. Changes nothing.

    bare: the model without its large weights.
    """
    opset, newest = opset_of(bare), defs.onnx_opset_version()
    if opset > newest:
        raise UnsupportedModelError(
            f"{path}: opset {opset} is newer than the installed onnx, which knows {newest}",
            "install a newer onnx and onnxruntime, or export the model with opset 21",
        )
    _require_few_nodes(path, bare)
    copy = ModelProto()
    copy.CopyFrom(bare)
    copy.ir_version = max(copy.ir_version, 4)
    copy.graph.name = copy.graph.name or "graph"
    local = {(function.domain, function.name) for function in copy.functions}
    parts = [(copy, walk(copy.graph)), *((each, nodes_of_function(each)) for each in copy.functions)]
    for part, node in ((part, node) for part, nodes in parts for node in nodes):
        if node.domain in STANDARD_DOMAINS and (node.domain, node.op_type) not in local:
            version = opset_of(part)
            if _is_missing(node.op_type, version):
                raise UnsupportedModelError(
                    f"{where(path, node)} is not an operator of opset {version}{_versions(node.op_type)}",
                    "export the model with an opset that has it",
                )
            if not _has_schema(node.op_type, version):
                node.domain = UNCHECKED
    for entry in (entry for function in copy.functions for entry in function.opset_import if not entry.domain):
        entry.version = opset  # of other opsets, the checker takes operators that have one version alone
    for part in (copy, *copy.functions):
        imported = {entry.domain for entry in part.opset_import}
        others = [domain for domain in (*RUNTIME_DOMAINS, UNCHECKED) if domain and domain not in imported]
        part.opset_import.extend(helper.make_opsetid(domain, 1) for domain in others if domain != "ai.onnx")
    for value in copy.graph.output:
        _complete(value)
    try:
        if fits_a_message(copy):
            onnx.checker.check_model(copy)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise ModelError(f"{path}: invalid ONNX ({line(error)})", "export it again") from error


def _require_few_nodes(path: Path, proto: ModelProto) -> None:
    """Raise UnsupportedModelError for functions that stand for too many nodes, as those that call each other twice do.

    Raises ModelError for functions that call themselves: not every version of onnx's checker finds them.
    """
    bodies = {_function(each): [_called(node) for node in nodes_of_function(each)] for each in proto.functions}
    local = {name: set(calls) & bodies.keys() for name, calls in bodies.items()}
    sizes: dict[Called, int] = {}
    try:
        order = [*TopologicalSorter(local).static_order()]
    except CycleError as error:
        domain, name, _ = error.args[1][0]
        raise ModelError(f"{path}: function {name!r} of domain {domain!r} calls itself", "export it again") from error
    for name in order:
        sizes[name] = sum(sizes.get(call, 1) for call in bodies[name])
        if sizes[name] > MOST_NODES:
            raise UnsupportedModelError(
                f"{path}: function {name[1]!r} of domain {name[0]!r} stands for more than {MOST_NODES:,} nodes",
                "export the model with fewer functions that call each other",
            )
    whole = sum(sizes.get(_called(node), 1) for node in walk(proto.graph)) if sizes else 0
    if whole > MOST_NODES:
        raise UnsupportedModelError(
            f"{path}: has {whole:,} nodes with its functions, more than {MOST_NODES:,}", "convert it in parts"
        )


def _function(function: FunctionProto) -> Called:
    return function.domain, function.name, function.overload


def _called(node: NodeProto) -> Called:
    """What a node calls, as `_function` names it."""
    return node.domain, node.op_type, node.overload


def _complete(value: ValueInfoProto) -> None:
    """A copy with a type and a shape for every output: the checker wants them, the runtime infers them itself."""
    tensor = value.type.tensor_type
    tensor.elem_type = tensor.elem_type or TensorProto.FLOAT
    tensor.shape.SetInParent()


def _has_schema(op: str, opset: int) -> bool:
    return bool(defs.has(op, max_inclusive_version=opset)) and not defs.get_schema(op, opset).deprecated


def _is_missing(op: str, opset: int) -> bool:
    """Whether neither this opset nor onnxruntime has the operator."""
    since = RUNTIME_OPERATORS.get(op)
    return not _has_schema(op, opset) and (since is None or opset < since)


def _versions(op: str) -> str:
    """In words, the opsets that have the operator; empty for one that ONNX never had."""
    versions = [schema for schema in defs.get_all_schemas_with_history() if schema.name == op and not schema.domain]
    if not versions:
        return ""
    first = min(schema.since_version for schema in versions)
    ended = [schema.since_version - 1 for schema in versions if schema.deprecated]
    return f" (ONNX has it from opset {first} {f'to {min(ended)}' if ended else 'on'})"


def line(error: BaseException | None) -> str:
    """An error in one line, for messages."""
    return " ".join(str(error).split())[:400] or type(error).__name__
