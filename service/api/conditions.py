"""Conditional requests and ranges, as RFC 9110 (sections 13 and 14) has them, for files that never change.

A file's entity tag is its SHA-256, strong. If-None-Match compares weakly (W/"x" matches "x"), If-Match and If-Range
strongly. Ranges are made ascending and disjoint; what is no range, or too many, counts as if nobody had asked for
ranges.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphpass.wording import counted
from service.problems import ProblemError

TAGS = re.compile(r'\s*(?:,\s*)*(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*"))')
RANGE = re.compile(r"\s*(?:([0-9]+)-([0-9]*)|-([0-9]+))\s*")
MOST_RANGES = 16  # after those that touch are one
MOST_ASKED = 100
FAR = 2**63  # what a number of any length means that is larger


@dataclass(frozen=True)
class Conditions:
    """The headers of a request, None where they are absent."""

    match: str | None = None
    none_match: str | None = None
    ranges: str | None = None
    if_range: str | None = None


def matches(header: str, tag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags, or `*`, names `tag`, which is strong and quoted."""
    if header.strip() == "*":
        return True
    at = 0
    while found := TAGS.match(header, at):
        if found[2] == tag and (weakly or not found[1]):
            return True
        at = found.end()
    return False


def is_unchanged(asked: Conditions, tag: str) -> bool:
    """Whether the answer is 304. Problem: precondition."""
    if asked.match is not None and not matches(asked.match, tag, weakly=False):
        raise ProblemError("precondition", f"the file is {tag}", "ask again without If-Match", where="If-Match")
    return asked.none_match is not None and matches(asked.none_match, tag, weakly=True)


def parts_of(asked: Conditions, tag: str, size: int) -> Sequence[tuple[int, int]] | None:
    """Bytes [start, end) that are asked for; None: all of it. Problem: range, where none of them is there."""
    if asked.ranges is None or (asked.if_range is not None and asked.if_range.strip() != tag):
        return None
    unit, _, listed = asked.ranges.partition("=")
    pieces = [piece for piece in listed.split(",") if piece.strip()]
    if unit.strip().lower() != "bytes" or not 1 <= len(pieces) <= MOST_ASKED:
        return None
    found = []
    for piece in pieces:
        read = RANGE.fullmatch(piece)
        if read is None or (read[2] and _number(read[2]) < _number(read[1])):
            return None
        if read[3] is not None:
            start, end = max(size - _number(read[3]), 0), size
        else:
            start, end = _number(read[1]), min(_number(read[2]) + 1, size) if read[2] else size
        if start < end:
            found.append((start, end))
    if not found:
        raise ProblemError(
            "range",
            f"the file has {counted(size, 'byte')}",
            "ask for existing bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    joined = _joined(found)
    return joined if len(joined) <= MOST_RANGES else None


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) < len(str(FAR)) else FAR


def _joined(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in order; parts that touch are one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
