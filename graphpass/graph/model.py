"""Load, check, upgrade and save ONNX models. Refusals name the file and the node.

    read > refuse > check > respell > inline > upgrade > split fused operators > infer shapes

Operators without a rule in upgrade.py stay as they are. A model is emitted in opset 21 with IR version 10, which every
onnxruntime from 1.19 on loads; a newer source keeps its opset. 15 is the oldest opset that the body of a spiking
operator can be written in.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError
from onnx import inliner
from onnx_graphsurgeon.ir.tensor import LazyValues

from graphpass.errors import ModelError
from graphpass.files import replacing
from graphpass.graph.domains import opset_of
from graphpass.graph.fused import split_fused
from graphpass.graph.inference import with_shapes
from graphpass.graph.names import settle
from graphpass.graph.refusals import check, line, refuse, refuse_values, require_clear, require_text
from graphpass.graph.spelling import rename_domain, respell
from graphpass.graph.stubs import WEIGHTS, fill, filled, graph_of, set_aside, stub, with_external_weights
from graphpass.graph.tensors import fits_a_message, load_external, locations_of, with_weights, without_weights
from graphpass.graph.upgrade import TARGET_OPSET, require_one_meaning, upgrade

OLDEST_BODY = 15  # opset
TARGET_IR = 10
UNNAMED = Path("model")  # what errors call a model in memory


class UpgradeWarning(UserWarning):
    """The model's opset was too old for spiking operators and has been upgraded."""


@dataclass(frozen=True, eq=False)
class Source:
    """A model file: the model as it was given, with which results are compared, and the model that is converted.

    proto: the model as it was read, with its external data. bare: checked, in one spelling, functions inlined, with
    stubs for weights, which are tensors of `proto`, not copied. digest: sha256 (hex) over the file and, in order of
    their names, its external-data files. opset: of the file.
    """

    path: Path
    proto: onnx.ModelProto
    bare: onnx.ModelProto
    weights: Sequence[onnx.TensorProto]
    digest: str
    opset: int

    @property
    def upgraded(self) -> onnx.ModelProto:
        """The model that is converted, with its weights: a fresh copy."""
        return filled(self.bare, self.weights)

    def graph(self) -> gs.Graph:
        """A fresh graph to edit; later ones do not see the edits of earlier ones."""
        graph = graph_of(self.bare, self.weights)
        graph.toposort()
        return graph


def load(model: str | Path | onnx.ModelProto) -> Source:
    """Read, check and upgrade a model: a file, or a proto with its weights, which is not changed.

    Raises ModelError (missing, damaged, invalid) or UnsupportedModelError (custom operators, quantised
    models, sequences, strings), naming the node.
    """
    if isinstance(model, onnx.ModelProto):
        path, proto, known = UNNAMED, model, digest_of(model)
    else:
        path = Path(model)
        proto, known = read_with_digest(path)
    _require_nodes(path, proto)
    return Source(path, proto, *upgraded(path, proto), known, opset_of(proto))


def upgraded(path: Path, proto: onnx.ModelProto) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """The model as it is converted: one spelling, no functions, opset 21 or newer, shapes inferred; with stubs for its
    large weights, and these.

    Runs on a copy without them, whatever the model weighs. Raises what `load` raises.
    """
    require_clear(path, proto)
    refuse(path, proto)
    bare, weights = without_weights(proto)
    rename_domain(bare)
    require_one_meaning(path, bare)
    check(path, bare)
    respell(path, bare)
    if bare.functions:
        bare = inliner.inline_local_functions(bare)
        refuse(path, bare)
    bare = with_shapes(bare)  # rules of upgrading need them
    upgrade(path, bare)
    split_fused(path, bare)
    bare = with_shapes(bare)
    refuse_values(path, bare)  # outputs without a type in the file have one now
    if (opset := opset_of(proto)) < OLDEST_BODY:
        warnings.warn(
            f"{path}: opset {opset} is older than spiking operators need, upgraded to {opset_of(bare)}",
            UpgradeWarning,
            stacklevel=3,
        )
    return with_weights(bare, (stub(each.name, each.data_type, each.dims) for each in weights)), weights


def read(path: Path) -> onnx.ModelProto:
    """The proto of a file with its external data."""
    return _whole(path)[0]


def read_with_digest(path: Path) -> tuple[onnx.ModelProto, str]:
    """As `read`, and the `digest`; the file is parsed once, which of a large one takes twice its size for a while."""
    proto, files = _whole(path)
    return proto, _digest_of_files(files)


def _whole(path: Path) -> tuple[onnx.ModelProto, list[Path]]:
    """The proto of a file with its external data, and the files that it was read from, itself first."""
    proto = _header(path)
    files = [path, *_external_files(path, proto)]
    try:
        load_external(proto, path.parent)
    except (onnx.checker.ValidationError, ValueError, OSError, RuntimeError) as error:  # RuntimeError: a name too long
        raise ModelError(
            f"{path}: its external data cannot be read ({line(error)})",
            "keep the data file in the folder of the model",
        ) from error
    return proto, files


