"""What is passed on of a child's answer is bounded, says what is left out, and is the whole where that is short."""

import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.sandbox.bounds import DEEPEST, ENTRIES, LARGEST, NAME, OMITTED, RESULT, SUMMARY, shortened, summary

NAMES = ["sites", "left", "inputs", "nodes", "omitted", "a b", "x" * 50, "é", *map(str, range(12))]
INNER = ["a", "b", "c", "ü" * 300, "w" * 90]


def drawn(chance: random.Random, depth: int = 1) -> Any:
    """An answer that a child could give: long texts and lists, at any depth. It is too large for hypothesis to show."""
    kind = chance.random()
    if depth > 4 or kind < 0.5:
        text = "ü" * chance.randrange(2000)
        return chance.choice([None, True, chance.randrange(9), chance.random(), float("nan"), 10**30, "a", text])
    if kind < 0.7:
        return [drawn(chance, depth + 1) for _ in range(chance.randrange(5))]
    if kind < 0.85:
        names = [*INNER, *map(str, range(25))]
        return {chance.choice(names): drawn(chance, depth + 1) for _ in range(chance.randrange(25))}
    return [drawn(chance, depth + 1)] * chance.randrange(900 // depth**4)


@given(st.text(max_size=3000), st.integers(100, 1500))
def test_a_text_is_as_long_as_it_may_be(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) <= most
    if len(text) <= most:
        assert short == text
        return
    begin, count, end = re.fullmatch(r"(.*?) … \(([\d,]+) characters left out\) … (.*)", short, re.DOTALL).groups()
    assert (
        text.startswith(begin)
        and text.endswith(end)
        and len(begin) + len(end) + int(count.replace(",", "")) == len(text)
    )
    assert len(short) > most - 5 and len(begin) > len(end) > 0


@pytest.mark.parametrize("most", [600, SUMMARY, RESULT])
def test_a_summary_fits_and_is_its_own_summary(most: int) -> None:
    for seed in range(15):
        chance = random.Random(seed)
        document = {chance.choice(NAMES): drawn(chance) for _ in range(chance.randrange(12))}
        short = summary(document, most)
        text = json.dumps(short, allow_nan=False)
        assert len(text) <= most, seed
        assert summary(short, most) == short == json.loads(text), seed
        assert short.keys() - {OMITTED} <= document.keys(), seed


def test_what_is_short_stays_as_it_is() -> None:
    document = {"inputs": [{"name": "x", "shape": [None, 3]}], "nodes": 3, "spiking": None, "share": 0.5, "f": False}
    assert summary(document, SUMMARY) == document


def test_long_lists_keep_their_beginnings_and_share_the_room() -> None:
    sites = [{"name": f"site {number}", "layers": ["a", "b"]} for number in range(5000)]
    left = [{"node": "n" * 200, "reason": "r" * 300} for _ in range(3000)]
    inner = {"macs": 5, "layers": [{"name": "l" * 30}] * 4000, "samples": 3}
    document = {"inputs": [{"name": "x"}], "sites": sites, "left": left, "operations": inner, "nodes": 7}
    short = summary(document, SUMMARY)
    assert SUMMARY * 0.8 < len(json.dumps(short)) <= SUMMARY
    assert (short["inputs"], short["nodes"]) == ([{"name": "x"}], 7)
    assert short["operations"]["macs"] == 5 and short["operations"]["samples"] == 3
    assert short["sites"] == sites[: len(short["sites"])] and len(short["sites"]) > 50 and len(short["left"]) > 3
    assert short[OMITTED] == {
        "sites": 5000 - len(short["sites"]),
        "left": 3000 - len(short["left"]),
        "operations.layers": 4000 - len(short["operations"]["layers"]),
        "characters": 3000 * (300 - len(shortened("r" * 300, NAME))),
    }


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        pytest.param(1 << 99_999, LARGEST, id="huge"),
        (-(10**30), -LARGEST),
        (True, True),
        (("a", 1), ["a", 1]),
        ({1: 2}, {"1": 2}),
    ],
)
def test_what_json_has_no_word_for(given: Any, found: Any) -> None:
    assert summary({"value": given}, SUMMARY) == {"value": found}


def test_depth_and_names_are_bounded() -> None:
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    assert len(json.dumps(summary({"deep": deep}, SUMMARY))) < 100 + DEEPEST
    many = {f"entry{number}": number for number in range(1000)}
    assert summary(many, SUMMARY)[OMITTED] == {"entries": 1000 - ENTRIES}
    odd = {"é": 1, "a" * 41: 2, "fine": 4, OMITTED: {"fine": 2, "gone": 3, "entries": 1, "characters": -5}}
    assert summary(odd, SUMMARY) == {"fine": 4, OMITTED: {"fine": 2, "entries": 3}}


def test_texts_and_numbers_alone_may_be_too_many() -> None:
    document = {f"entry{number}": "\U0001f600" * NAME for number in range(ENTRIES)}
    short = summary(document, SUMMARY)
    assert len(json.dumps(short)) <= SUMMARY and short[OMITTED]["entries"] == ENTRIES - (len(short) - 1)
