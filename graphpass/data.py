"""Calibration and evaluation data: every source becomes the same ordered batches of a model's inputs.

    source               what it is                                      held in memory
    x.npz                arrays by input name, optionally "labels"       a batch: members are read row by row
    x.npy                the samples of a model with one input           a batch: the file is memory-mapped
    folder of .npz       shards in the order of their names              a batch
    folder of images     one subfolder a class, or a flat folder         a batch: decoded when asked for
    file.py:function     a function that yields dicts of arrays          what it yields, and a batch
    dict of arrays       `from_arrays`                                   the arrays

A member of an .npz that was saved in Fortran order is the exception: it is loaded whole. Names, shapes, types
and lengths are checked when a source is opened, from headers alone; values (NaN, inf, integers out of range)
and whatever a function yields after its first dict are checked when read. Batches may be read-only views.
"""

import functools
import hashlib
import importlib.util
import itertools
import math
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graphpass.errors import DataError, OptionError

LABELS = "labels"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = "use .npz, .npy, a folder of .npz shards, a folder of images or file.py:function"
DIGEST_BATCH = 256  # samples hashed at a time; the digest does not depend on it
DIGEST_SAMPLES = 10_000  # of a function's samples, which may be without end
CASTS = {"f": "f", "i": "iu", "u": "iu", "b": "b"}  # kind the model takes → kinds that are cast to it
ARRAY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
END = object()  # of what a function yields

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class InputSpec:
    """What a model wants of one input. shape: None where any size will do; axis 0 is the batch."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """inputs: one array [n, ...] a model input, in its dtype. labels: [n, ...], integers as int64, if any."""

    inputs: Arrays
    labels: NDArray[Any] | None

    @property
    def size(self) -> int:
        """n, the number of samples."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class ImageOptions:
    """x = (pixels/255 − mean)/std, once the shorter side is scaled to the frame and the longer one cut.

    size: height and width in pixels where the model leaves them free. mean, std: one value, or one a channel.
    """

    size: int = 224
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


class Header(NamedTuple):
    """An array without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Part:
    """Samples with one home. read: adjacent slices, the first from 0 → the rows of each, for every column."""

    where: str
    columns: Mapping[str, Header]
    read: Callable[[Sequence[slice]], Iterator[Arrays]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples in a fixed order. samples: how many, None where only reading tells (a function)."""

    description: str
    samples: int | None
    labelled: bool
    inputs: tuple[InputSpec, ...]
    parts: Callable[[], Iterable[Part]] = field(repr=False)
    file_digest: Callable[[], str] | None = field(default=None, repr=False)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """The first `limit` samples (default: all) in batches of `size`; only the last may be shorter.

        Raises OptionError for a size or limit below 1, DataError where the data does not fit the model.
        """
        if size < 1 or (limit is not None and limit < 1):
            raise OptionError(
                f"{self.description}: batches of {size} up to {limit} samples",
                "choose a size and a limit of 1 or more",
            )
        return self._batches(size, sys.maxsize if limit is None else limit)

    def _batches(self, size: int, left: int) -> Iterator[Batch]:
        pending: list[Batch] = []
        for part, length in _checked(self.description, self.parts(), self.inputs):
            take = min(length, left)
            missing = size - sum(batch.size for batch in pending)
            edges = [0, *range(min(missing, take), take, size), take] if take else []
            cuts = list(itertools.starmap(slice, itertools.pairwise(edges)))
            for cut, arrays in zip(cuts, part.read(cuts), strict=True):
                pending.append(_given(part.where, arrays, self.inputs, cut.start))
                if cut.stop - cut.start == missing:
                    yield _joined(pending)
                    pending, missing = [], size
            left -= take
            if not left:
                break
        if pending:
            yield _joined(pending)

    @functools.cached_property
    def digest(self) -> str:
        """sha256 (hex) of the samples as the model gets them and of the labels, computed when asked for.

        The same samples give the same digest from any array source, however they are cut, stored or dated. A
        function is hashed over its first 10,000 samples, a folder of images over the bytes of its files, the
        labels and the preparation: hashing decodes none.
        """
        if self.file_digest is not None:
            return self.file_digest()
        columns: dict[str, Any] = {}
        heads: dict[str, str] = {}
        count = 0
        for batch in self.batches(DIGEST_BATCH, DIGEST_SAMPLES if self.samples is None else None):
            count += batch.size
            arrays = batch.inputs if batch.labels is None else batch.inputs | {LABELS: batch.labels}
            for name, array in arrays.items():
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                heads[name] = f"{name} {little.dtype.str} {little.shape[1:]}"
                columns.setdefault(name, hashlib.sha256()).update(little.tobytes())
        lines = [f"{heads[name]} {column.hexdigest()}\n" for name, column in sorted(columns.items())]
        return hashlib.sha256("".join([f"{count}\n", *lines]).encode()).hexdigest()


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputSpec], description: str = "arrays"
) -> Dataset:
    """Arrays [n, ...] by input name, optionally "labels". Raises DataError if they do not fit the model."""
    part = _array_part(description, {name: np.asarray(array) for name, array in arrays.items()})
    return _dataset(description, inputs, lambda: [part])


