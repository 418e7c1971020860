"""Values of options: what they have to be, and how they are read."""

import math
import numbers
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from graphpass.errors import OptionError

Check = Callable[[Any], bool]

LARGEST = 1 << 63  # of whole numbers: they are stored as int64
MOST_LEVELS = 256
MOST_CHANNELS = 16
THREADS_OF_A_CORE, ALWAYS_THREADS = 4, 16
MOST_ITEMS = 1000  # of an option that takes several
SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*((?:[kKmMgGtT]i?)?[bB]?)")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def whole(least: int, most: int = LARGEST - 1) -> Check:
    return lambda value: isinstance(value, numbers.Integral) and not flag(value) and least <= int(value) <= most


def number(least: float, most: float = math.inf) -> Check:
    return lambda value: (
        isinstance(value, numbers.Real) and not flag(value) and math.isfinite(value) and least <= float(value) <= most
    )


def most_threads() -> int:
    """Threads that a session may have on this machine. Many more than cores wait for each other: a small network was
    converted in 1.9 s by one thread, in 3.9 s by 64 on two cores, and in 181 s by 1,024.
    """
    return max(ALWAYS_THREADS, THREADS_OF_A_CORE * (os.cpu_count() or 1))


def text(value: Any) -> bool:
    return isinstance(value, str)


def text_or_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and bool(str(value))


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def items_of(value: Any) -> list[Any] | None:
    """The items of a list, a tuple or an array; None for a single value."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return list(plain) if isinstance(plain, list | tuple | range) else None


def several_that(check: Check, most: int = MOST_ITEMS) -> Check:
    return lambda value: (items := items_of(value)) is not None and 1 <= len(items) <= most and all(map(check, items))


def one_or_several(check: Check) -> Check:
    return lambda value: check(value) or several_that(check, MOST_CHANNELS)(value)


def text_or_mapping(value: Any) -> bool:
    return text(value) or isinstance(value, Mapping)


def text_or_texts(value: Any) -> bool:
    return text(value) or several_that(text)(value)


def levels(value: Any) -> bool:
    by_site = isinstance(value, Mapping) and all(text(name) and whole(2, MOST_LEVELS)(n) for name, n in value.items())
    return value == "auto" if text(value) else by_site


def size(value: Any) -> bool:
    return whole(1)(value) or (text(value) and SIZE.fullmatch(value.strip()) is not None and bytes_of(value) < LARGEST)


def bytes_of(size: int | str) -> int:
    """A memory budget in bytes.

    >>> bytes_of("1.5 GiB"), bytes_of("512MB"), bytes_of(64)
    (1610612736, 512000000, 64)
    """
    if not isinstance(size, str):
        return int(size)
    found = SIZE.fullmatch(size.strip())
    if found is None:
        raise OptionError(f"{shown(size)} is not a size", "write it as 512MiB or 2GiB")
    return int(float(found[1]) * UNITS[found[2].upper().rstrip("B")])


def plain_of(value: Any) -> Any:
    """A value without numpy's types, which JSON does not know; lists become tuples."""
    if isinstance(value, Mapping):
        return {str(name): plain_of(inner) for name, inner in value.items()}
    items = items_of(value)
    if items is not None:
        return tuple(map(plain_of, items))
    return value.item() if hasattr(value, "item") else value


def several_of(value: Any) -> tuple[Any, ...]:
    """One value or several as a tuple; an empty one for None.

    >>> several_of("a"), several_of([1, 2]), several_of(None)
    (('a',), (1, 2), ())
    """
    items = items_of(value)
    return () if value is None else (value,) if items is None else tuple(items)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
