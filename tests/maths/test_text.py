"""CTC decoding and edit distance against definitions written out."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths.text import Text, decode, edits

TEXTS = st.lists(st.integers(0, 3), max_size=8).map(tuple)


def scores(*frames: int, classes: int = 4) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[list(frames)][None]


@pytest.mark.parametrize(
    ("frames", "blank", "text"),
    [
        ([0, 0, 0], 0, ()),
        ([1, 1, 2], 0, (1, 2)),
        ([1, 0, 1], 0, (1, 1)),
        ([0, 3, 3, 0, 0, 3, 2], 0, (3, 3, 2)),
        ([3, 0, 0, 3, 0], -1, (0, 0)),
    ],
)
def test_repeats_are_merged_and_blanks_dropped(frames: list[int], blank: int, text: Text) -> None:
    assert decode(scores(*frames), blank) == [text]


def test_scores_that_are_not_numbers_win_nothing() -> None:
    frames = scores(1, 2)
    frames[0, 0, 3] = np.nan
    assert decode(frames) == [(1, 2)]


def by_recursion(one: Text, other: Text) -> int:
    @functools.cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(same, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(one), len(other))


@given(TEXTS, TEXTS)
def test_edits_are_the_levenshtein_distance(one: Text, other: Text) -> None:
    assert edits(one, other) == by_recursion(one, other)