def open_dataset(
    source: str, inputs: Sequence[InputSpec], images: ImageOptions | None = None, allow_code: bool = False
) -> Dataset:
    """Open one of the sources of the module's table.

    images: how a folder of images is prepared; other sources do not ask. Their labels are the folders' places
    in the order of their names, or the names themselves where all are integers. allow_code: whether the file
    of file.py:function may be imported and its function called, which it is anew for every pass.
    Raises DataError naming the file and the remedy, OptionError for image options that make no sense.
    """
    code = re.fullmatch(r"(.+\.py):(\w+)", str(source))
    path = Path(code[1] if code else source)
    if not os.path.exists(path):  # unlike the method, it takes names that cannot exist
        raise DataError(f"{path}: no such file or folder", SUFFIXES)
    if code:
        return _open_function(path, code[2], inputs, allow_code)
    if path.is_dir():
        return _open_folder(path, inputs, images or ImageOptions())
    match path.suffix.lower():
        case ".npz":
            return _dataset(path.name, inputs, lambda: [_archive_part(path)])
        case ".npy":
            return _dataset(path.name, inputs, lambda: [_npy_part(path, inputs)])
        case ".py":
            raise DataError(f"{path}: which function yields the data?", f"write {path}:function")
    raise DataError(f"{path}: data of an unknown kind", SUFFIXES)


# ---- checks: what every source goes through


def _dataset(
    description: str,
    inputs: Sequence[InputSpec],
    parts: Callable[[], Iterable[Part]],
    file_digest: Callable[[], str] | None = None,
) -> Dataset:
    seen = list(_checked(description, parts(), inputs))
    labelled = LABELS in _label_columns(seen[0][0], inputs)
    samples = sum(length for _, length in seen)
    return Dataset(description, samples, labelled, tuple(inputs), parts, file_digest)


def _checked(description: str, parts: Iterable[Part], inputs: Sequence[InputSpec]) -> Iterator[tuple[Part, int]]:
    """Each part and its number of samples, once it fits the model and the parts before it."""
    if not inputs:
        raise DataError("the model has no inputs", "give a model that takes at least one input")
    first: Part | None = None
    total = 0
    for part in parts:
        length = _length(part, inputs)
        first = first or part
        columns, expected = _sample_form(part, inputs), _sample_form(first, inputs)
        different = sorted(name for name in columns | expected if columns.get(name) != expected.get(name))
        if different:
            raise DataError(
                f"{part.where}: {different[0]!r} has samples of another shape or type than in {first.where}",
                "pad or crop every sample to one shape, and label all of them or none",
            )
        total += length
        yield part, length
    if not total:
        raise DataError(
            f"{first.where if first else description}: no samples",
            "give at least one; a function must start afresh when called again",
        )


