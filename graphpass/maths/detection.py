"""Boxes that a detector found: suppression of duplicates, matching, average precision.

IoU     area of the intersection / area of the union; boxes are x1, y1, x2, y2
match   in order of falling score, each box takes the free box of the same class with the largest IoU ≥ a threshold
AP      area under precision over recall, precision made falling    (PASCAL VOC since 2010)
mAP     mean over the classes that occur among the labels; mAP 50–95: mean over the IoU 0.50, 0.55 … 0.95, too
        (COCO's definition but for its 101 points of recall and its limit of 100 boxes an image)
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Integers = NDArray[np.int64]

OVERLAPS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))  # of mAP 50–95


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one image in order of falling score: corners float64 [K, 4], scores float64 [K], classes int64 [K]."""

    corners: Array
    scores: Array
    classes: Integers

    def __len__(self) -> int:
        return len(self.scores)


def ranked(corners: Array, scores: Array, classes: Array, least: float, overlap: float | None) -> Boxes:
    """Boxes with score ≥ least by falling score; with `overlap`, without those that a better one of their class covers.

    overlap: the largest IoU that two boxes of one class may have; None to keep all.
    """
    kept = np.flatnonzero(scores >= least)
    order = kept[np.argsort(-scores[kept], kind="stable")]
    boxes = Boxes(corners[order].astype(np.float64), scores[order].astype(np.float64), classes[order].astype(np.int64))
    if overlap is None:
        return boxes
    free = np.ones(len(boxes), bool)
    for k in range(len(boxes)):
        if free[k]:
            rest = np.flatnonzero(free[k + 1 :] & (boxes.classes[k + 1 :] == boxes.classes[k])) + k + 1
            free[rest[ious(boxes.corners[k : k + 1], boxes.corners[rest])[0] > overlap]] = False
    return Boxes(boxes.corners[free], boxes.scores[free], boxes.classes[free])


def ious(one: Array, other: Array) -> Array:
    """IoU of every box of one [K, 4] with every box of the other [M, 4]: float64 [K, M]; 0 where both are empty.

    >>> ious(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).tolist()
    [[0.3333333333333333]]
    """
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(1) for each in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float64)


def matched(found: Boxes, corners: Array, classes: Array, overlap: float) -> NDArray[np.bool_]:
    """Which of the boxes found take one of the given [M, 4] of classes [M]: bool [K]."""
    hits = np.zeros(len(found), bool)
    if not len(corners) or not len(found):
        return hits
    overlaps = np.where(found.classes[:, None] == classes[None], ious(found.corners, corners), -1.0)
    free = np.ones(len(corners), bool)
    for k, row in enumerate(overlaps):
        best = int(np.where(free, row, -1.0).argmax())
        if free[best] and row[best] >= overlap:
            hits[k], free[best] = True, False
    return hits


@dataclass(frozen=True)
class Detections:
    """Boxes found in labelled images, by class (as text): their scores, and at which of OVERLAPS each is a hit.

    truths: labelled boxes by class. hits: bit k of a number is the match at OVERLAPS[k]. Both in the order of samples.
    """

    truths: dict[str, int] = field(default_factory=dict)
    scores: dict[str, tuple[float, ...]] = field(default_factory=dict)
    hits: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def merge(self, other: "Detections") -> "Detections":
        """With those of later samples."""
        truths = {
            name: self.truths.get(name, 0) + other.truths.get(name, 0) for name in {**self.truths, **other.truths}
        }
        names = {**self.scores, **other.scores}
        return Detections(
            truths,
            {name: (*self.scores.get(name, ()), *other.scores.get(name, ())) for name in names},
            {name: (*self.hits.get(name, ()), *other.hits.get(name, ())) for name in names},
        )

    def precision(self, overlap: int) -> float | None:
        """mAP at OVERLAPS[overlap]; None without labelled boxes."""
        parts = [self._average_precision(name, overlap) for name, count in self.truths.items() if count]
        return float(np.mean(parts)) if parts else None

    def _average_precision(self, name: str, overlap: int) -> float:
        scores, hits = np.array(self.scores.get(name, ())), np.array(self.hits.get(name, ()), np.int64)
        hits = (hits[np.argsort(-scores, kind="stable")] >> overlap) & 1
        found = np.cumsum(hits)
        precision = found / np.arange(1, len(hits) + 1)
        falling = np.maximum.accumulate(precision[::-1])[::-1]
        return float((falling * hits).sum() / self.truths[name])


def detections(found: Boxes, corners: Array, classes: Integers) -> Detections:
    """One image: what was found against the labelled boxes."""
    flags = np.zeros(len(found), np.int64)
    for bit, overlap in enumerate(OVERLAPS):
        flags |= matched(found, corners, classes, overlap).astype(np.int64) << bit
    names = {int(name): found.classes == name for name in np.unique(found.classes)}
    return Detections(
        {str(name): int((classes == name).sum()) for name in np.unique(classes).tolist()},
        {str(name): tuple(found.scores[own].tolist()) for name, own in names.items()},
        {str(name): tuple(flags[own].tolist()) for name, own in names.items()},
    )
