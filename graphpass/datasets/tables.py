"""Parquet and Arrow files as datasets, read by pyarrow, in pieces of some rows.

    a column of encoded images   bytes, or what datasets of Hugging Face store: {"bytes", "path"}
    columns of numbers           by the names of the model's inputs; lists, and lists of lists, of one length
    "labels" or "label"          numbers

Both may be encoded as dictionaries or runs. Bytes of one size are images if there are more of them than in a digest.
Other columns are not read.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from graphpass.datasets.arrays import array_part
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import (
    EncodedImage,
    Frame,
    ImageOptions,
    digest_of_pictures,
    frame_for,
    image_part,
    is_image,
    labelled,
)
from graphpass.datasets.parts import LABELS, InputSpec, Part, checked, named
from graphpass.errors import DataError, OptionError
from graphpass.wording import counted

PARQUET = b"PAR1"  # how such a file begins
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # of Arrow's streams, since version 0.15
TABLES = (".parquet", ".arrow", ".feather")
BINARY = "binary", "large_binary", "binary_view"  # types of bytes; older versions of pyarrow lack the last
DIGEST = 64  # most bytes of an identifier or a digest; the smallest PNG has 67
BYTES = "bytes"  # the field of an image in datasets of Hugging Face
ROWS = 64  # of a piece
LABEL_NAMES = (LABELS, "label")


def open_tables(files: Sequence[Path], description: str, inputs: Sequence[InputSpec], options: ImageOptions) -> Dataset:
    """The rows of tables, in the order of the files. Raises DataError, and OptionError without pyarrow."""
    columns, samples = _columns(files[0]), sum(map(_rows, files))
    label = next((name for name in LABEL_NAMES if name in columns and name not in {s.name for s in inputs}), None)
    picture = _image_column(columns, inputs[0].name) if len(inputs) == 1 and is_image(inputs[0]) else None
    wanted = [picture or spec.name for spec in inputs]
    if missing := next((name for name in wanted if name not in columns), None):
        raise DataError(
            f"{files[0]}: no column {missing!r} among {', '.join(columns)}",
            "name a column after each input of the model",
        )
    names = [*wanted, *([label] if label else [])]
    frame = frame_for(files[0], inputs, options) if picture else None

    def parts() -> Iterator[Part]:
        for where, found in _pieces(files, names):
            labels = _numbers(where, found[label]) if label else None
            if frame and picture:
                yield image_part(where, inputs[0].name, _pictures(where, found[picture]), labels, frame)
            else:
                arrays = {name: _numbers(f"{where}, {name!r}", found[name]) for name in wanted}
                yield array_part(where, arrays if labels is None else arrays | {LABELS: labels})

    next(checked(str(files[0]), parts(), inputs))
    digest = partial(_digest, files, names, frame) if frame else None
    return Dataset(description, samples, label is not None, tuple(inputs), parts, digest, images=picture is not None)


def is_parquet(path: Path) -> bool:
    """Whether a file begins as a Parquet file does."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def size_of(path: Path) -> tuple[int, bool]:
    """How many rows a table has, and whether it has labels."""
    return _rows(path), not _columns(path).keys().isdisjoint(LABEL_NAMES)


def holds_pictures(path: Path) -> bool:
    """Whether a column holds encoded images."""
    return any(map(_is_encoded, _columns(path).values()))


def _image_column(columns: Mapping[str, Any], name: str) -> str | None:
    """The column of encoded images: that with the name of the model's input, or the only one."""
    found = [each for each, kind in columns.items() if _is_encoded(kind)]
    return name if name in found else found[0] if len(found) == 1 and name not in columns else None


def _pyarrow() -> Any:
    if find_spec("pyarrow") is None:
        raise OptionError("pyarrow is not installed, and tables need it", "pip install 'graphpass[arrow]'")
    import pyarrow

    return pyarrow


def _is_encoded(kind: Any) -> bool:
    types = _pyarrow().types
    if types.is_struct(kind):
        return [_is_encoded(field.type) for field in kind if field.name == BYTES] == [True]
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        kind = kind.value_type
    return str(kind) in BINARY or (types.is_fixed_size_binary(kind) and kind.byte_width > DIGEST)