def _header(path: Path) -> onnx.ModelProto:
    """The proto of a file without its external data. Raises ModelError."""
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is a pipe or a device" if path.exists() else "no such file"
            raise ModelError(f"{path}: {what}", "give the path of an ONNX model, in a file")
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:  # ValueError: also of a name with a NUL
        raise ModelError(f"{path}: not a readable ONNX model ({line(error)})", "export it again") from error
    _require_nodes(path, proto)
    return proto


def _require_nodes(path: Path, proto: onnx.ModelProto) -> None:
    require_text(path, proto)
    if not proto.graph.node:
        raise ModelError(f"{path}: not an ONNX model, or one without nodes", "export it again")


def external_files(path: Path) -> list[Path]:
    """External-data files of a model, in order of their names. Raises ModelError where it is no model."""
    return _external_files(path, _header(path))


def _external_files(path: Path, header: onnx.ModelProto) -> list[Path]:
    return [path.parent / location for location in locations_of(header)]


def model_files(path: Path) -> list[Path]:
    """The model file and its external-data files; the file alone if it is not a model, which `load` will refuse, as it
    will a folder, of which nothing is read.
    """
    if path.is_dir():
        return []
    try:
        return [path, *external_files(path)]
    except ModelError:
        return [path]


def digest(path: Path) -> str:
    """sha256 (hex) over a model file and its external-data files in order of their names."""
    return _digest_of_files([path, *external_files(path)])


def _digest_of_files(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for name in files:
        with open(name, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def digest_of(proto: onnx.ModelProto) -> str:
    """sha256 (hex) over a model in memory: that of the file which it is saved to, below 2 GiB."""
    if fits_a_message(proto):
        return hashlib.sha256(proto.SerializeToString()).hexdigest()
    with tempfile.TemporaryDirectory(prefix="graphpass-") as folder:
        save(proto, path := Path(folder) / "model.onnx")
        return digest(path)


def save(proto: onnx.ModelProto, path: str | Path) -> None:
    """Write a model whole or not at all; over 2 GiB its weights go to ``<name>.data`` beside it."""
    path = Path(path)
    if not path.parent.is_dir():
        raise ModelError(f"{path.parent}: no such folder", "create it first")
    with replacing(path, ModelError) as staged:
        if fits_a_message(proto):
            onnx.save(proto, staged, format="protobuf")
            return
        (beside,) = companions(staged)
        onnx.save(
            proto, staged, format="protobuf", save_as_external_data=True, location=beside.name, size_threshold=1024
        )
        onnx.load_external_data_for_model(proto, str(staged.parent))  # saving took the weights out of the proto


def save_apart(proto: onnx.ModelProto, folder: Path) -> Path:
    """Write a model for a session into a folder, its large weights in a file of their own, which a runtime maps.

    Takes no memory for them. Returns the model's path.
    """
    path, bare = folder / "model.onnx", with_external_weights(proto, folder / WEIGHTS)
    if fits_a_message(bare):
        path.write_bytes(bare.SerializeToString())
    else:  # weights in nodes or bodies
        save(proto, path)
    return path


def companions(path: Path) -> list[Path]:
    """What `save` may write beside a model."""
    return [path.parent / f"{path.name}.data"]


def export(graph: gs.Graph) -> onnx.ModelProto:
    """A graph as a model again, in an IR version that fits its opset and that every onnxruntime from 1.19 on reads.

    Names that two tensors or two nodes share are made different.
    """
    settle(graph)
    with set_aside(graph) as weights, _kept_names(graph):
        proto: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    fill(proto, weights)
    if opset_of(proto) <= TARGET_OPSET:
        proto.ir_version = TARGET_IR
    return proto


@contextmanager
def _kept_names(graph: gs.Graph) -> Iterator[None]:
    """A context in which constants are exported, and keep their names in the model that the graph was read from.

    graphsurgeon writes the name of a constant, which may be another one by now, into that model's own tensor.
    """
    graphs = (graph, *graph.subgraphs(recursive=True))
    constants = [t for each in graphs for t in each.tensors().values() if isinstance(t, gs.Constant)]
    stored = [c._values.tensor for c in constants if isinstance(c._values, LazyValues)]
    names = [tensor.name for tensor in stored]
    try:
        yield
    finally:
        for tensor, name in zip(stored, names, strict=True):
            tensor.name = name


def export_untyped(graph: gs.Graph, exporter: Callable[[gs.Graph], onnx.ModelProto] = export) -> onnx.ModelProto:
    """The graph as a model whose outputs have no types, so that each has the type that its producer makes."""
    for tensor in graph.outputs:
        if isinstance(tensor, gs.Variable):
            tensor.dtype = tensor.dtype or np.float32  # exporters want one
    proto = exporter(graph)
    for value in proto.graph.output:
        value.ClearField("type")
    return proto
