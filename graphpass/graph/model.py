"""Load, check, upgrade and save ONNX models. Refusals name the file and the node.

Limits: opset 9 or newer in (older files may work, they are upgraded too); 15 is the oldest a spiking operator's
body can be written in. Where onnx's version converter can, a model is emitted in opset 21 with IR version 10, which
every onnxruntime from 1.19 on loads; a newer source keeps its own opset.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError
from onnx import TensorProto, defs, inliner, shape_inference, version_converter

from graphpass.errors import ModelError, UnsupportedModelError
from graphpass.files import replacing
from graphpass.graph.description import keep_description
from graphpass.graph.domains import RUNTIME_DOMAINS, SPIKING_DOMAIN, STANDARD_DOMAINS
from graphpass.graph.names import settle

TARGET_OPSET = 21
OLDEST_OPSET = 15
TARGET_IR = 10
LARGEST_PROTOBUF = 2**31 - 2**20  # bytes; a protobuf message ends at 2 GiB, and the graph itself wants room
QUANTISED = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear ConvInteger MatMulInteger ConvIntegerToFloat "
    "MatMulIntegerToFloat DynamicQuantizeMatMul DynamicQuantizeLSTM QGemm QAttention QMoE QEmbedLayerNormalization "
    "MatMulNBits MatMulBnb4 MatMulFpQ4 GatherBlockQuantized QuantizeWithOrder DequantizeWithOrder QuantizeBFP "
    "DequantizeBFP".split()
)
UNNAMED = Path("model")  # what errors call a model in memory
QUANTISED_PREFIXES = ("QLinear", "QOrdered")


class UpgradeWarning(UserWarning):
    """The model's opset was too old for spiking operators and has been upgraded."""


@dataclass(frozen=True)
class Source:
    """A model file as it was read: the checked, upgraded proto and where it came from.

    digest: sha256 (hex) over the file and, in order of their names, its external-data files.
    opset: of the file; the proto may be newer.
    """

    path: Path
    proto: onnx.ModelProto
    digest: str
    opset: int

    def graph(self) -> gs.Graph:
        """A fresh graph to edit; later ones do not see the edits of earlier ones."""
        graph = gs.import_onnx(self.proto)
        graph.toposort()
        return graph


def load(model: str | Path | onnx.ModelProto) -> Source:
    """Read, check and upgrade a model: a file, or a proto with its weights, which is not changed.

    Raises ModelError (missing, damaged, invalid) or UnsupportedModelError (custom operators, quantised
    models, sequences, strings), naming the node.
    """
    path = UNNAMED if isinstance(model, onnx.ModelProto) else Path(model)
    proto = model if isinstance(model, onnx.ModelProto) else read(path)
    _require_nodes(path, proto)
    known = digest_of(proto) if isinstance(model, onnx.ModelProto) else digest(path)
    _refuse(path, proto)
    _check(path, proto)
    given, opset = proto, opset_of(proto)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
        _refuse(path, proto)
    proto = _with_shapes(_upgrade(path, proto, opset))
    keep_description(given, proto)
    return Source(path, proto, known, opset)


def read(path: Path) -> onnx.ModelProto:
    """The proto of a file with its external data."""
    proto = _header(path)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise ModelError(
            f"{path}: its external data cannot be read ({_line(error)})",
            "keep the data file beside the model",
        ) from error
    return proto


def _header(path: Path) -> onnx.ModelProto:
    """The proto of a file without its external data. Raises ModelError."""
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such file", "give the path of an ONNX model")
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:  # ValueError: also of a name with a NUL
        raise ModelError(f"{path}: not a readable ONNX model ({_line(error)})", "export it again") from error
    _require_nodes(path, proto)
    return proto


def _require_nodes(path: Path, proto: onnx.ModelProto) -> None:
    if not proto.graph.node:
        raise ModelError(f"{path}: not an ONNX model, or one without nodes", "export it again")


def _check(path: Path, proto: onnx.ModelProto) -> None:
    try:
        if proto.ByteSize() < LARGEST_PROTOBUF:
            onnx.checker.check_model(_with_shapes(proto))
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise ModelError(f"{path}: invalid ONNX ({_line(error)})", "export it again") from error


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the standard operators that a model imports; 1 where it imports none."""
    return next((entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), 1)


def external_files(path: Path) -> list[Path]:
    """External-data files of a model, in order of their names. Raises ModelError where it is no model."""
    locations = {
        entry.value
        for graph in _graphs(_header(path).graph)
        for tensor in graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path.parent / location for location in sorted(locations)]


def model_files(path: Path) -> list[Path]:
    """The file of a model and those of its external data; itself alone where it is no model, which `load` tells."""
    try:
        return [path, *external_files(path)]
    except ModelError:
        return [path]


def digest(path: Path) -> str:
    """sha256 (hex) over a model file and its external-data files in order of their names."""
    total = hashlib.sha256()
    for name in [path, *external_files(path)]:
        with open(name, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def digest_of(proto: onnx.ModelProto) -> str:
    """sha256 (hex) over a model in memory: that of the file which it is saved to, below 2 GiB."""
    if proto.ByteSize() < LARGEST_PROTOBUF:
        return hashlib.sha256(proto.SerializeToString()).hexdigest()
    with tempfile.TemporaryDirectory(prefix="graphpass-") as folder:
        save(proto, path := Path(folder) / "model.onnx")
        return digest(path)


def save(proto: onnx.ModelProto, path: str | Path) -> None:
    """Write a model, or leave what was there; over 2 GiB its weights go to ``<name>.data`` beside it."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ModelError(f"{path.parent}: no such folder", "create it first")
    with replacing(path, ModelError) as staged:
        if proto.ByteSize() < LARGEST_PROTOBUF:
            onnx.save(proto, staged, format="protobuf")
            return
        (beside,) = companions(staged)
        onnx.save(
            proto, staged, format="protobuf", save_as_external_data=True, location=beside.name, size_threshold=1024
        )
        onnx.load_external_data_for_model(proto, str(staged.parent))  # saving took the weights out of the proto


