"""Memory that nothing holds any more, given back to the system.

A graph and its tensors refer to each other, so that a dropped graph lasts until Python looks for such circles. And
glibc keeps blocks of less than 32 MiB that were freed, for later ones: the weights of a dropped network stay in memory,
as often as the network was copied.
"""

import ctypes
import gc
from collections.abc import Callable


def give_back() -> None:
    """Free what nothing refers to, and return freed memory to the system. Takes some hundredths of a second."""
    gc.collect()
    if _TRIM is not None:
        _TRIM(0)


def _trim() -> Callable[[int], int] | None:
    """malloc_trim of glibc; None with another C library."""
    try:
        return ctypes.CDLL(None).malloc_trim  # type: ignore[no-any-return]
    except (AttributeError, OSError, TypeError):  # another library; Windows has no CDLL(None)
        return None


_TRIM = _trim()
