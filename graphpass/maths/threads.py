"""Linear algebra on several threads, with the same bits whatever their number.

    product(L, R) = L·R        in tiles of rows of a fixed size, side by side; each tile by one thread of BLAS

BLAS' own threads share a product out by their number, and so sums round in another way on each machine. numpy works
outside of Python's lock, so tiles keep all cores busy.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[Any]
Part = TypeVar("Part")
Result = TypeVar("Result")

TILES = 16  # groups are shared out into so many tiles
_threads: ContextVar[int] = ContextVar("threads", default=0)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Inside, `side_by_side` takes at most so many threads, 0 for all cores, and BLAS one.

    BLAS' setting holds for the whole process.
    """
    token = _threads.set(threads)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        _threads.reset(token)


def side_by_side(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """[work(part) for part in parts], on several threads. The work must not call this."""
    count = min(_threads.get() or len(os.sched_getaffinity(0)), len(parts))
    if count <= 1:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, parts))


def slices(total: int, size: int) -> list[slice]:
    """0 … total in parts as equal as they can be, none larger than size."""
    return stretches(total, max(1, -(-total // size)))


def stretches(total: int, count: int) -> list[slice]:
    """0 … total in so many parts, as equal as they can be."""
    edges = (total * k // count for k in range(count + 1))
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def product(left: Array, right: Array, height: int, out: Array | None = None) -> Array:
    """left·right, [G, M, K] and [G, K, N] → [G, M, N] of their dtype. height: rows of a tile, where G is 1."""
    found = np.empty((*left.shape[:2], right.shape[2]), np.result_type(left, right)) if out is None else out

    def fill(tile: tuple[slice, slice]) -> None:
        groups, rows = tile
        np.matmul(left[groups, rows], right[groups], out=found[groups, rows])

    side_by_side(fill, tiles(len(left), left.shape[1], height))
    return found


def tiles(groups: int, rows: int, height: int) -> list[tuple[slice, slice]]:
    """Parts of [G, M]: by rows where there is one group, else by groups."""
    if groups == 1:
        return [(slice(None), part) for part in slices(rows, height)]
    return [(part, slice(None)) for part in slices(groups, -(-groups // TILES))]
