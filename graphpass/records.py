"""JSON as frozen dataclasses and back. Values are checked against the types; errors say where a value is wrong.

    record_of(tuple[Left, ...], [{"node": 3}], "left")      RecordError: left[0].node: 3 is not a text

Types: dataclasses, str, int, float, bool, Fraction, tuple[T, ...], Mapping[str, T], T | None, and arrays of float32,
which are lists of numbers. A whole number fits int64. An object has all fields of its dataclass and no others.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from graphpass.nesting import is_deeper

Number = Callable[[Any, str], float]
LARGEST = 1 << 63
DEEPEST = 100  # levels of lists and objects within each other; our documents have fewer than ten
TOO_DEEP = f"not JSON (more than {DEEPEST} levels)"


class RecordError(ValueError):
    """What is wrong, and where, as `sites[2].levels: "five" is not a whole number`."""


def parsed(text: str) -> Any:
    """A text read as JSON. Raises RecordError for text that is not JSON, as NaN and infinities are not, and for an
    object that has a key twice.
    """
    try:
        found = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_each_once)
    except RecordError:
        raise
    except RecursionError as error:
        raise RecordError(TOO_DEEP) from error
    except ValueError as error:
        raise RecordError(f"not JSON ({error})") from error
    if is_deeper(found, DEEPEST):
        raise RecordError(TOO_DEEP)
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise RecordError(f"{twice}: appears twice in one object")
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def json_of(value: Any) -> Any:
    """Dataclasses as objects, tuples and arrays as lists, fractions and floats that are not finite as text: no bit is
    lost.
    """
    if is_dataclass(value):
        return {each.name: json_of(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: json_of(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_of(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Fraction):
        return f"{value.numerator:x}/{value.denominator:x}"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def finite(value: Any, where: str) -> float:
    """A finite number. Raises RecordError."""
    fits = type(value) is float or (type(value) is int and abs(value) <= LARGEST)
    _require(fits and math.isfinite(value), value, where, "a number")
    return float(value)


def any_number(value: Any, where: str) -> float:
    """A number, or infinity or NaN as `json_of` writes them. Raises RecordError."""
    return float(value) if value in ("inf", "-inf", "nan") else finite(value, where)


def whole(value: Any, where: str) -> int:
    """A whole number. Raises RecordError."""
    _require(type(value) is int and -LARGEST <= value < LARGEST, value, where, "a whole number")
    return int(value)


def text(value: Any, where: str) -> str:
    """A text that UTF-8 can write. Raises RecordError."""
    _require(isinstance(value, str), value, where, "a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RecordError(f"{where}: is not Unicode ({error.reason})") from error
    return str(value)


def record_of(kind: Any, value: Any, where: str = "", number: Number = finite) -> Any:
    """The value as a type. where: its place, for errors. number: a function that reads floats. Raises RecordError."""
    if is_dataclass(kind):
        return _object(kind, value, where, number)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        _require(isinstance(value, list), value, where, "a list")
        return tuple(record_of(inner[0], each, f"{where}[{place}]", number) for place, each in enumerate(value))
    if origin in (Mapping, dict):
        _require(isinstance(value, dict), value, where, "an object")
        return {text(key, where): record_of(inner[1], each, _in(where, key), number) for key, each in value.items()}
    if origin in (np.ndarray, NDArray):  # the alias itself from numpy 2.5 on
        return _array(value, where)
    if NoneType in inner:
        (kind,) = (each for each in inner if each is not NoneType)
        return None if value is None else record_of(kind, value, where, number)
    if kind is float:
        return number(value, where)
    return PLAIN[kind](value, where)


def _object(kind: Any, value: Any, where: str, number: Number) -> Any:
    _require(isinstance(value, dict), value, where, "an object")
    hints = get_type_hints(kind)
    if unknown := next((name for name in value if name not in hints), None):
        raise RecordError(f"{_in(where, unknown)}: is unknown here; choose from {', '.join(hints)}")
    if missing := next((name for name in hints if name not in value), None):
        raise RecordError(f"{_in(where, missing)}: is missing")
    return kind(**{name: record_of(hint, value[name], _in(where, name), number) for name, hint in hints.items()})


def _array(value: Any, where: str) -> Any:
    _require(isinstance(value, list), value, where, "a list of numbers")
    with np.errstate(over="ignore"):
        array = np.array([finite(each, f"{where}[{place}]") for place, each in enumerate(value)], np.float32)
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise RecordError(f"{where}[{wrong[0]}]: {_shown(value[wrong[0]])} is beyond float32")
    return array


def _boolean(value: Any, where: str) -> bool:
    _require(isinstance(value, bool), value, where, "true or false")
    return bool(value)


def _fraction(value: Any, where: str) -> Fraction:
    try:
        return Fraction(*(int(part, 16) for part in text(value, where).split("/")))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise RecordError(f"{where}: {_shown(value)} is not a fraction") from error


PLAIN: Mapping[Any, Callable[[Any, str], Any]] = {str: text, int: whole, bool: _boolean, Fraction: _fraction}


def _require(fits: bool, value: Any, where: str, wanted: str) -> None:
    if not fits:
        raise RecordError(f"{where or 'it'}: {_shown(value)} is not {wanted}")


def _in(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)


def _shown(value: Any) -> str:
    shown = json.dumps(value) if value is None or isinstance(value, str | bool | float) else repr(value)[:80]
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
