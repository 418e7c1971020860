"""How much of a child's answer is passed on: its texts and lists come from models and data, and may have any length.

The child shortens its answer, and writes the whole to a file where there is more. Its caller shortens it again, since a
child may have been taken over. What is left out is counted.

    summary      of a model, dataset or result: what lists show and the database keeps
    whole        the same as a file: what a link leads to
"""

import json
import math
from collections.abc import Mapping
from typing import Any

SUMMARY = 16 << 10  # bytes of JSON of a description
RESULT = 64 << 10  # bytes of JSON of a result
WHOLE = 16 << 20  # bytes of JSON of either as a file
NAME = 256  # characters of a text within a summary
TEXT = 2000  # characters of what an error says, and of what to do
LABEL = 100  # characters of a stage
LOG = 1000  # characters of one line of a log
DEEPEST = 16  # levels of lists and objects
ENTRIES, ENTRY = 64, 40  # entries of a document, and characters of their names
FIELDS = 16  # an object of more entries is a list of them
PATH = 100  # characters of what `omitted` calls a list
LARGEST = (1 << 63) - 1
OMITTED = "omitted"
CHARACTERS, OTHERS = "characters", "entries"  # what is left out of texts, and of the document itself


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters (100 or more): its beginning and its end, and how many are left out between.

    >>> shortened("a" * 500 + "z" * 500, 100)
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa … (933 characters left out) … zzzzzzzzzzzzzzzzzzzzz'
    """
    if len(text) <= most:
        return text
    room = most - len(_mark(len(text)))
    end = room // 3
    return f"{text[: room - end]}{_mark(len(text) - room)}{text[len(text) - end :]}"


def _mark(count: int) -> str:
    return f" … ({count:,} characters left out) … "


def summary(document: Mapping[str, Any], most: int, longest: int = NAME) -> dict[str, Any]:
    """What of a document fits into `most` bytes of JSON, each text in `longest` characters.

    Numbers and texts stay. Short lists stay whole; long ones share the room that is left, and keep their beginning.
    `omitted` says, where that is so, how many elements of which list are left out, and how many characters of texts.
    Numbers that JSON has no word for are null. A summary of a summary of the same sizes is itself.
    """
    cutter = _Cutter(longest)
    named = [name for name in document if name != OMITTED and len(name) <= ENTRY and name.isascii()]
    found = {name: cutter.value(document[name], 1) for name in named[:ENTRIES]}
    others = len(document.keys() - found.keys() - {OMITTED})
    omitted = _sum(_counts(document.get(OMITTED), found), {OTHERS: others, CHARACTERS: cutter.characters})
    if _size({**found, OMITTED: omitted}) > most:
        omitted = _sum(omitted, _shrink(found, most - _size(omitted)))
    return {**found, OMITTED: omitted} if omitted else found


class _Cutter:
    """Plain JSON of bounded texts and numbers. characters: of texts that were left out."""

    def __init__(self, longest: int):
        self._longest = longest
        self.characters = 0

    def text(self, text: str) -> str:
        short = shortened(text, self._longest)
        self.characters += len(text) - len(short)
        return short

    def value(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            return None
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.value(inner, depth + 1) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner, depth + 1) for inner in value]
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, bool) or value is None:
            return value
        return max(-LARGEST, min(int(value), LARGEST))


def _size(value: Any) -> int:
    """Bytes as JSON."""
    return len(json.dumps(value))


def _sum(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """The sum of two counts by name, without those that are zero."""
    both = {name: min(first.get(name, 0) + second.get(name, 0), LARGEST) for name in (*first, *second)}
    return {name: count for name, count in both.items() if count}


def _counts(stated: Any, found: Mapping[str, Any]) -> dict[str, int]:
    """How much was left out of a document already, as it says itself."""
    known = {*found, CHARACTERS, OTHERS}
    given = stated.items() if isinstance(stated, Mapping) else ()
    counts = {name: count for name, count in given if type(count) is int and count > 0 and len(name) < PATH}
    return {name: count for name, count in counts.items() if name.partition(".")[0] in known}


def _shrink(document: dict[str, Any], room: int) -> dict[str, int]:
    """Cut the lists of a document until it has at most `room` bytes; how many elements were left out, by path."""
    lists = dict(_lists(document, ""))
    sizes = {path: _size(inner[name]) for path, (inner, name) in lists.items()}
    fixed = _size(document) - sum(sizes.values()) + sum(len(path) + 24 for path in lists)
    share = _share(sorted(sizes.values()), room - fixed)
    left: dict[str, int] = {}
    for path, (inner, name) in lists.items():
        if sizes[path] > share:
            place = path if len(path) < PATH and path.isascii() else path.partition(".")[0]
            inner[name], count = _beginning(inner[name], share)
            left[place] = left.get(place, 0) + count
    while _size(document) + _size(left) > room and document:  # texts and numbers alone are too many
        largest = max(document, key=lambda name: _size(document[name]))
        del document[largest]
        left = {path: count for path, count in left.items() if path.partition(".")[0] != largest}
        left[OTHERS] = left.get(OTHERS, 0) + 1
    return left


def _lists(value: dict[str, Any], path: str) -> list[tuple[str, tuple[dict[str, Any], str]]]:
    """Lists that are in no other list, by path: the object that holds each, and its name there."""
    found = []
    for name, inner in value.items():
        if isinstance(inner, list) or (isinstance(inner, dict) and len(inner) > FIELDS):
            found.append((f"{path}{name}", (value, name)))
        elif isinstance(inner, dict):
            found += _lists(inner, f"{path}{name}.")
    return found


def _share(sizes: list[int], room: int) -> int:
    """The largest share of `room` that each may have: those that need less leave the rest to the others."""
    for number, size in enumerate(sizes):
        share = max(room, 0) // (len(sizes) - number)
        if size > share:
            return share
        room -= size
    return sizes[-1] if sizes else 0


def _beginning(value: Any, room: int) -> tuple[Any, int]:
    """As many elements as fit into `room` bytes, and how many are left out."""
    items: list[Any] = list(value.items() if isinstance(value, dict) else value)
    kept, room = 0, room - 2
    while kept < len(items) and (room := room - _size(items[kept]) - 2) >= 0:
        kept += 1
    return (dict(items[:kept]) if isinstance(value, dict) else items[:kept]), len(items) - kept
