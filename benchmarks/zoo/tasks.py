"""Tasks: one number each, of a network's outputs. Formulas beside Task in entry.py say what the arguments are."""

import numpy as np

from benchmarks.zoo.entry import Array, Arrays, Task
from graphpass.maths.detection import Boxes, matched, ranked
from graphpass.maths.metrics import cosines
from graphpass.maths.text import decode

MAP_THRESHOLD, NOTE_THRESHOLD, BOX_SCORE, BOX_OVERLAP, SAME_BOX = 0.3, 0.3, 0.25, 0.45, 0.5


def top1(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · samples whose largest score is the label's / samples."""
    return 100 * float((kept == truth["labels"]).mean())


def agreement(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · samples of the ANN's class / samples."""
    return 100 * float((kept == reference).mean())


def best(output: Array) -> Array:
    """Scores [N, …, C] → the largest one's index [N, …]."""
    return np.asarray(output.argmax(-1), np.int64)


def read(output: Array) -> Array:
    """Class scores [N, time, C] → the classes read off them (CTC, blank 0), int64 [N, time], −1 behind the end."""
    found = np.full(output.shape[:2], -1, np.int64)
    for row, text in zip(found, decode(output), strict=True):
        row[: len(text)] = text
    return found


def exact_lines(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · lines read without an error / lines. truth: `classes` [N, most], −1 behind the end."""
    lines = zip(kept, truth["classes"], strict=True)
    return 100 * float(np.mean([found[found >= 0].tolist() == line[line >= 0].tolist() for found, line in lines]))


def psnr(kept: Array, truth: Arrays, reference: Array) -> float:
    """Mean over the images of −10·log₁₀ mean (clip(y, 0, 1) − image)², dB."""
    squares = np.square(np.clip(kept, 0, 1).astype(np.float64) - truth["images"])
    return float(np.mean(-10 * np.log10(squares.reshape(len(squares), -1).mean(1))))


def cosine(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · mean over the samples of cos(y, a)."""
    return 100 * float(cosines(kept, reference).mean())


def overlap(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · |Y ∩ A| / |Y ∪ A| of the places whose value is above 0.3, over all samples."""
    y, a = kept > MAP_THRESHOLD, reference > MAP_THRESHOLD
    return 100 * float((y & a).sum() / max((y | a).sum(), 1))


def notes(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · F1 of the notes that sound, frame by frame: probabilities [N, frames, 88] above 0.3 against `notes`."""
    found, real = kept > NOTE_THRESHOLD, truth["notes"] > 0
    return 100 * float(2 * (found & real).sum() / max(found.sum() + real.sum(), 1))


def probe(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · samples for which sign(v·w + b) is the label's / samples; w, b were fitted to the ANN's vectors."""
    return 100 * float(((kept @ truth["weights"] + truth["bias"] > 0) == truth["labels"]).mean())


def matched_boxes(kept: Array, truth: Arrays, reference: Array) -> float:
    """100 · F1 of boxes matched with the ANN's: the same class, intersection over union at least 0.5, each once."""
    same = total = 0
    for one, other in zip(kept, reference, strict=True):
        mine, theirs = boxes(one), boxes(other)
        total += len(mine) + len(theirs)
        same += int(matched(mine, theirs.corners, theirs.classes, SAME_BOX).sum())
    return 100 * 2 * same / max(total, 1)


def boxes(output: Array) -> Boxes:
    """Boxes of one YOLOv8 output [4 + classes, places]: centre and size, then scores of at least 0.25; of boxes of one
    class that overlap by more than 0.45, the best one.
    """
    centre, half = output[:2].T, output[2:4].T / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return ranked(corners, output[4:].max(0), output[4:].argmax(0), BOX_SCORE, BOX_OVERLAP)


TOP1 = Task("top-1, %", top1, best)
SAME_CLASS = Task("same class, %", agreement, best, fidelity=True)
LINES = Task("exact lines, %", exact_lines, read)
PSNR = Task("PSNR, dB", psnr)
COSINE = Task("cosine, %", cosine, fidelity=True)
OVERLAP = Task("overlap of regions, %", overlap, fidelity=True)
BOXES = Task("matched boxes, F1 %", matched_boxes, fidelity=True)
PROBE = Task("probe's accuracy, %", probe, output="461")
NOTES = Task("notes, F1 %", notes, output="StatefulPartitionedCall:1")