def _length(part: Part, inputs: Sequence[InputSpec]) -> int:
    names = [spec.name for spec in inputs]
    missing = [name for name in names if name not in part.columns]
    extra = [name for name in part.columns if name not in names and name != LABELS]
    if len(names) == len(missing) == len(extra) == 1:
        raise DataError(
            f"{part.where}: holds {extra[0]!r} where the model takes {names[0]!r}",
            f"rename the array, for example np.savez('data.npz', **{{{names[0]!r}: array}})",
        )
    if missing or extra:
        wrong = [f"{name!r} is missing" for name in missing] + [f"{name!r} is not an input" for name in extra]
        raise DataError(
            f"{part.where}: {', '.join(wrong)}",
            f"name the arrays {', '.join(names)}, and optionally {LABELS}",
        )
    for spec in inputs:
        _check_column(part.where, part.columns[spec.name], spec)
    length = part.columns[names[0]].shape[0]
    for name, header in {**part.columns, **_label_columns(part, inputs)}.items():
        if header.shape[:1] != (length,):
            raise DataError(
                f"{part.where}: {name!r} has shape {header.shape}, {names[0]!r} has {length} samples",
                "give every array the same length on axis 0",
            )
    for header in _label_columns(part, inputs).values():
        if header.dtype.kind not in "biuf":
            raise DataError(f"{part.where}: labels of type {header.dtype}", "save labels as integers")
    return length


def _check_column(where: str, header: Header, spec: InputSpec) -> None:
    wanted = ", ".join("N" if axis == 0 or size is None else str(size) for axis, size in enumerate(spec.shape))
    if not spec.shape:
        raise DataError(f"model input {spec.name!r} has no batch axis", "make it a constant of the model")
    if header.dtype.hasobject:
        raise DataError(
            f"{where}: {spec.name!r} holds pickled Python objects",
            f"save it as a plain array of {spec.dtype}",
        )
    fits = len(header.shape) == len(spec.shape) and all(
        size in (None, got) for size, got in zip(spec.shape[1:], header.shape[1:], strict=True)
    )
    if not fits:
        raise DataError(
            f"{where}: {spec.name!r} has shape {header.shape}, the model takes ({wanted})",
            "reshape, transpose or resize the samples to the model's shape",
        )
    if header.dtype.kind not in CASTS.get(spec.dtype.kind, ""):
        scale = header.dtype == np.uint8 and spec.dtype.kind == "f"
        raise DataError(
            f"{where}: {spec.name!r} is {header.dtype}, the model takes {spec.dtype}",
            f"scale it as in training, for example array.astype('{spec.dtype}') / 255"
            if scale
            else f"save it as {spec.dtype}, for example with array.astype('{spec.dtype}')",
        )


def _label_columns(part: Part, inputs: Sequence[InputSpec]) -> dict[str, Header]:
    """The labels' header where there are labels; a model may have an input of that name, which is none."""
    is_input = any(spec.name == LABELS for spec in inputs)
    return {} if is_input or LABELS not in part.columns else {LABELS: part.columns[LABELS]}


def _label_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.int64) if dtype.kind in "biu" else dtype.newbyteorder("=")


def _sample_form(part: Part, inputs: Sequence[InputSpec]) -> dict[str, tuple[object, ...]]:
    """Shape of one sample of each column, and the type of the labels: what makes two parts fit together."""
    forms: dict[str, tuple[object, ...]] = {spec.name: part.columns[spec.name].shape[1:] for spec in inputs}
    for name, header in _label_columns(part, inputs).items():
        forms[name] = (*header.shape[1:], _label_type(header.dtype))
    return forms


def _given(where: str, arrays: Arrays, inputs: Sequence[InputSpec], start: int) -> Batch:
    """The rows as the model gets them. start: index in the part of the first row, for errors."""
    names = [spec.name for spec in inputs]
    labels = None if LABELS in names else arrays.get(LABELS)
    return Batch(
        {spec.name: _fed(where, spec.name, arrays[spec.name], spec.dtype, start) for spec in inputs},
        None if labels is None else _fed(where, LABELS, labels, _label_type(labels.dtype), start),
    )


def _fed(where: str, name: str, rows: NDArray[Any], dtype: np.dtype[Any], start: int) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is inf, and refused below
        fed = np.ascontiguousarray(rows, dtype.newbyteorder("="))
    if dtype.kind == "f":
        wrong, remedy = ~np.isfinite(fed), "remove or repair the sample"
    else:
        wrong, remedy = fed != rows, f"give values that {dtype} can hold"
    if wrong.any():
        index = start + int(np.argmax(wrong.reshape(len(rows), -1).any(axis=1)))
        what = "NaN or inf" if dtype.kind == "f" else "a number out of range"
        raise DataError(f"{where}: {name!r} holds {what} as {dtype} in sample {index}", remedy)
    return fed