def _columns(path: Path) -> dict[str, Any]:
    """Types of the columns by name."""
    _pyarrow()
    with _damage(path):
        schema = _parquet(path).schema_arrow if is_parquet(path) else _arrow(path).schema
    found = {field.name: field.type for field in schema}
    if len(found) < len(schema):
        twice = next(name for name in found if schema.names.count(name) > 1)
        raise DataError(f"{path}: two columns are named {twice!r:.200}", "rename or remove one")
    return found


def _rows(path: Path) -> int:
    with _damage(path):
        return int(_parquet(path).metadata.num_rows if is_parquet(path) else _arrow(path).num_rows)


def _pieces(files: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The columns of some rows at a time, and where they are."""
    for path in files:
        held = _columns(path)
        if missing := next((name for name in names if name not in held), None):
            raise DataError(f"{path}: no column {missing!r}, which {files[0]} has", "give all files the same columns")
        first = 0
        batches = _batches(path, names)
        while True:
            with _damage(path):
                batch = next(batches, None)
            if batch is None:
                break
            if batch.num_rows:
                yield f"{path}, rows from {first}", {name: batch.column(name) for name in names}
            first += batch.num_rows


def _batches(path: Path, names: Sequence[str]) -> Iterator[Any]:
    if is_parquet(path):
        yield from _parquet(path).iter_batches(batch_size=ROWS, columns=list(names), use_threads=False)
    else:
        yield from _arrow(path).select(names).to_batches(max_chunksize=ROWS)


def _parquet(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path)


def _arrow(path: Path) -> Any:
    """The table, mapped into memory; what offsets point to is checked before it is read. Raises ValueError for a stream
    that has not its end at its end.
    """
    arrow = _pyarrow()
    file = arrow.memory_map(str(path))
    try:
        table = arrow.ipc.open_file(file).read_all()
    except arrow.ArrowInvalid:
        file.seek(0)
        table = arrow.ipc.open_stream(file).read_all()
        file.seek(file.tell() - len(END_OF_STREAM))
        if file.read() != END_OF_STREAM:  # arrow takes a stream that is cut between batches for a whole one
            raise ValueError(f"its end is missing, or not its end, behind {table.num_rows} rows") from None
    table.validate(full=True)
    return table


def _damage(path: Path) -> AbstractContextManager[None]:
    return named(f"{path}: cannot be read as a table", "write it again with pyarrow, or with datasets")


def _pictures(where: str, column: Any) -> list[EncodedImage]:
    if _pyarrow().types.is_struct(column.type):  # flatten: a missing struct has no bytes, which field would not see
        column = column.flatten()[column.type.get_field_index(BYTES)]
    return [EncodedImage(f"{where}, image {row}", partial(_encoded, column, row)) for row in range(len(column))]


def _encoded(column: Any, row: int) -> bytes:
    found = column[row].as_py()
    if found is None:
        raise ValueError("the table holds no bytes, perhaps a path")
    return bytes(found)


def _numbers(where: str, column: Any) -> NDArray[Any]:
    """A column as an array [rows, …]."""
    types = _pyarrow().types
    if types.is_dictionary(column.type):
        column = column.dictionary.take(column.indices)
    elif types.is_run_end_encoded(column.type):
        from pyarrow.compute import run_end_decode

        column = run_end_decode(column)
    if column.null_count:
        raise DataError(f"{where}: it lacks {counted(column.null_count, 'value')}", "fill or remove the rows")
    if isinstance(column, _pyarrow().ExtensionArray):
        return _numbers(where, column.storage)
    if types.is_fixed_size_list(column.type) or types.is_list(column.type) or types.is_large_list(column.type):
        lengths = {len(each) for each in column}
        if len(lengths) > 1:
            raise DataError(f"{where}: rows of different lengths", "pad or crop every sample to one shape")
        inner = _numbers(where, column.flatten())
        return inner.reshape(len(column), lengths.pop(), *inner.shape[1:])
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)):
        raise DataError(f"{where}: a column of {column.type}", "give numbers, or lists of numbers")
    found: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return found


def _digest(files: Sequence[Path], names: Sequence[str], frame: Frame) -> str:
    def pictures() -> Iterator[tuple[EncodedImage, int | None]]:
        for where, found in _pieces(files, names):
            labels = _numbers(where, found[names[1]]) if len(names) > 1 else None
            yield from labelled(_pictures(where, found[names[0]]), labels)

    return digest_of_pictures(pictures(), frame)
