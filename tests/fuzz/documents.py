"""JSON documents with something changed at random: another value, a key too many, one too few."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Place = tuple[Any, ...]

NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([10**18, -(10**18), 2**63, 10**400, 0, 1, 2]),
    st.floats(),
    st.sampled_from([1e-45, 1e-300, 1e38, 3.5e38, -0.0]),
)
TEXTS = st.one_of(
    st.text(max_size=5), st.sampled_from(["", "rate", "phase", "relu", "identity", "\ud800", "a" * 5000, "../x"])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place in a document, as the keys and numbers that lead there."""
    yield place
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield from places(inner, (*place, key))


def at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


@st.composite
def changed(draw: st.DrawFn, document: Any, changes: int = 2) -> Any:
    """The document with 1 to `changes` changes."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, changes))):
        every = list(places(document))
        place = draw(st.sampled_from(every))
        if not place:
            continue
        holder, key = at(document, place[:-1]), place[-1]
        match draw(st.sampled_from(["value", "other", "number", "delete", "add", "twice"])):
            case "value":
                holder[key] = draw(VALUES)
            case "other":  # what stands elsewhere
                holder[key] = copy.deepcopy(at(document, draw(st.sampled_from(every[1:]))))
            case "number":
                holder[key] = draw(NUMBERS)
            case "delete":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.text(max_size=4))] = draw(VALUES)
            case "twice" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
    return document
