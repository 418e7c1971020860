"""A dataset in two halves: one to choose by, one to report on.

    chosen on: samples 0, 2, 4 …        reported on: samples 1, 3, 5 …

Neighbours go to different halves, since data is often sorted by class.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from graphpass.datasets.dataset import Dataset
from graphpass.datasets.parts import Arrays, Header, Part, checked
from graphpass.errors import DataError
from graphpass.wording import counted

LEAST = 4  # samples, so that each half has two
NAMES = ("the even samples", "the odd samples")


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The even and the odd samples. Raises DataError for fewer than LEAST samples."""
    if dataset.samples is not None:
        _require_enough(dataset, dataset.samples)
    even, odd = (_half(dataset, first) for first in (0, 1))
    return even, odd


def fewer(dataset: Dataset, least: int) -> Dataset:
    """Every fourth sample, or every other, or all: at least so many. All where their number is unknown."""
    for _ in range(2):
        if dataset.samples is not None and dataset.samples // 2 >= max(least, LEAST):
            dataset = _half(dataset, 0)
    return dataset


def _half(dataset: Dataset, first: int) -> Dataset:
    def parts() -> Iterator[Part]:
        before = 0
        for part, length in checked(dataset.description, dataset.parts(), dataset.inputs):
            start = (first - before) % 2
            if start < length:
                yield _every_other(part, start, length)
            before += length
        _require_enough(dataset, before)

    return replace(
        dataset,
        description=f"{dataset.description}, {NAMES[first]}",
        samples=None if dataset.samples is None else (dataset.samples + 1 - first) // 2,
        parts=parts,
        file_digest=lambda: hashlib.sha256(f"{dataset.digest} {NAMES[first]}".encode()).hexdigest(),
    )


def _require_enough(dataset: Dataset, samples: int) -> None:
    if samples < LEAST:
        raise DataError(
            f"{dataset.description}: {counted(samples, 'sample')}; one half decides, and the other half is reported",
            f"give at least {LEAST}, better some hundreds",
        )


@dataclass(frozen=True)
class _Doubled:
    """Slices of a half as those of the whole; iterated once for each column, like those that are given."""

    cuts: Iterable[slice]
    length: int

    def __iter__(self) -> Iterator[slice]:
        return (slice(2 * cut.start, min(2 * cut.stop, self.length)) for cut in self.cuts)


def _every_other(part: Part, start: int, length: int) -> Part:
    """Rows start, start + 2 … of a part of so many rows; those between are read, too, since files are read in order."""
    count = (length - start + 1) // 2

    def read(cuts: Iterable[slice]) -> Iterator[Arrays]:
        for arrays in part.read(_Doubled(cuts, length)):
            yield {name: rows[start::2] for name, rows in arrays.items()}

    columns = {name: Header((count, *header.shape[1:]), header.dtype) for name, header in part.columns.items()}
    return Part(part.where, columns, read)
