"""The metric of detectors. docs/metrics.md."""

from dataclasses import dataclass

import numpy as np

from graphpass.errors import DataError, OptionError
from graphpass.evaluation.metrics.score import Array, Arrays, BatchScore, Sampled, Untrained, chosen_output, scored
from graphpass.maths.detection import Boxes, Detections, detections, matched, ranked
from graphpass.wording import counted

LEAST_SCORE = 0.001  # of a box, for average precision, which counts doubtful boxes too
FORMATS = ("xyxy", "xywh", "cxcywh")


@dataclass(frozen=True)
class Detection(Untrained):
    """boxes [N, K, 4] with scores [N, K, C], or [N, K] and then, if there are several, classes [N, K].

    Without `scores`, one output [N, K, 4 + C] or [N, 4 + C, K], K the longer axis: the box, with objectness=1 a factor
    of all scores, and the score of each class. format: xyxy (corners), xywh (corner, size) or cxcywh (centre, size).
    Boxes that score less than `threshold` do not count, except for average precision. nms: the largest IoU that two
    boxes of one class may have, 0 for any. iou: the IoU from which boxes of two networks count as the same box.
    Labels: float [N, M, 5], x1, y1, x2, y2 and the class; a row with a class below 0 is not a box.
    """

    boxes: str = ""
    scores: str = ""
    classes: str = ""
    format: str = "xyxy"
    threshold: float = 0.25
    iou: float = 0.5
    nms: float = 0.0
    objectness: int = 0

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise OptionError(f"metric detection: format {self.format!r}", f"choose one of {', '.join(FORMATS)}")
        if not 0 < self.iou <= 1 or not 0 <= self.nms <= 1:
            raise OptionError(f"metric detection: iou {self.iou}, nms {self.nms}", "both are shares of 1")

    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore:
        """map50, map75 and map50_95 against the labels; ann_boxes_found = Σ shared / Σ the ANN's boxes and
        boxes_of_ann = Σ shared / Σ boxes found.
        """
        labelled = batch.labels is not None
        every = self._read(outputs, batch.size, LEAST_SCORE if labelled else self.threshold)
        ratios, boxes = {}, Detections()
        if batch.labels is not None:
            for found, rows in zip(every, _labelled(batch.labels), strict=True):
                boxes = boxes.merge(detections(found, rows[:, :4], rows[:, 4].astype(np.int64)))
        if outputs is not reference:
            own = [_from(found, self.threshold) for found in every]
            theirs = self._read(reference, batch.size, self.threshold)
            shared = np.array(
                [
                    matched(one, other.corners, other.classes, self.iou).sum()
                    for one, other in zip(own, theirs, strict=True)
                ],
                np.float64,
            )
            ratios["ann_boxes_found"] = (shared, np.array([len(other) for other in theirs], np.float64))
            ratios["boxes_of_ann"] = (shared, np.array([len(one) for one in own], np.float64))
        return scored(ratios, boxes)

    def _read(self, outputs: Arrays, size: int, least: float) -> list[Boxes]:
        """The boxes of each sample, highest score first."""
        corners, scores = self._parts(outputs)
        if self.classes:
            name = chosen_output("detection", outputs, self.classes, lambda v: v.ndim == 2, "[samples, boxes]")
            classes, best = outputs[name], scores[..., 0]
        else:
            classes, best = scores.argmax(2), scores.max(2)
        if not len(corners) == len(best) == len(classes) == size or corners.shape[1] != best.shape[1]:
            raise OptionError(
                f"metric detection: boxes {list(corners.shape)} and scores {list(scores.shape)} for "
                f"{counted(size, 'sample')}",
                "name the outputs: detection:boxes=NAME,scores=NAME",
            )
        corners = _corners(corners.astype(np.float64), self.format)
        parts = zip(corners, best, classes, strict=True)
        return [ranked(*part, least, self.nms or None) for part in parts]

    def _parts(self, outputs: Arrays) -> tuple[Array, Array]:
        """Boxes [N, K, 4] and scores [N, K, C] as the network gives them."""
        if not self.scores:
            name = chosen_output("detection", outputs, self.boxes, _is_joint, "[samples, boxes, 4 + classes]")
            joint = outputs[name]
            joint = joint if joint.shape[1] >= joint.shape[2] else joint.transpose(0, 2, 1)
            first = 4 + (self.objectness != 0)
            return joint[..., :4], joint[..., first:] * (joint[..., 4:5] if self.objectness else 1)
        name = chosen_output("detection", outputs, self.boxes, lambda v: v.shape[2:] == (4,), "[samples, boxes, 4]")
        other = chosen_output(
            "detection", outputs, self.scores, lambda v: v.ndim in (2, 3), "[samples, boxes, classes]"
        )
        scores = outputs[other]
        return outputs[name], scores if scores.ndim == 3 else scores[..., None]


def _is_joint(values: Array) -> bool:
    return values.ndim == 3 and min(values.shape[1:]) >= 5


def _from(found: Boxes, least: float) -> Boxes:
    count = int((found.scores >= least).sum())  # they are sorted
    return Boxes(found.corners[:count], found.scores[:count], found.classes[:count])


def _corners(boxes: Array, kind: str) -> Array:
    first, second = boxes[..., :2], boxes[..., 2:]
    if kind == "xyxy":
        return boxes
    low = first - second / 2 if kind == "cxcywh" else first
    return np.concatenate([low, low + second], axis=-1)


def _labelled(labels: Array) -> list[Array]:
    if labels.ndim != 3 or labels.shape[2] != 5:
        raise DataError(
            f"labels of shape {list(labels.shape)} are not boxes",
            "give [samples, most boxes, 5]: x1, y1, x2, y2 and the class, -1 where there is no box",
        )
    return [rows[rows[:, 4] >= 0].astype(np.float64) for rows in labels]
