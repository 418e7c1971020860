"""The number of threads of linear algebra; sessions have a separate setting (runtime/session.py)."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Inside, BLAS uses at most this many threads; 0: no limit. The setting holds for the whole process."""
    if not threads:
        yield
        return
    with threadpool_limits(limits=threads, user_api="blas"):
        yield