def _joined(pieces: Sequence[Batch]) -> Batch:
    if len(pieces) == 1:
        return pieces[0]
    labels = [piece.labels for piece in pieces if piece.labels is not None]
    inputs = {name: np.concatenate([piece.inputs[name] for piece in pieces]) for name in pieces[0].inputs}
    return Batch(inputs, np.concatenate(labels) if labels else None)


# ---- arrays: in memory, .npy, .npz


def _array_part(where: str, arrays: Arrays) -> Part:
    def read(cuts: Sequence[slice]) -> Iterator[Arrays]:
        return ({name: array[cut] for name, array in arrays.items()} for cut in cuts)

    return Part(where, {name: Header(array.shape, array.dtype) for name, array in arrays.items()}, read)


def _npy_part(path: Path, inputs: Sequence[InputSpec]) -> Part:
    if len(inputs) > 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(f"{path}: one array for a model with several inputs", f"save an .npz with the arrays {names}")
    with _named(f"{path}: cannot be read as .npy", "write it again with np.save"):
        with path.open("rb") as file:
            header, _ = _array_header(file)
        if header.dtype.hasobject or 0 in header.shape:  # neither can be mapped; the checks say what is wrong
            array = np.broadcast_to(np.empty((), header.dtype), header.shape)
        else:
            array = np.lib.format.open_memmap(path, mode="r")
    return _array_part(str(path), {spec.name: array for spec in inputs})


def _archive_part(path: Path) -> Part:
    """An .npz whose members are read row by row; only headers are read here."""
    columns: dict[str, Header] = {}
    members: dict[str, str] = {}
    damage = functools.partial(_named, f"{path}: cannot be read as .npz", "write it again with np.savez")
    with damage(), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                header, _ = _array_header(member)
                size = member.tell() + math.prod(header.shape) * header.dtype.itemsize
            if info.file_size < size and not header.dtype.hasobject:
                raise EOFError(f"{name!r} is shorter than its header says")
            columns[name], members[name] = header, info.filename

    def read(cuts: Sequence[slice]) -> Iterator[Arrays]:
        with damage(), ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            rows = [_rows(stack.enter_context(archive.open(member)), cuts) for member in members.values()]
            for arrays in zip(*rows, strict=True):
                yield dict(zip(members, arrays, strict=True))

    return Part(str(path), columns, read)


def _array_header(file: IO[bytes]) -> tuple[Header, bool]:
    """Header of an .npy stream, and whether it is stored in Fortran order. Unpickles nothing."""
    version = np.lib.format.read_magic(file)
    if version not in ARRAY_HEADERS:
        raise ValueError(f"array format {version} is not for plain numbers")
    shape, by_column, dtype = ARRAY_HEADERS[version](file)
    return Header(shape, dtype), by_column


def _rows(member: IO[bytes], cuts: Sequence[slice]) -> Iterator[NDArray[Any]]:
    header, by_column = _array_header(member)
    if by_column:
        member.seek(0)
        whole = np.lib.format.read_array(member, allow_pickle=False)
        yield from (whole[cut] for cut in cuts)
        return
    for cut in cuts:
        shape = (cut.stop - cut.start, *header.shape[1:])
        wanted = math.prod(shape) * header.dtype.itemsize
        data = member.read(wanted)
        if cut.stop == header.shape[0]:
            member.read(1)  # zipfile compares the checksum only when it meets the end of a member
        if len(data) != wanted:
            raise EOFError("it ends early")
        yield np.ndarray(shape, header.dtype, data)


