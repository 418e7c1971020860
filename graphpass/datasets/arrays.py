"""Arrays in memory, in an .npy and in an .npz, as parts of a dataset."""

import functools
import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.parts import Arrays, Header, InputSpec, Part, named, require_values
from graphpass.errors import DataError
from graphpass.wording import counted

PACKED = {
    zipfile.ZIP_STORED: 1,
    zipfile.ZIP_DEFLATED: 1032,
}  # compression method → the most bytes that one byte can unpack to
ARRAY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def array_part(where: str, arrays: Arrays) -> Part:
    """Arrays in memory, or mapped into it; reading returns views of them."""

    def read(cuts: Iterable[slice]) -> Iterator[Arrays]:
        return ({name: array[cut] for name, array in arrays.items()} for cut in cuts)

    return Part(where, {name: Header(array.shape, array.dtype) for name, array in arrays.items()}, read)


def npy_part(path: Path, inputs: Sequence[InputSpec]) -> Part:
    """An .npy, memory-mapped: the samples of the one input of a model."""
    if len(inputs) > 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(f"{path}: one array for a model with several inputs", f"save an .npz with the arrays {names}")
    with named(f"{path}: cannot be read as .npy", "write it again with np.save"), path.open("rb") as file:
        header, by_column = _array_header(file)
        start = file.tell()
    for spec in inputs:
        require_values(str(path), spec.name, header)
    with named(f"{path}: cannot be read as .npy", "write it again with np.save"):
        if header.dtype.hasobject or 0 in header.shape:  # neither can be mapped; the checks say what is wrong
            array = np.broadcast_to(np.empty((), header.dtype), header.shape)
        else:
            array = np.memmap(path, header.dtype, "r", start, header.shape, "F" if by_column else "C")
    return array_part(str(path), {spec.name: array for spec in inputs})


def archive_part(path: Path) -> Part:
    """An .npz whose members are read row by row; only headers are read here."""
    columns: dict[str, Header] = {}
    members: dict[str, str] = {}
    damage = functools.partial(named, f"{path}: cannot be read as .npz", "write it again with np.savez")
    with damage(), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in members:
                raise ValueError(f"two arrays have the name {name!r}")
            _require_bytes(info, path.stat().st_size)
            with archive.open(info) as member:
                header, _ = _array_header(member)
                size = member.tell() + math.prod(header.shape) * header.dtype.itemsize
            if info.file_size < size and not header.dtype.hasobject:
                raise EOFError(f"{name!r} is shorter than its header says")
            columns[name], members[name] = header, info.filename

    def read(cuts: Iterable[slice]) -> Iterator[Arrays]:
        with damage(), ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            rows = [_rows(stack.enter_context(archive.open(member)), cuts) for member in members.values()]
            for arrays in zip(*rows, strict=True):
                yield dict(zip(members, arrays, strict=True))

    return Part(str(path), columns, read)


def _require_bytes(info: zipfile.ZipInfo, size: int) -> None:
    """Raises if an archive of `size` bytes cannot hold a member as large as its directory says."""
    if info.compress_type not in PACKED:
        raise ValueError(f"{info.filename!r} is neither stored nor deflated")
    packed = min(info.compress_size, max(size - info.header_offset, 0))
    if info.file_size > PACKED[info.compress_type] * packed:
        raise EOFError(f"{info.filename!r} cannot be {counted(info.file_size, 'byte')}, packed to {packed}")


def _array_header(file: IO[bytes]) -> tuple[Header, bool]:
    """Header of an .npy stream, and whether it is stored in Fortran order. Unpickles nothing.

    Headers of Python 2 (sizes as 3L) are read as others are, without NumPy's warning that they take longer.
    """
    version = np.lib.format.read_magic(file)
    if version not in ARRAY_HEADERS:
        raise ValueError(f"array format {version} is not for plain numbers")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*created on Python 2", UserWarning)
        shape, by_column, dtype = ARRAY_HEADERS[version](file)
    return Header(shape, dtype), by_column


def _rows(member: IO[bytes], cuts: Iterable[slice]) -> Iterator[NDArray[Any]]:
    header, by_column = _array_header(member)
    if by_column:
        whole = _read(member, header, header.shape, is_end=True, order="F")
        yield from (whole[cut] for cut in cuts)
        return
    for number, cut in enumerate(cuts):
        if not number and cut.start:
            member.seek(member.tell() + cut.start * math.prod(header.shape[1:]) * header.dtype.itemsize)
        yield _read(member, header, (cut.stop - cut.start, *header.shape[1:]), cut.stop == header.shape[0])


def _read(
    member: IO[bytes], header: Header, shape: tuple[int, ...], is_end: bool, order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    """The next numbers of a member. is_end: whether they are its last."""
    wanted = math.prod(shape) * header.dtype.itemsize
    data = member.read(wanted)
    if is_end:
        member.read(1)  # zipfile compares the checksum only when it meets the end of a member
    if len(data) != wanted:
        raise EOFError("it ends early")
    return np.ndarray(shape, header.dtype, data, order=order)
