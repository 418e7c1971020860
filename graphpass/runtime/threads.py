"""How many threads linear algebra takes; sessions have a setting of their own (runtime/session.py)."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """BLAS takes at most so many threads inside; 0: as many as it likes. It is a setting of the whole process."""
    if not threads:
        yield
        return
    with threadpool_limits(limits=threads, user_api="blas"):
        yield