@contextmanager
def _named(what: str, remedy: str) -> Iterator[None]:
    """Turns whatever is raised inside into a DataError: decoders and users' code raise any type."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{what} ({reason})", remedy) from error


# ---- a function that yields dicts of arrays


def _open_function(path: Path, name: str, inputs: Sequence[InputSpec], allow_code: bool) -> Dataset:
    where = f"{path}:{name}"
    if not allow_code:
        raise DataError(f"{where}: data from code is not allowed here", "save what it yields as .npz")
    function = _loaded(path, name)

    def parts() -> Iterator[Part]:
        return _yielded(where, _begun(where, function))

    if _begun(where, function) is _begun(where, function):
        raise DataError(f"{where}: returns one iterator twice", "return a fresh one from every call, or use yield")
    first, _ = next(_checked(where, parts(), inputs))
    description = f"{path.name}:{name}"
    return Dataset(description, None, LABELS in _label_columns(first, inputs), tuple(inputs), parts)


def _loaded(path: Path, name: str) -> Callable[[], Any]:
    module_name = f"graphpass_data_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path}: cannot be imported", "give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look a class's module up there
    with _named(f"{path}: failed on import", "mend it; if it imports its neighbours, set PYTHONPATH to its folder"):
        spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"{path}: has no function {name!r}", f"define {name}() in it, yielding dicts of arrays")
    return cast(Callable[[], Any], function)


def _begun(where: str, function: Callable[[], Any]) -> Iterator[Any]:
    with _named(f"{where}: failed", "mend the function; it takes no arguments and yields dicts of arrays"):
        return iter(function())


def _yielded(where: str, items: Iterator[Any]) -> Iterator[Part]:
    for index in itertools.count():
        here = f"{where}, item {index}"
        with _named(f"{here}: failed", "mend the function"):
            item = next(items, END)
        if item is END:
            return
        if not isinstance(item, Mapping):
            raise DataError(f"{here}: is a {type(item).__name__}", "yield dicts of arrays keyed by input name")
        with _named(f"{here}: is not made of arrays", "yield dicts of numpy arrays"):
            # copies, since a function may fill the same buffer again while batches of it are in use
            arrays = {str(key): np.array(value) for key, value in item.items()}
        yield _array_part(here, arrays)


# ---- folders


def _open_folder(folder: Path, inputs: Sequence[InputSpec], options: ImageOptions) -> Dataset:
    entries = _visible(folder)
    shards = [entry for entry in entries if entry.suffix.lower() == ".npz"]
    if shards:
        _refuse_others(entries, shards, "an .npz shard")
        return _dataset(folder.name, inputs, lambda: map(_archive_part, shards))
    classes = [entry for entry in entries if entry.is_dir()]
    files, labels = _classified(classes) if classes else (_images(entries), None)
    if not files:
        raise DataError(f"{folder}: a folder with neither .npz shards nor images", SUFFIXES)
    _refuse_others(entries, classes or files, "a folder of images" if classes else "an image")
    frame = _frame(folder, inputs, options)
    return _dataset(
        folder.name,
        inputs,
        lambda: [_image_part(folder, inputs[0].name, files, labels, frame)],
        lambda: _file_digest(files, labels, frame),
    )


def _visible(folder: Path) -> list[Path]:
    """What the folder holds, sorted by name; hidden entries (.DS_Store) are not data."""
    with _named(f"{folder}: cannot be read", "check its permissions"):
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _images(entries: Iterable[Path]) -> list[Path]:
    return [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.is_dir()]


def _refuse_others(entries: Iterable[Path], known: Sequence[Path], kind: str) -> None:
    accepted = set(known)
    for entry in entries:
        if entry not in accepted:
            raise DataError(f"{entry}: not {kind}, unlike what lies beside it", "move it out of the folder")


def _classified(classes: Sequence[Path]) -> tuple[list[Path], NDArray[np.int64]]:
    """Images of all class folders, and labels [n]: the folders' names if all are integers, else the rank."""
    numbered = all(re.fullmatch(r"[0-9]{1,18}", folder.name) for folder in classes)
    files: list[Path] = []
    labels: list[int] = []
    for rank, folder in enumerate(classes):
        entries = _visible(folder)
        images = _images(entries)
        _refuse_others(entries, images, "an image")
        files += images
        labels += [int(folder.name) if numbered else rank] * len(images)
    return files, np.array(labels, np.int64)


# ---- images


@dataclass(frozen=True)
class Frame:
    """What an image is made into: float32 [channels, height, width], or [height, width, channels]."""

    height: int
    width: int
    channels: int
    channels_first: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        area = self.height, self.width
        return (self.channels, *area) if self.channels_first else (*area, self.channels)


