"""Memory that nothing holds any more, given back to the system.

A graph and its tensors refer to each other, so that a dropped graph lasts until Python looks for such circles. And
glibc keeps blocks of less than 32 MiB that were freed, for later ones: the weights of a dropped network stay in memory,
as often as the network was copied.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of mallopt's parameters
WHILE_OPEN = 1 << 22  # bytes from which on a block goes back as soon as it is freed, inside of `tidy`
USUAL = 1 << 25  # the same elsewhere: what glibc comes to by itself where blocks are this large


def give_back() -> None:
    """Free what nothing refers to, and return freed memory to the system. Takes some hundredths of a second."""
    gc.collect()
    if trim := _function("malloc_trim"):
        trim(0)


@contextmanager
def tidy() -> Iterator[None]:
    """Inside, large blocks are returned as they are freed; before and after, `give_back`.

    For work that copies weights several times, as opening a session does: kept blocks rarely fit the next copy.
    """
    give_back()
    tune = _function("mallopt")
    if tune:
        tune(MMAP_THRESHOLD, WHILE_OPEN)
    try:
        yield
    finally:
        if tune:
            tune(MMAP_THRESHOLD, USUAL)
            tune(TRIM_THRESHOLD, 2 * USUAL)
        give_back()


def _function(name: str) -> Callable[..., int] | None:
    """A function of glibc; None with another C library."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
        return found
    except (AttributeError, OSError, TypeError):  # another library; Windows has no CDLL(None)
        return None
