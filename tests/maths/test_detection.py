"""Boxes: overlap, suppression, matching and average precision on cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths.detection import OVERLAPS, Boxes, Detections, detections, ious, matched, ranked

SQUARE = np.array([[0.0, 0, 10, 10]])


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """Rows of x1, y1, x2, y2, score, class, in any order."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return ranked(table[:, :4], table[:, 4], table[:, 5], 0.0, None)


def test_overlap_is_the_shared_part_of_the_union() -> None:
    others = np.array([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [5, 5, 5, 5], [5, 5, 15, 15]])
    assert ious(SQUARE, others)[0].tolist() == pytest.approx([1, 0.5, 0, 0, 25 / 175])  # float64 divisions
    assert ious(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0  # nothing of nothing


def test_boxes_are_ranked_cut_and_rid_of_duplicates_of_their_class() -> None:
    corners = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 50, 60, 60], [0, 0, 10, 8]])
    scores, classes = np.array([0.5, 0.9, 0.8, 0.7, 0.1]), np.array([1, 1, 2, 1, 1])
    found = ranked(corners, scores, classes, 0.2, 0.5)
    assert found.scores.tolist() == [0.9, 0.8, 0.7] and found.classes.tolist() == [1, 2, 1]
    assert ranked(corners, scores, classes, 0.2, None).scores.tolist() == [0.9, 0.8, 0.7, 0.5]


def test_each_box_is_taken_once_by_the_best_of_its_class() -> None:
    found = boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 9, 0.8, 1), (0, 0, 10, 10, 0.99, 2))
    assert matched(found, SQUARE, np.array([1]), 0.5).tolist() == [False, True, False]
    assert matched(found, np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == [False] * 3
    # the second takes the free one, though its overlap with the taken one is larger
    two = np.array([[0.0, 0, 10, 10], [0, 0, 10, 6]])
    assert matched(boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 9, 0.8, 1)), two, np.array([1, 1]), 0.5).all()


def test_average_precision_by_hand() -> None:
    """Hit, miss, hit of two labels: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1; area 1/2 + 1/2 · 2/3."""
    labels = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    found = boxes((0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.8, 1), (20, 20, 30, 30, 0.7, 1))
    one = detections(found, labels, np.array([1, 1]))
    assert one.precision(0) == pytest.approx(5 / 6)  # float64 sums
    missing = one.merge(detections(boxes(), SQUARE, np.array([2])))
    assert missing.precision(0) == pytest.approx(5 / 12)  # a class of which nothing is found counts 0
    assert detections(boxes((0, 0, 1, 1, 0.5, 1)), np.zeros((0, 4)), np.zeros(0)).precision(0) is None


def test_a_hit_is_one_at_all_smaller_overlaps() -> None:
    found = detections(boxes((0, 0, 10, 7.2, 0.9, 1)), SQUARE, np.array([1]))
    assert [bool(found.hits["1"][0] >> bit & 1) for bit in range(len(OVERLAPS))] == [each <= 0.72 for each in OVERLAPS]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.integers(0, 1023)), max_size=9), st.integers(0, 9))
def test_images_merge_wherever_they_are_cut(rows: list[tuple[int, float, int]], cut: int) -> None:
    parts = [Detections({"1": count}, {"1": (score,)}, {"1": (hits,)}) for count, score, hits in rows]

    def together(some: list[Detections]) -> Detections:
        whole = Detections()
        for part in some:
            whole = whole.merge(part)
        return whole

    assert together(parts[:cut]).merge(together(parts[cut:])) == together(parts)
