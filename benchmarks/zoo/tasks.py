"""Tasks: one number each, of a network's outputs. truth: arrays of the evaluation; reference: outputs of the ANN."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.entry import Arrays, Task

Floats = NDArray[np.float64]


def first(outputs: Arrays) -> NDArray[np.float32]:
    """The first output."""
    return next(iter(outputs.values()))


def top1(outputs: Arrays, truth: Arrays, reference: Arrays) -> float:
    """100 · samples whose largest score is the label's / samples."""
    scores = first(outputs)
    return 100 * float((scores.reshape(len(scores), -1).argmax(1) == truth["labels"]).mean())


def relative_error(outputs: Arrays, reference: Arrays) -> float:
    """‖y − a‖ / ‖a‖ of the first output."""
    y, a = (first(each).astype(np.float64) for each in (outputs, reference))
    return float(np.linalg.norm(y - a) / max(np.linalg.norm(a), 1e-30))


TOP1 = Task("top-1, %", top1)
