"""Tensors that wait to be used again: in memory up to a budget, in a temporary folder beyond it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class TensorStore:
    """Arrays by (name, batch); those that do not fit `budget` bytes wait in files."""

    def __init__(self, budget: int):
        self._budget = budget
        self._held: dict[tuple[str, int], NDArray[Any]] = {}
        self._spilled: dict[tuple[str, int], tuple[Path, np.dtype[Any], tuple[int, ...]]] = {}
        self._bytes = 0
        self._files = 0
        self._folder = tempfile.TemporaryDirectory(prefix="graphpass-")

    def __enter__(self) -> "TensorStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.clear()
        self._folder.cleanup()

    def put(self, name: str, batch: int, values: NDArray[Any]) -> None:
        key = (name, batch)
        self._discard(key)
        if values.dtype.hasobject or self._bytes + values.nbytes <= self._budget:  # texts cannot be written as bytes
            self._held[key] = values.copy()  # an output of a session holds on to the memory of the whole session
            self._bytes += values.nbytes
            return
        path = Path(self._folder.name) / str(self._files)
        self._files += 1
        path.write_bytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)  # unlike tofile, says why not
        self._spilled[key] = (path, values.dtype, values.shape)

    def get(self, name: str, batch: int) -> NDArray[Any]:
        key = (name, batch)
        if key in self._held:
            return self._held[key]
        path, dtype, shape = self._spilled[key]
        return np.fromfile(path, dtype).reshape(shape)

    def drop(self, name: str, batch: int | None = None) -> None:
        """Forget a tensor: a batch of it, or all."""
        keys = [(name, batch)] if batch is not None else [k for k in (*self._held, *self._spilled) if k[0] == name]
        for key in keys:
            self._discard(key)

    def _discard(self, key: tuple[str, int]) -> None:
        if key in self._held:
            self._bytes -= self._held.pop(key).nbytes
        elif key in self._spilled:
            self._spilled.pop(key)[0].unlink()
