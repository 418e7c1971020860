"""Outputs of several networks against the ANN's, batch by batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.dataset import Batch
from graphpass.errors import DataError, OptionError
from graphpass.evaluation import Accuracy, OutputResult
from graphpass.maths.metrics import Agreement, Difference, Hits

Array = NDArray[Any]
Arrays = Mapping[str, Array]

LEAST_CLASSES_FOR_TOP5 = 10
REFERENCE = "ann"


class Comparison:
    """What is known after the batches so far. others: names of the networks beside the ANN.

    class_output is settled by the first batch: the output that was asked for, else the first of shape [N, C] (axes of
    length 1 aside) with C ≥ 2 floats, else the first with C = 1 and values in 0 … 1, a probability.
    """

    def __init__(self, others: tuple[str, ...], wanted: str | None = None):
        self.samples = 0
        self.class_output: str | None = None
        self.notes: list[str] = []
        self.agreement = {name: Agreement() for name in others}
        self._others = others
        self._wanted = wanted
        self._classes = 0
        self._hits: dict[str, Hits] = {}
        self._difference: dict[tuple[str, str], Difference] = {}
        self._equal: dict[tuple[str, str], tuple[int, int]] = {}
        self._names: list[str] = []
        self._misfits: set[str] = set()

    def update(self, batch: Batch, outputs: Mapping[str, Arrays]) -> None:
        """With a batch and its outputs by network and name."""
        reference = outputs[REFERENCE]
        if not self.samples:
            self._names = list(reference)
            self._choose(reference, batch)
        self.samples += batch.size
        for other in self._others:
            for name, a in reference.items():
                self._differ(other, name, outputs[other][name], a)
        if self.class_output is None:
            return
        scores = {network: flat(values[self.class_output]) for network, values in outputs.items()}
        for other in self._others:
            self.agreement[other] = self.agreement[other].update(scores[other], scores[REFERENCE])
        if batch.labels is not None:
            labels = _labels(batch.labels, self._classes, self.class_output)
            for network, values in scores.items():
                self._hits[network] = self._hits.get(network, Hits()).update(values, labels)

    def _choose(self, outputs: Arrays, batch: Batch) -> None:
        candidates = {name: _classes_of(values, batch.size) for name, values in outputs.items()}
        if self._wanted is not None:
            if self._wanted not in outputs:
                raise OptionError(f"the model has no output {self._wanted!r}", f"choose one of {', '.join(outputs)}")
            if not candidates[self._wanted]:
                shape = list(outputs[self._wanted].shape)
                raise OptionError(
                    f"output {self._wanted!r} of shape {shape} holds no class scores",
                    "choose one of shape [samples, classes]",
                )
            self.class_output = self._wanted
        else:
            many = [name for name, count in candidates.items() if count > 1]
            one = [name for name, count in candidates.items() if count == 1 and _is_probability(outputs[name])]
            self.class_output = next(iter([*many, *one]), None)
        if self.class_output is not None:
            self._classes = candidates[self.class_output]
        elif batch.labels is not None:
            self.notes.append("labels were not used: no output of shape [samples, classes]")

    def _differ(self, other: str, name: str, y: Array, a: Array) -> None:
        key = (other, name)
        if y.shape != a.shape:
            if name not in self._misfits:
                self.notes.append(f"output {name!r} of the {other} has another shape than the ANN's")
            self._misfits.add(name)
        elif not a.size:
            return
        elif np.issubdtype(a.dtype, np.floating):
            y, a = np.atleast_1d(y), np.atleast_1d(a)
            self._difference[key] = self._difference.get(key, Difference()).update(y, a)
        else:
            same, total = self._equal.get(key, (0, 0))
            self._equal[key] = (same + int((y == a).sum()), total + a.size)

    def accuracy(self, network: str) -> Accuracy:
        """Top-1 and top-5; None without labels."""
        hits = self._hits.get(network)
        if hits is None:
            return Accuracy(None, None)
        many = self._classes >= LEAST_CLASSES_FOR_TOP5
        return Accuracy(hits.top1 / hits.samples, hits.top5 / hits.samples if many else None)

    def outputs(self, network: str) -> tuple[OutputResult, ...]:
        """Every output of a network against the ANN's."""
        return tuple(self._output(network, name) for name in self._names)

    def _output(self, network: str, name: str) -> OutputResult:
        difference = self._difference.get((network, name))
        same, total = self._equal.get((network, name), (0, 0))
        if name in self._misfits or difference is None:
            equal = same / total if total and name not in self._misfits else None
            return OutputResult(name, None, None, equal)
        return OutputResult(name, difference.relative_error, difference.cosine_similarity, None)

    def main_error(self, network: str) -> float | None:
        """Relative error of the class output, or of the first output."""
        name = self.class_output or next(iter(self._names), None)
        return self._output(network, name).relative_error if name else None


def flat(values: Array) -> Array:
    """Class scores as [N, C]."""
    return values.reshape(len(values), -1)


def _classes_of(values: Array, size: int) -> int:
    """C of an output of shape [N, C] with any axes of length 1; 0 where it is not one."""
    scores = np.issubdtype(values.dtype, np.floating) and values.ndim >= 2 and len(values) == size
    wide = [length for length in values.shape[1:] if length != 1]
    return (wide or [1])[0] if scores and len(wide) <= 1 else 0


def _is_probability(values: Array) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _labels(labels: Array, classes: int, output: str) -> NDArray[np.int64]:
    flat_labels = labels.reshape(-1)
    if flat_labels.size != len(labels) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels of type {labels.dtype} and shape {list(labels.shape)} name no classes",
            "give one integer a sample, or leave the labels out",
        )
    highest = max(classes - 1, 1)
    bad = flat_labels[(flat_labels < 0) | (flat_labels > highest)]
    if bad.size:
        raise DataError(
            f"label {bad[0]} is not one of the {highest + 1} classes 0 … {highest} of output {output!r}",
            "check that the labels count from 0 and belong to this model",
        )
    return flat_labels.astype(np.int64)
