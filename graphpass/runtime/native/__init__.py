"""The library of native operators: where it is, and which execution providers it has kernels for.

It is built at installation where there is a compiler (CMakeLists.txt beside this file). Without it neurons run as the
function bodies that every converted model carries.
"""

import ctypes
import functools
from pathlib import Path

LIBRARY = "libgraphpass_ops.so"


@functools.cache
def library() -> Path | None:
    """The library's path, None where it was not built. An editable installation keeps it beside the other packages."""
    return next((path for folder in __path__ if (path := Path(folder) / LIBRARY).exists()), None)


@functools.cache
def providers() -> tuple[str, ...]:
    """The execution providers that the library has kernels for; none without a library."""
    path = library()
    if path is None:
        return ()
    answer = ctypes.CDLL(str(path)).GraphpassProviders
    answer.restype = ctypes.c_char_p
    return tuple(answer().decode().split(","))


def covers(provider: str) -> bool:
    """Whether sessions that run on a provider should register the library.

    A registered operator shadows the function bodies. Where only the CPU has kernels, a session on another provider
    would copy every neuron's input to the CPU and back, so there the bodies are the better choice.
    """
    return provider in providers()
