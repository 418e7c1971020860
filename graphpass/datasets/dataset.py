"""Samples in a fixed order, as batches of a model's inputs, and their digest."""

import functools
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.parts import LABELS, Arrays, InputSpec, Part, checked, label_columns, label_type
from graphpass.errors import DataError, OptionError

DIGEST_BATCH = 256  # samples hashed at a time; the digest does not depend on it
DIGEST_SAMPLES = 10_000  # of a function's samples, which may never end


@dataclass(frozen=True, eq=False)
class Batch:
    """inputs: one array [n, ...] for each model input, in its dtype. labels: [n, ...], integers as int64, or None."""

    inputs: Arrays
    labels: NDArray[Any] | None

    @property
    def size(self) -> int:
        """n, the number of samples."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class Cuts:
    """Rows first … last − 1 as adjacent slices, the first of `missing` rows, the others of `size`; made one by one.

    >>> [(cut.start, cut.stop) for cut in Cuts(3, 9, 1, 4)]
    [(3, 4), (4, 8), (8, 9)]
    """

    first: int
    last: int
    missing: int
    size: int

    def __iter__(self) -> Iterator[slice]:
        start, stop = self.first, self.first + self.missing
        while start < self.last:
            yield slice(start, min(stop, self.last))
            start, stop = stop, stop + self.size


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples in a fixed order.

    samples: how many, None where that is known only after reading (a function). held: bytes allocated for them here.
    images: whether they were made of images; options of images apply to those alone.
    """

    description: str
    samples: int | None
    labelled: bool
    inputs: tuple[InputSpec, ...]
    parts: Callable[[], Iterable[Part]] = field(repr=False)
    file_digest: Callable[[], str] | None = field(default=None, repr=False)
    held: int = 0
    images: bool = False

    def batches(self, size: int, limit: int | None = None, start: int = 0) -> Iterator[Batch]:
        """Samples from `start` on of the first `limit` (default: all), in batches of `size`; the last may be shorter.

        Raises OptionError for a size or limit below 1, DataError where the data does not fit the model.
        """
        if size < 1 or (limit is not None and limit < 1) or start < 0:
            raise OptionError(
                f"{self.description}: batches of {size} from {start} up to {limit} samples",
                "choose a size and a limit of 1 or more, and a start of 0 or more",
            )
        return self._batches(size, sys.maxsize if limit is None else limit, start)

    def between(self, size: int, limit: int | None, start: int, stop: int | None) -> Iterator[Batch]:
        """The batches among the first `limit` samples that begin at samples start … stop − 1; stop None: to the end.

        So both ends move up to the next whole batch, and adjacent spans stay adjacent. Errors: as for `batches`.
        """
        ends = [each for each in (limit, None if stop is None else whole_batches(stop, size)) if each is not None]
        return self.batches(size, min(ends, default=None), whole_batches(start, size))

    def _batches(self, size: int, limit: int, start: int) -> Iterator[Batch]:
        collected: list[Batch] = []
        before = 0  # samples of the parts so far
        for part, length in checked(self.description, self.parts(), self.inputs):
            first, last = max(start - before, 0), min(length, limit - before)
            missing = size - sum(batch.size for batch in collected)
            cuts = Cuts(first, last, missing, size)
            for cut, arrays in zip(cuts, part.read(cuts), strict=True):
                collected.append(_given(part.where, arrays, self.inputs, cut.start))
                if cut.stop - cut.start == missing:
                    yield _joined(collected)
                    collected, missing = [], size
            before += length
            if before >= limit:
                break
        if collected:
            yield _joined(collected)

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


def whole_batches(samples: int, size: int) -> int:
    """The number of samples, rounded up to whole batches.

    >>> whole_batches(65, 32)
    96
    """
    return -(-samples // size) * size


def dataset_of(
    description: str,
    inputs: Sequence[InputSpec],
    parts: Callable[[], Iterable[Part]],
    file_digest: Callable[[], str] | None = None,
    images: bool = False,
) -> Dataset:
    """The parts as a dataset, after all of them were checked. parts: is called again for every pass."""
    seen = list(checked(description, parts(), inputs))
    labelled = LABELS in label_columns(seen[0][0], inputs)
    samples = sum(length for _, length in seen)
    return Dataset(description, samples, labelled, tuple(inputs), parts, file_digest, images=images)


def _given(where: str, arrays: Arrays, inputs: Sequence[InputSpec], start: int) -> Batch:
    """The rows as the model gets them. start: index of the first row in the part, for errors."""
    names = [spec.name for spec in inputs]
    labels = None if LABELS in names else arrays.get(LABELS)
    return Batch(
        {spec.name: _fed(where, spec.name, arrays[spec.name], spec.dtype, start) for spec in inputs},
        None if labels is None else _fed(where, LABELS, labels, label_type(labels.dtype), start),
    )


def _fed(where: str, name: str, rows: NDArray[Any], dtype: np.dtype[Any], start: int) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):  # a value that overflows becomes inf and is refused below
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
