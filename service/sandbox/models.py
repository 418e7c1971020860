"""A user's model file as the path of an .onnx that graphpass may load: unpacked, its external data checked."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from graphpass.errors import GraphpassError, ModelError
from service.sandbox.archives import is_archive, unpack
from service.sandbox.failures import TaskLimitError
from service.sandbox.workplace import Workplace, is_plain

IN_MEMORY = "_ORT_MEM_ADDR_"  # onnxruntime takes such a location for an address in its own process
BESIDE = "keep the data as a plain file beside the model, in one .zip"


def model_path(place: Workplace, role: str) -> Path:
    """The path of the .onnx of an argument, beside which lies nothing but its own external data.

    Raises ModelError for an archive of none or several, and for external data that is not a plain file beside it.
    """
    path = place.file(role)
    packed = is_archive(path)
    if packed:
        folder = place.scratch(role)
        unpack(path, folder, place.limits, ModelError)
        found = sorted(folder.rglob("*.onnx"))
        if len(found) != 1:
            names = ", ".join(str(each.relative_to(folder)) for each in found[:3]) or "none"
            raise ModelError(
                f"{path}: holds {len(found)} .onnx files ({names})", "pack one model and its external data"
            )
        path = found[0]
    with understood(path):
        _check_external_data(path, packed)
    return path


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """A context that turns whatever libraries raise over a damaged model into a ModelError."""
    try:
        yield
    except (GraphpassError, TaskLimitError, MemoryError):
        raise
    except RecursionError as error:
        raise ModelError(f"{path}: its graphs or functions are nested too deeply", "export it flat") from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ModelError(
            f"{path}: graphpass cannot read it ({reason})",
            "check it with onnx.checker; if it is valid, report this",
        ) from error


def _check_external_data(path: Path, packed: bool) -> None:
    try:
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: not a readable ONNX model ({reason})", "export it again") from error
    for tensor, sparse in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        where = f"{path}: tensor {tensor.name[:200]!r}: external data {location[:200]!r}"
        if not packed:
            raise ModelError(f"{where}: the model came without it", BESIDE)
        if sparse:
            raise ModelError(f"{where}: a sparse tensor may have none", "store it in the model")
        if reason := _wrong(path.parent, location, entries):
            raise ModelError(f"{where} {reason}", BESIDE)


def _wrong(folder: Path, location: str, entries: dict[str, str]) -> str:
    """The rule that a tensor's external data breaks; "" for none."""
    if IN_MEMORY in location:
        return "is an address in memory"
    if not is_plain(location):
        return "is absolute, or lies outside of the model's folder"
    file = folder / location
    if file.is_symlink() or file.resolve() != folder.resolve() / location:
        return "is a symbolic link"
    if not file.is_file():
        return "is missing"
    if file.stat().st_nlink != 1:
        return "is a hard link"
    try:
        offset, length = (int(entries.get(key, "0")) for key in ("offset", "length"))
    except ValueError:
        return "has an offset or a length that is no number"
    return "ends early" if min(offset, length) < 0 or offset + length > file.stat().st_size else ""


def _tensors(proto: onnx.ModelProto) -> Iterator[tuple[Any, bool]]:
    """Every tensor that a model stores, and whether it is part of a sparse one."""
    yield from _of_nodes(node for function in proto.functions for node in function.node)
    yield from _of_graph(proto.graph)
    for training in proto.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: Any) -> Iterator[tuple[Any, bool]]:
    yield from ((tensor, False) for tensor in graph.initializer)
    yield from _of_sparse(graph.sparse_initializer)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t, False
            if attribute.HasField("sparse_tensor"):
                yield from _of_sparse([attribute.sparse_tensor])
            if attribute.HasField("g"):
                yield from _of_graph(attribute.g)
            yield from ((tensor, False) for tensor in attribute.tensors)
            yield from _of_sparse(attribute.sparse_tensors)
            for graph in attribute.graphs:
                yield from _of_graph(graph)


def _of_sparse(tensors: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    for tensor in tensors:
        yield tensor.values, True
        yield tensor.indices, True
