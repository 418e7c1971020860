"""Tensors that wait to be used again: in memory up to a budget, in a temporary file beyond it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.files import naming


@dataclass(frozen=True)
class _Place:
    """Where an array is in the file, from byte `start` on; `size` bytes are its own until it is forgotten."""

    start: int
    size: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class TensorStore:
    """Arrays by (name, batch); those that do not fit `budget` bytes wait in one file.

    The file's places are used again: what has been written before is written over faster than a new file is made.
    """

    def __init__(self, budget: int):
        self._budget = budget
        self._held: dict[tuple[str, int], NDArray[Any]] = {}
        self._spilled: dict[tuple[str, int], _Place] = {}
        self._free: list[tuple[int, int]] = []  # sizes and starts of places that nobody has
        self._bytes = 0
        self._end = 0  # of the file
        self._folder = tempfile.TemporaryDirectory(prefix="graphpass-")
        self._path = Path(self._folder.name) / "tensors"
        self._path.touch()

    def __enter__(self) -> "TensorStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.clear()
        self._folder.cleanup()

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more fit in memory."""
        return self._bytes + size <= self._budget

    def put(self, name: str, batch: int, values: NDArray[Any]) -> None:
        """Keep a copy: an output of a session holds on to the memory of the whole session."""
        self._keep(name, batch, values, copied=True)

    def take_over(self, name: str, batch: int, values: NDArray[Any]) -> None:
        """Keep the array itself, which nobody changes any more."""
        self._keep(name, batch, values, copied=False)

    def _keep(self, name: str, batch: int, values: NDArray[Any], copied: bool) -> None:
        key = (name, batch)
        self._discard(key)
        if values.dtype.hasobject or self.has_room(values.nbytes):  # texts cannot be written as bytes
            self._held[key] = values.copy() if copied else values
            self._bytes += values.nbytes
            return
        start, size = self._place(values.nbytes)
        with naming(self._path), self._path.open("r+b") as file:
            file.seek(start)
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)  # unlike tofile, says why not
        self._spilled[key] = _Place(start, size, values.dtype, values.shape)

    def get(self, name: str, batch: int) -> NDArray[Any]:
        key = (name, batch)
        if key in self._held:
            return self._held[key]
        place = self._spilled[key]
        return np.fromfile(self._path, place.dtype, int(np.prod(place.shape)), offset=place.start).reshape(place.shape)

    def drop(self, name: str, batch: int | None = None) -> None:
        """Forget a tensor: a batch of it, or all."""
        keys = [(name, batch)] if batch is not None else [k for k in (*self._held, *self._spilled) if k[0] == name]
        for key in keys:
            self._discard(key)

    def _place(self, size: int) -> tuple[int, int]:
        """Start and size of a place in the file for so many bytes: the smallest free one with room, or a new one."""
        fitting = [place for place in self._free if place[0] >= size]
        if fitting:
            found = min(fitting)
            self._free.remove(found)
            return found[1], found[0]
        start, self._end = self._end, self._end + size
        return start, size

    def _discard(self, key: tuple[str, int]) -> None:
        if key in self._held:
            self._bytes -= self._held.pop(key).nbytes
        elif key in self._spilled:
            place = self._spilled.pop(key)
            self._free.append((place.size, place.start))
            if not self._spilled:
                self._free, self._end = [], 0
