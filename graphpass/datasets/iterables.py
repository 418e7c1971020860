"""Iterables as datasets: a DataLoader of PyTorch, a Dataset of Hugging Face, a tf.data.Dataset, a list, a generator.

No library is imported for them; items are what counts:

    item                                    meaning
    a dict of arrays                        by the names of the model's inputs, and "labels" (or "label")
    a tuple or list of arrays               the inputs in the model's order, and labels, if one more
    a tuple of a dict or tuple, and labels  the same
    an array                                the one input

An array is whatever numpy takes, tensors included; or an image of Pillow, which is prepared as one of a folder. It
holds a batch if it has as many axes as the input, and one sample if it has one axis less.

What begins with the same samples twice is read again for every pass, as a function is. What does not (a generator, a
DataLoader that shuffles) is read once and held in memory.
"""

import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.arrays import array_part
from graphpass.datasets.dataset import Dataset, dataset_of
from graphpass.datasets.images import ImageOptions, frame_for, is_decoded, prepared
from graphpass.datasets.parts import (
    LABELS,
    Arrays,
    Header,
    InputSpec,
    Part,
    checked,
    label_columns,
    named,
    numbered,
    require_unmasked,
)
from graphpass.errors import DataError
from graphpass.wording import counted

COMPARED = 16  # samples by which two passes are told apart
HELD = 2 << 30  # bytes of what is read once, at most
LABEL = "label"  # what datasets of Hugging Face call it


def open_iterable(
    items: Any, inputs: Sequence[InputSpec], limit: int | None = None, images: ImageOptions | None = None
) -> Dataset:
    """The first `limit` samples of an iterable (default: all), in its order. images: how images of Pillow are prepared.

    Raises DataError for items that do not fit the model, and for more than HELD bytes that can be read only once.
    """
    where, read = type(items).__name__, _Reader(tuple(inputs), images or ImageOptions())

    def parts() -> Iterator[Part]:
        found = read.items(where, _begun(where, items))
        return _limited((array_part(here, arrays) for here, arrays in found), limit)

    if _begun(where, items) is items or not _begins_alike(*(read.items(where, _begun(where, items)) for _ in range(2))):
        held = list(_within(where, parts()))
        dataset = replace(dataset_of(where, inputs, lambda: held), held=sum(map(_size, held)))
    else:
        first, _ = next(checked(where, parts(), inputs))
        dataset = Dataset(where, None, LABELS in label_columns(first, inputs), tuple(inputs), parts)
    return replace(dataset, images=read.decoded)


def is_iterable(data: Any) -> bool:
    """Whether it can be iterated, or has items by number and a length, as PyTorch's own Dataset has."""
    return isinstance(data, Iterable) or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))


def _begun(where: str, items: Any) -> Iterator[Any]:
    with named(f"{where}: cannot be iterated", "give a DataLoader, a list, or another iterable"):
        return iter(items) if isinstance(items, Iterable) else (items[index] for index in range(len(items)))


@dataclass
class _Reader:
    """Turns items into arrays. decoded: whether images were among them."""

    inputs: tuple[InputSpec, ...]
    images: ImageOptions
    decoded: bool = False

    def items(self, where: str, items: Iterator[Any]) -> Iterator[tuple[str, Arrays]]:
        """The arrays of each item by name, with an axis of samples, and where they are from."""
        return ((here, self._arrays(here, item)) for here, item in numbered(where, items, "iterable"))

    def _arrays(self, where: str, item: Any) -> Arrays:
        ranks = {spec.name: len(spec.shape) for spec in self.inputs}
        values = _by_name(where, item, list(ranks))
        pictures = [name for name, value in values.items() if is_decoded(value)]
        if pictures:
            name, frame = self.inputs[0].name, frame_for(where, self.inputs, self.images)
            with named(f"{where}: cannot be used as an image", "give whole images of 8 bits"):
                values[name] = prepared(values.pop(pictures[0]), frame)
            self.decoded = True
        for name, value in values.items():
            require_unmasked(where, name, value)
        with named(f"{where}: is not made of arrays", "give tensors or arrays of numbers that numpy has"):
            # copies, since an iterable may fill the same buffer again while batches of it are in use
            arrays = {name: np.array(_plain(value)) for name, value in values.items()}
        known = [name for name in arrays if name in ranks]
        if known and all(arrays[name].ndim == ranks[name] - 1 for name in known):
            return {name: array[None] for name, array in arrays.items()}
        return arrays


def _by_name(where: str, item: Any, names: Sequence[str]) -> dict[str, Any]:
    if isinstance(item, Mapping):
        found = {str(name): value for name, value in item.items()}
        if LABEL in found and LABELS not in found and LABEL not in names:
            found[LABELS] = found.pop(LABEL)
        return found
    if not isinstance(item, tuple | list):
        item = (item,)
    if len(item) == 2 and _is_item(item[0]):
        return _by_name(where, item[0], names) | {LABELS: item[1]}
    if len(item) not in (len(names), len(names) + 1):
        raise DataError(
            f"{where}: {counted(len(item), 'value')} for a model of "
            f"{counted(len(names), 'input')} ({', '.join(names)})",
            f"give the inputs in this order and optionally labels, or a dict with these names and {LABELS!r}",
        )
    return dict(zip((*names, LABELS), item, strict=False))


def _is_item(value: Any) -> bool:
    """Whether these are the inputs of a sample or batch, and not a list of numbers."""
    return isinstance(value, Mapping) or (isinstance(value, tuple | list) and all(hasattr(e, "shape") for e in value))


def _plain(value: Any) -> Any:
    """A tensor of PyTorch as an array, without its gradient and in main memory; anything else as it is."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _begins_alike(one: Iterator[tuple[str, Arrays]], other: Iterator[tuple[str, Arrays]]) -> bool:
    """Whether the first COMPARED samples of two passes are the same."""
    seen = 0
    for (_, first), (_, second) in itertools.zip_longest(one, other, fillvalue=("", Arrays())):
        if first.keys() != second.keys() or not all(_same(each, second[name]) for name, each in first.items()):
            return False
        seen += max((len(each) for each in first.values() if each.ndim), default=1)
        if seen >= COMPARED:
            break
    return True


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def _length(part: Part) -> int:
    """Samples of a part that may not have been checked yet."""
    return min((header.shape[0] for header in part.columns.values() if header.shape), default=0)


def _size(part: Part) -> int:
    return sum(header.dtype.itemsize * math.prod(header.shape) for header in part.columns.values())


def _limited(parts: Iterable[Part], limit: int | None) -> Iterator[Part]:
    """The parts up to the one with sample `limit`, which is cut."""
    left = sys.maxsize if limit is None else limit
    for part in parts:
        length = _length(part)
        if length <= left:
            yield part
        else:
            yield replace(part, columns={name: _first(header, left) for name, header in part.columns.items()})
        left -= length
        if left <= 0:
            return


def _first(header: Header, samples: int) -> Header:
    return header._replace(shape=(samples, *header.shape[1:])) if header.shape else header


def _within(where: str, parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, unless they are larger than HELD."""
    size = 0
    for part in parts:
        size += _size(part)
        if size > HELD:
            raise DataError(
                f"{where}: it is kept in memory, because reading it again gives other samples, and it has more than "
                f"{HELD >> 30} GiB",
                "give a limit of samples, or data that repeats its samples, such as a DataLoader without shuffle",
            )
        yield part