def companions(path: Path) -> list[Path]:
    """What `save` may write beside a model."""
    return [path.parent / f"{path.name}.data"]


def export(graph: gs.Graph) -> onnx.ModelProto:
    """A graph back as a model, with the IR version that its opset needs and every runtime from 1.19 on reads.

    Names that two tensors or two nodes share are settled.
    """
    settle(graph)
    proto: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    if opset_of(proto) <= TARGET_OPSET:
        proto.ir_version = TARGET_IR
    return proto


def export_untyped(graph: gs.Graph, exporter: Callable[[gs.Graph], onnx.ModelProto] = export) -> onnx.ModelProto:
    """The graph by the exporter, its outputs without types: the type of an output is what its producer makes."""
    for tensor in graph.outputs:
        tensor.dtype = tensor.dtype or np.float32  # exporters want one
    proto = exporter(graph)
    for value in proto.graph.output:
        value.ClearField("type")
    return proto


def _with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred shapes; itself where it is too large for that in memory."""
    if proto.ByteSize() >= LARGEST_PROTOBUF:
        return proto
    return shape_inference.infer_shapes(proto, data_prop=True)


def _refuse(path: Path, proto: onnx.ModelProto) -> None:
    local = {(function.domain, function.name) for function in proto.functions}
    if any(node.domain == SPIKING_DOMAIN for node in proto.graph.node):
        raise UnsupportedModelError(f"{path}: already a spiking network", "convert the network it came from")
    for node in walk(proto.graph):
        where = f"{path}: node {node.name or ', '.join(node.output)!r} ({node.op_type})"
        if node.domain not in RUNTIME_DOMAINS and (node.domain, node.op_type) not in local:
            raise UnsupportedModelError(
                f"{where} is a custom operator of domain {node.domain!r}",
                "export the model with standard operators",
            )
        if node.op_type in QUANTISED or node.op_type.startswith(QUANTISED_PREFIXES):
            raise UnsupportedModelError(
                f"{where}: the model is already quantised",
                "convert the float model it was quantised from; graphpass makes integers of it with --form integer",
            )
        if node.domain in STANDARD_DOMAINS and (node.domain, node.op_type) not in local and not defs.has(node.op_type):
            raise UnsupportedModelError(
                f"{where} is no operator of ONNX up to opset {defs.onnx_opset_version()}",
                "export the model with standard operators",
            )
    for value in [*proto.graph.input, *proto.graph.output]:
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type") or value.type.tensor_type.elem_type == TensorProto.STRING:
            raise UnsupportedModelError(
                f"{path}: {value.name!r} is a {'string' if kind == 'tensor_type' else kind}, not a numeric tensor",
                "convert the part of the model between numeric tensors",
            )


def walk(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """All nodes, those of subgraphs included."""
    return [node for each in _graphs(graph) for node in each.node]


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The graph and its subgraphs, theirs included."""
    found = [graph]
    for each in found:  # grows while it is read
        for node in each.node:
            for attribute in node.attribute:
                found.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)
    return found


def _upgrade(path: Path, proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in opset 21 where the converter can, else in the oldest that works."""
    if opset >= TARGET_OPSET:
        return proto
    error: Exception | None = None
    for target in (TARGET_OPSET, *range(TARGET_OPSET - 1, max(opset, OLDEST_OPSET) - 1, -1)):
        if target == opset:
            return proto
        try:
            upgraded = version_converter.convert_version(proto, target)
            onnx.checker.check_model(upgraded)
        except Exception as failure:  # the converter raises bare RuntimeError and its own C++ errors
            error = failure
            continue
        upgraded.ir_version = max(proto.ir_version, TARGET_IR)
        if opset < OLDEST_OPSET:
            warnings.warn(
                f"{path}: opset {opset} is older than spiking operators need, upgraded to {target}",
                UpgradeWarning,
                stacklevel=3,
            )
        return upgraded
    raise UnsupportedModelError(
        f"{path}: opset {opset} cannot be upgraded ({_line(error)})", f"export it with opset {TARGET_OPSET}"
    )


def _line(error: BaseException | None) -> str:
    """The first line of an error, for one-line messages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
