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
WHOLE = re.compile("-?[0-9]{1,100}")
NUMBER = re.compile(r"-?([0-9]{1,100}(\.[0-9]{0,100})?|\.[0-9]{1,100})([eE][+-]?[0-9]{1,3})?")
SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*((?:[kKmMgGtT]i?)?[bB]?)")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def whole(least: int, most: int = LARGEST - 1) -> Check:
    return lambda value: isinstance(value, numbers.Integral) and not flag(value) and least <= int(value) <= most


def number(least: float, most: float = math.inf) -> Check:
    return lambda value: (
        isinstance(value, numbers.Real) and not flag(value) and math.isfinite(value) and least <= float(value) <= most
    )


def whole_of(value: int | str) -> int:
    """A whole number that somebody wrote: ASCII digits alone, with - in front or not. Raises ValueError.

    Python's int takes more: 1_0, +1, blanks around, and the digits of every script; other readers differ in that.
    """
    if isinstance(value, str) and not WHOLE.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a whole number, written in digits alone")
    return int(value) if isinstance(value, str) else value


def number_of(value: float | str) -> float:
    """A number that somebody wrote, as 5, -0.5 or 1e-3; as strict as `whole_of`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if not NUMBER.fullmatch(value) or math.isinf(float(value)):
        raise ValueError(f"{shown(value)} is not a number, written as 5, 0.5 or 1e-3")
    return float(value)


def typed(spelled: str, read: Callable[[Any], Any], words: str) -> Callable[[Any], Any]:
    """How the command line reads an option of that name. words: what it takes. Raises OptionError for other texts."""

    def reading(value: Any) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise OptionError(f"{spelled}: {error}", f"give {words}") from error

    return reading


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
    return whole(1)(value) or (text(value) and SIZE.fullmatch(value) is not None and bytes_of(value) < LARGEST)


def bytes_of(size: int | str) -> int:
    """A memory budget in bytes.

    >>> bytes_of("1.5 GiB"), bytes_of("512MB"), bytes_of(64)
    (1610612736, 512000000, 64)
    """
    if not isinstance(size, str):
        return int(size)
    found = SIZE.fullmatch(size)
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
