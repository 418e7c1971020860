"""Outputs of networks that are run once for many comparisons on the same data: the original one, and baselines."""

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from graphpass.runtime.store import TensorStore

Arrays = Mapping[str, NDArray[Any]]


class Remembered:
    """Outputs by network and first sample of a batch. All batches are of one dataset and one size.

    Of each kind of network one is remembered: another one of that kind, by its digest, takes its place.
    """

    def __init__(self, store: TensorStore):
        self._store = store
        self._digests: dict[str, str] = {}
        self._names: dict[tuple[str, int], tuple[str, ...]] = {}

    def get(self, kind: str, digest: str, first: int, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """Outputs of the batch that begins with sample `first`; `make` runs the network where they are not known."""
        if self._digests.setdefault(kind, digest) != digest:
            self._forget(kind)
            self._digests[kind] = digest
        if (kind, first) not in self._names:
            for name, values in (found := make()).items():
                self._store.put(f"{kind}/{name}", first, values)
            self._names[kind, first] = tuple(found)
        return {name: self._store.get(f"{kind}/{name}", first) for name in self._names[kind, first]}

    def _forget(self, kind: str) -> None:
        for known in [each for each in self._names if each[0] == kind]:
            for name in self._names.pop(known):
                self._store.drop(f"{kind}/{name}")