def _frame(folder: Path, inputs: Sequence[InputSpec], options: ImageOptions) -> Frame:
    spec = inputs[0] if len(inputs) == 1 else None
    if spec is None or len(spec.shape) != 4 or spec.dtype.kind != "f" or {1, 3}.isdisjoint(spec.shape[1::2]):
        raise DataError(
            f"{folder}: images need a model with one float input [N, C, H, W] or [N, H, W, C], C = 1 or 3",
            "save the prepared samples as .npz",
        )
    channels_first = spec.shape[1] in (1, 3)  # the ONNX order where both would do
    channels, height, width = (spec.shape[axis] for axis in ((1, 2, 3) if channels_first else (3, 1, 2)))
    mean, std = options.mean, options.std
    if options.size < 1 or not all(map(math.isfinite, mean + std)) or not all(value > 0 for value in std):
        raise OptionError(f"image size {options.size}, mean {mean}, std {std}", "give a size and std above 0")
    return Frame(
        height or options.size,
        width or options.size,
        channels or 1,
        channels_first,
        _per_channel("mean", mean, channels or 1),
        _per_channel("std", std, channels or 1),
    )


def _per_channel(option: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(set(values)) == 1:
        return values[:1] * channels
    if len(values) != channels:
        raise OptionError(
            f"image {option} has {len(values)} values, the model takes {channels} channels",
            f"give one value or {channels}",
        )
    return values


def _image_part(folder: Path, name: str, files: Sequence[Path], labels: NDArray[np.int64] | None, frame: Frame) -> Part:
    columns = {name: Header((len(files), *frame.shape), np.dtype(np.float32))}
    if labels is not None:
        columns[LABELS] = Header(labels.shape, labels.dtype)

    def read(cuts: Sequence[slice]) -> Iterator[Arrays]:
        for cut in cuts:
            arrays: Arrays = {name: np.stack([_prepared(file, frame) for file in files[cut]])}
            yield arrays if labels is None else arrays | {LABELS: labels[cut]}

    return Part(str(folder), columns, read)


def _prepared(file: Path, frame: Frame) -> NDArray[np.float32]:
    """(pixels/255 − mean)/std of the image, cut to the frame: float32 of the frame's shape."""
    remedy = f"remove it, or save it as a whole 8-bit image of at most {Image.MAX_IMAGE_PIXELS} pixels"
    with _named(f"{file}: cannot be read as an image", remedy), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError("more than 8 bits a channel")
            image.info.pop("transparency", None)  # alpha is dropped; Pillow would warn of it
            plain = image.convert("L" if frame.channels == 1 else "RGB")
    cut = plain.resize((frame.width, frame.height), Image.Resampling.BILINEAR, _centre(plain.size, frame))
    scaled = np.array(cut, np.float32).reshape(frame.height, frame.width, frame.channels)
    scaled /= 255
    scaled -= np.array(frame.mean, np.float32)
    scaled /= np.array(frame.std, np.float32)
    return scaled.transpose(2, 0, 1) if frame.channels_first else scaled


def _centre(size: tuple[int, int], frame: Frame) -> tuple[float, float, float, float]:
    """The box of an image that fills the frame: left, upper, right, lower, in the image's pixels.

    Its corner lies on a whole pixel of the scaled image: what needs no scaling is not blurred.
    Cutting before scaling keeps a very long image from growing beyond memory.
    """
    (width, height), wanted = size, (frame.width, frame.height)
    scale = min(width / wanted[0], height / wanted[1])
    left, upper = (max(0, int((full / scale - part) / 2)) * scale for full, part in zip(size, wanted, strict=True))
    return left, upper, min(width, left + wanted[0] * scale), min(height, upper + wanted[1] * scale)


def _file_digest(files: Sequence[Path], labels: NDArray[np.int64] | None, frame: Frame) -> str:
    digest = hashlib.sha256(f"{frame}\n".encode())
    for index, file in enumerate(files):
        with _named(f"{file}: cannot be read", "check its permissions"):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{content} {None if labels is None else labels[index]}\n".encode())
    return digest.hexdigest()
