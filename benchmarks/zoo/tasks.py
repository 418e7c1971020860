"""Tasks: one number each, of a network's outputs, by graphpass.evaluation.metrics or functions as users write them."""

from dataclasses import dataclass

from benchmarks.zoo.entry import Array, Task
from graphpass.evaluation.metrics.boxes import Detection
from graphpass.evaluation.metrics.language import Perplexity
from graphpass.evaluation.metrics.registry import Plugin
from graphpass.evaluation.metrics.tasks import Ctc, Embedding, Psnr
from graphpass.maths.metrics import cosines

MAP_THRESHOLD, NOTE_THRESHOLD = 0.3, 0.3
Outputs = dict[str, Array]
Figures = dict[str, Array | tuple[Array, Array]]


def top1(outputs: Outputs, labels: Array, reference: Outputs) -> Figures:
    """Whether the largest of the scores [N, C] is the label's."""
    (scores,) = outputs.values()
    return {"top1": scores.argmax(-1) == labels}


def cosine(outputs: Outputs, labels: None, reference: Outputs) -> Figures:
    """cos(y, a) of each sample."""
    (y,), (a,) = outputs.values(), reference.values()
    return {"cosine": cosines(y, a)}


def overlap(outputs: Outputs, labels: None, reference: Outputs) -> Figures:
    """Σ |Y ∩ A| / Σ |Y ∪ A| of the places whose value is above 0.3."""
    y, a = (above(*each.values(), MAP_THRESHOLD) for each in (outputs, reference))
    return {"overlap": ((y & a).sum(1), (y | a).sum(1))}


def notes(outputs: Outputs, labels: Array, reference: Outputs) -> Figures:
    """F1 of the notes that sound: probabilities [N, frames, 88] above 0.3 against labels of that shape."""
    found, real = above(*outputs.values(), NOTE_THRESHOLD), above(labels, 0)
    return {"f1": (2 * (found & real).sum(1), found.sum(1) + real.sum(1))}


def above(values: Array, least: float) -> Array:
    return values.reshape(len(values), -1) > least


@dataclass(frozen=True)
class PerplexityTask(Task):
    """A task whose number is a perplexity, which less is better of: lost is how many percent it rises."""

    def lost(self, ann: float | None, snn: float) -> float:
        return 100.0 * (snn / (ann or self.perfect) - 1.0)


YOLO = Detection(format="cxcywh", nms=0.45)
TOP1 = Task("top-1, %", Plugin("top1", top1), ("top1",), labels="labels")
LINES = Task("exact lines, %", Ctc(), ("exact",), labels="classes")
PSNR = Task("PSNR, dB", Psnr(), ("psnr",), labels="images", unit=1.0)
COSINE = Task("cosine, %", Plugin("cosine", cosine), ("cosine",), fidelity=True)
OVERLAP = Task("overlap of regions, %", Plugin("overlap", overlap), ("overlap",), fidelity=True)
BOXES = Task("matched boxes, F1 %", YOLO, ("ann_boxes_found", "boxes_of_ann"), fidelity=True)
PROBE = Task("probe's accuracy, %", Embedding(), ("probe_accuracy",), labels="labels", output="461")
NOTES = Task("notes, F1 %", Plugin("notes", notes), ("f1",), labels="notes", output="StatefulPartitionedCall:1")
NEXT_TOKEN = PerplexityTask("perplexity", Perplexity(), ("perplexity",), labels="labels", unit=1.0)
