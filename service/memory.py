"""Memory of a process that stays: what is kept of it for later, by glibc and by Python."""

import ctypes
import gc

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of <malloc.h>
LARGE = (
    2**17
)  # bytes: such a block is mapped, and goes back when it is freed; by default glibc raises this up to 32 MiB
ARENAS = 2  # by default eight a core: each thread keeps its own freed blocks


def spare() -> None:
    """Have glibc keep little of what is freed. Call it before there are threads; another C library is left alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, ARENAS)


def settle() -> None:
    """What is there now stays, and is not looked through again: Python then soon collects the cycles of requests.

    Otherwise it waits until they are a quarter of all that it knows, libraries included.
    """
    gc.collect()
    gc.freeze()
