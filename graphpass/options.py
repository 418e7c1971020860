"""Options: THE list of their names, of what their values have to be, and of which have an effect beside which.

The command line, Python and the service have the same options under the same names (`--time-steps` is `time_steps`);
None is an option that was not given. One that would have no effect is refused with the reason, never ignored.
"""

import math
import numbers
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from graphpass.errors import OptionError

Check = Callable[[Any], bool]

LARGEST = 1 << 63  # of whole numbers: they are stored as int64
MOST_THREADS = 1024
LARGEST_IMAGE = 4096  # pixels of a side
MOST_LEVELS = 256
MOST_CHANNELS = 16
MOST_ITEMS = 1000  # of an option that takes several
TIME_STEPS = (1, 2, 4, 8, 16, 32)  # of a sweep, where none are given
VERIFIED = 64  # samples of `verify`, where no limit is given


def _whole(least: int, most: int = LARGEST - 1) -> Check:
    return lambda value: isinstance(value, numbers.Integral) and not _flag(value) and least <= int(value) <= most


def _number(least: float, most: float = math.inf) -> Check:
    return lambda value: (
        isinstance(value, numbers.Real) and not _flag(value) and math.isfinite(value) and least <= float(value) <= most
    )


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _items(value: Any) -> list[Any] | None:
    """What a list, a tuple or an array holds; None for one value."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return list(plain) if isinstance(plain, list | tuple | range) else None


def _list(check: Check, most: int = MOST_ITEMS) -> Check:
    return lambda value: (items := _items(value)) is not None and 1 <= len(items) <= most and all(map(check, items))


def _one_or_list(check: Check) -> Check:
    return lambda value: check(value) or _list(check, MOST_CHANNELS)(value)


def _text_or_texts(value: Any) -> bool:
    return _text(value) or _list(_text)(value)


def _levels(value: Any) -> bool:
    by_site = isinstance(value, Mapping) and all(_text(name) and _whole(2, MOST_LEVELS)(n) for name, n in value.items())
    return value == "auto" if _text(value) else by_site


def _size(value: Any) -> bool:
    return _whole(1)(value) or (
        _text(value) and SIZE.fullmatch(value.strip()) is not None and bytes_of(value) < LARGEST
    )


SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*((?:[kKmMgGtT]i?)?[bB]?)")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
IMAGE_NUMBERS = "one number, or one a channel"
PROVIDERS: Mapping[str, tuple[str, ...] | None] = {  # of onnxruntime, by preference
    "cpu": None,
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}


@dataclass(frozen=True)
class Option:
    """words, check: what a value has to be. default: what holds where none is given; None where that depends."""

    words: str
    check: Check
    default: Any = None


WHOLE = Option("a whole number of 1 or more", _whole(1))
PATTERNS = Option("a regular expression, or several", _text_or_texts)
FLAG = Option("true or false", _flag, False)
OPTIONS: Mapping[str, Option] = {
    "time_steps": WHOLE,
    "coding": Option("a text", _text, "rate"),
    "method": Option("a text", _text, "optimal"),
    "form": Option("a text", _text, "folded"),
    "levels": Option(f"auto, or from Python 2 to {MOST_LEVELS} by the name of a site", _levels),
    "energy": Option("a number", _number(-math.inf)),
    "mean_levels": Option("a number", _number(-math.inf)),
    "synthetic": FLAG,
    "include": PATTERNS,
    "exclude": PATTERNS,
    "identity_sites": FLAG,
    "allow_partial": FLAG,
    "metric": Option("the name of a metric, or several", _text_or_texts),
    "limit": WHOLE,
    "calibration_limit": WHOLE,
    "seed": Option("a whole number of 0 or more", _whole(0), 0),
    "memory_budget": Option("a size, as 512MiB or 2GiB, or a number of bytes", _size, "2GiB"),
    "threads": Option(f"a whole number of 0 to {MOST_THREADS}", _whole(0, MOST_THREADS), 0),
    "provider": Option("cpu or cuda", lambda value: _text(value) and value in PROVIDERS, "cpu"),
    "image_size": Option(f"a whole number of 1 to {LARGEST_IMAGE}", _whole(1, LARGEST_IMAGE), 224),
    "mean": Option(IMAGE_NUMBERS, _one_or_list(_number(-math.inf)), 0.0),
    "std": Option(f"{IMAGE_NUMBERS}, above 0", _one_or_list(_number(math.ulp(0.0))), 1.0),
}

SELECTION = ("include", "exclude", "identity_sites")
IMAGES = ("image_size", "mean", "std")
BUDGETS = ("energy", "mean_levels")
WORK = ("seed", "memory_budget", "threads")
# command → its options; those of SEVERAL are lists in a sweep
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "inspect": SELECTION,
    "convert": (
        *("time_steps", "coding", "method", "form", "levels", *BUDGETS, "synthetic", *SELECTION, "allow_partial"),
        *("limit", *WORK, *IMAGES, "metric"),
    ),
    "evaluate": ("metric", "limit", "threads", "provider", *IMAGES),
    "sweep": (
        *("time_steps", "coding", "method", *SELECTION, "allow_partial", "metric", "calibration_limit", "limit"),
        *(*WORK, *IMAGES),
    ),
    "verify": ("limit", "threads", *IMAGES),
    "open_dataset": IMAGES,  # from Python alone
}
SEVERAL = ("time_steps", "coding", "method")


@dataclass(frozen=True)
class Rule:
    """None of `options` has an effect beside one of `excludes`, or without one of `needs`: all of them by name."""

    options: tuple[str, ...]
    reason: str
    excludes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


HERE = "the service decides that by itself"
KEY = Rule(("key",), "it is the key of a service", needs=("server",))
# command → what holds between its options and files; the first rule that is broken is the one that is told
RULES: Mapping[str, tuple[Rule, ...]] = {
    "convert": (
        Rule(("plan", "memory_budget", "threads"), HERE, excludes=("server",)),
        KEY,
        Rule(("plan",), "a plan needs no data", excludes=("calibration", "synthetic")),
        Rule(("synthetic",), "real data is better than made-up inputs", excludes=("calibration",)),
        Rule(
            ("time_steps", "coding", "method", "levels", *BUDGETS, *SELECTION, "limit", "seed", "memory_budget"),
            "a plan holds what calibration decided, and on what",
            excludes=("plan",),
        ),
        Rule(("energy",), "both are budgets of levels", excludes=("mean_levels",)),
        Rule(BUDGETS, "it is the budget of levels that are chosen", needs=("levels",)),
        Rule(
            ("method", "limit", "seed", "memory_budget"),
            "it is of the calibration, which has no data",
            needs=("calibration", "synthetic"),
        ),
        Rule(("metric", "report", "json"), "it is of an evaluation afterwards", needs=("evaluation",)),
    ),
    "evaluate": (Rule(("threads",), HERE, excludes=("server",)), KEY),
    "sweep": (Rule(("memory_budget", "threads"), HERE, excludes=("server",)), KEY),
    "verify": (),
    "inspect": (),
    "open_dataset": (),
}


def named(name: str) -> str:
    """An option as Python and the service know it."""
    return name


def dashed(name: str) -> str:
    """An option as the command line knows it.

    >>> dashed("time_steps")
    '--time-steps'
    """
    return f"--{name.replace('_', '-')}"


def require_options(
    command: str, given: Mapping[str, Any], spelled: Callable[[str], str] = named, several: Collection[str] = ()
) -> None:
    """That every option that was given has a value that makes sense, and an effect beside the others.

    given: options and files by name; those that are None, or False, were not given. spelled: how errors call an option.
    several: options that take a list of what they else take one of. Raises OptionError.
    """
    present = {name for name, value in given.items() if value is not None and value is not False}
    for name in sorted(present & OPTIONS.keys()):
        require_value(name, given[name], spelled, several)
    for rule in RULES[command]:
        for name in (each for each in rule.options if each in present):
            if other := next((each for each in rule.excludes if each in present), None):
                raise OptionError(
                    f"{spelled(name)} and {spelled(other)} exclude each other: {rule.reason}",
                    f"leave out {spelled(other)} or {spelled(name)}",
                    name,
                )
            if rule.needs and present.isdisjoint(rule.needs):
                needed = " or ".join(map(spelled, rule.needs))
                remedy = f"give {needed}, or leave out {spelled(name)}"
                raise OptionError(f"{spelled(name)} needs {needed}: {rule.reason}", remedy, name)


def require_value(name: str, value: Any, spelled: Callable[[str], str] = named, several: Collection[str] = ()) -> None:
    """That a value is one that the option takes. Raises OptionError."""
    words, check = OPTIONS[name].words, OPTIONS[name].check
    if name in several:
        words, check = f"one or more, each {words}", _list(check)
    if not check(value):
        raise OptionError(f"{spelled(name)} is {_shown(value)}", f"give {words}", name)


def require_images(given: Mapping[str, Any], spelled: Callable[[str], str] = named) -> None:
    """That no option of images was given, where none are read. Raises OptionError."""
    if name := next((each for each in IMAGES if given.get(each) is not None), None):
        raise OptionError(
            f"{spelled(name)} has no effect: it is for a folder of images, and none is read",
            "leave it out; arrays are taken as they are",
            name,
        )


def is_default(name: str, value: Any) -> bool:
    """Whether a value is the option's default, alone or as the only one of a list."""
    items = _items(value)
    only = items[0] if items and len(items) == 1 else value
    return type(only) is type(OPTIONS[name].default) and only == OPTIONS[name].default


def bytes_of(size: int | str) -> int:
    """A memory budget in bytes.

    >>> bytes_of("1.5 GiB"), bytes_of("512MB"), bytes_of(64)
    (1610612736, 512000000, 64)
    """
    if not isinstance(size, str):
        return int(size)
    found = SIZE.fullmatch(size.strip())
    if found is None:
        raise OptionError(f"{_shown(size)} is not a size", "write it as 512MiB or 2GiB")
    return int(float(found[1]) * UNITS[found[2].upper().rstrip("B")])


def plain_of(value: Any) -> Any:
    """A value without numpy's types, which JSON does not know; lists as tuples."""
    if isinstance(value, Mapping):
        return {str(name): plain_of(inner) for name, inner in value.items()}
    items = _items(value)
    if items is not None:
        return tuple(map(plain_of, items))
    return value.item() if hasattr(value, "item") else value


def several_of(value: Any) -> tuple[Any, ...]:
    """One value or several, as several; none for None.

    >>> several_of("a"), several_of([1, 2]), several_of(None)
    (('a',), (1, 2), ())
    """
    items = _items(value)
    return () if value is None else (value,) if items is None else tuple(items)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
