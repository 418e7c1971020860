"""The inputs that a model takes, the arrays that a source holds, and whether the two fit.

Names, shapes, types and lengths are compared by headers alone; no values are read here.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import DataError
from graphpass.wording import counted

LABELS = "labels"
SAMPLES_FIRST = "export the network with samples on axis 0 (in PyTorch batch_first=True, or a transpose in front)"
END = object()  # of what is iterated
TRACEBACK = "Traceback (most recent call last):"  # end of the first line of what Python prints of an error
CASTS = {"f": "f", "i": "iu", "u": "iu", "b": "b"}  # kind the model takes → kinds that are cast to it

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class InputSpec:
    """One input of a model. shape: None for a free size; axis 0 is the batch."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


class Header(NamedTuple):
    """An array without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Part:
    """Samples from one place. read: adjacent slices → the rows of each slice, for every column. The slices are iterated
    once for each column.

    Raises DataError for columns whose samples hold no values, since a file may claim any number of those.
    """

    where: str
    columns: Mapping[str, Header]
    read: Callable[[Iterable[slice]], Iterator[Arrays]]

    def __post_init__(self) -> None:
        for name, header in self.columns.items():
            require_values(self.where, name, header)


def require_values(where: str, name: str, header: Header) -> None:
    """Raises DataError for an array with impossible sizes, or with samples of no bytes.

    bytes(sample) = itemsize · Π shape[1:] ≥ 1: then a file that claims n samples has to hold at least n bytes.
    """
    if any(size < 0 for size in header.shape):
        raise DataError(f"{where}: {name!r} has shape {header.shape}", "save it again with np.save or np.savez")
    if not header.dtype.itemsize * math.prod(header.shape[1:]):
        raise DataError(
            f"{where}: {name!r} is {header.dtype} of shape {header.shape}: its samples hold no values",
            "give every sample at least one number",
        )


def checked(description: str, parts: Iterable[Part], inputs: Sequence[InputSpec]) -> Iterator[tuple[Part, int]]:
    """Each part and its number of samples, after checking that it fits the model and the parts before it."""
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
    for name, header in {**part.columns, **label_columns(part, inputs)}.items():
        if header.shape[:1] != (length,):
            raise DataError(
                f"{part.where}: {name!r} has shape {header.shape}, {names[0]!r} has {counted(length, 'sample')}",
                _same_length(name, header, inputs, part.columns[names[0]]),
            )
    for header in label_columns(part, inputs).values():
        if header.dtype.kind not in "biuf":
            raise DataError(f"{part.where}: labels of type {header.dtype}", "save labels as integers")
    return length


def _same_length(name: str, header: Header, inputs: Sequence[InputSpec], first: Header) -> str:
    """What to do about an array that has not as many samples as the first input of the model."""
    if fixed := next((spec.shape[0] for spec in inputs[1:] if spec.name == name), None):
        return (
            f"the model wants {fixed} along axis 0 of {name!r}: if that axis holds no samples, make the input a "
            "constant of the model"
        )
    same = "give every array the same length on axis 0"
    axes = [axis for axis, size in enumerate(first.shape) if axis and size == header.shape[0]] if header.shape else []
    if not axes:
        return same
    return f"{same}; if axis {axes[0]} of {inputs[0].name!r} holds its samples, {SAMPLES_FIRST}"


def _check_column(where: str, header: Header, spec: InputSpec) -> None:
    wanted = ", ".join("N" if axis == 0 or size is None else str(size) for axis, size in enumerate(spec.shape))
    if not spec.shape:
        raise DataError(f"model input {spec.name!r} has no batch axis", "make it a constant of the model")
    if header.dtype.hasobject:
        raise DataError(
            f"{where}: {spec.name!r} holds Python objects, not numbers",
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


def label_columns(part: Part, inputs: Sequence[InputSpec]) -> dict[str, Header]:
    """The header of the labels, if there are labels. A model's input of that name is not labels."""
    is_input = any(spec.name == LABELS for spec in inputs)
    return {} if is_input or LABELS not in part.columns else {LABELS: part.columns[LABELS]}


def label_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that labels are returned in: integers as int64, floats in the machine's byte order."""
    return np.dtype(np.int64) if dtype.kind in "biu" else dtype.newbyteorder("=")


def _sample_form(part: Part, inputs: Sequence[InputSpec]) -> dict[str, tuple[object, ...]]:
    """Shape of one sample of each column, and type of the labels; these have to be equal in all parts."""
    forms: dict[str, tuple[object, ...]] = {spec.name: part.columns[spec.name].shape[1:] for spec in inputs}
    for name, header in label_columns(part, inputs).items():
        forms[name] = (*header.shape[1:], label_type(header.dtype))
    return forms


def require_unmasked(where: str, name: str, values: Any) -> None:
    """Raises DataError for an array with masked values, which numpy would take for values."""
    if np.ma.is_masked(values):
        raise DataError(f"{where}: {name!r} has values that are masked", "fill them in, or remove their samples")


@contextmanager
def named(what: str, remedy: str) -> Iterator[None]:
    """Turns every exception raised inside into a DataError; decoders and users' code may raise any type."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise DataError(f"{what} ({_reason(error)})", remedy) from error


def _reason(error: BaseException) -> str:
    """An error in one line; of one that quotes the traceback of another process, what follows the traceback."""
    lines = f"{type(error).__name__}: {error}".splitlines()
    quoted = [at for at, each in enumerate(lines) if each.startswith("  ")]
    if any(each.endswith(TRACEBACK) for each in lines) and quoted:  # from a worker of a DataLoader
        lines = lines[quoted[-1] + 1 :]
    return " ".join(" ".join(lines).split())


def numbered(where: str, items: Iterator[Any], what: str) -> Iterator[tuple[str, Any]]:
    """Each item and where it is from. what: what to correct where the next one cannot be had; raises DataError then."""
    for index in itertools.count():
        here = f"{where}, item {index}"
        with named(f"{here}: failed", f"correct the {what}"):
            item = next(items, END)
        if item is END:
            return
        yield here, item
