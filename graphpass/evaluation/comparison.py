"""Outputs of several networks against the ANN's, batch by batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.dataset import Batch
from graphpass.errors import DataError, OptionError
from graphpass.evaluation.metrics.registry import Metrics
from graphpass.evaluation.metrics.score import Sampled, Score, spread_of
from graphpass.evaluation.results import Accuracy, MetricResult, OutputResult
from graphpass.maths.metrics import Agreement, Difference, Hits, Spread
from graphpass.runtime.samples import Axes

Array = NDArray[Any]
Arrays = Mapping[str, Array]

LEAST_CLASSES_FOR_TOP5 = 10
FLATTERED = 4  # times as large: what the error of an output is of its spread, where that is to be said
WORTH_SAYING = 0.05  # of the spread: a smaller error is no matter
ENOUGH = 8  # samples whose spread tells something
REFERENCE = "ann"


@dataclass(frozen=True)
class OutputSums:
    """One output of a network compared with the ANN's. same of total values are equal; misfit: shapes differ."""

    difference: Difference = field(default_factory=Difference)
    same: int = 0
    total: int = 0
    misfit: bool = False

    def merge(self, other: "OutputSums") -> "OutputSums":
        return OutputSums(
            self.difference.merge(other.difference),
            self.same + other.same,
            self.total + other.total,
            self.misfit or other.misfit,
        )


@dataclass
class Comparison:
    """The results of the batches so far. others: names of the networks that are compared with the ANN.

    names: of the outputs. class_output, with `classes` classes, is chosen by the first batch: the output that was asked
    for, else the first of shape [N, C] (not counting axes of length 1) with C ≥ 2 floats, else the first with C = 1 and
    values in 0 … 1, a probability. sums: by network and output. scores: by metric and network.
    spreads: of the SNN's difference, by metric and figure.
    """

    others: tuple[str, ...]
    samples: int = 0
    names: tuple[str, ...] = ()
    class_output: str | None = None
    classes: int = 0
    notes: tuple[str, ...] = ()
    agreement: dict[str, Agreement] = field(default_factory=dict)
    hits: dict[str, Hits] = field(default_factory=dict)
    sums: dict[str, dict[str, OutputSums]] = field(default_factory=dict)
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    spreads: dict[str, dict[str, Spread]] = field(default_factory=dict)

    def update(
        self,
        place: int,
        batch: Batch,
        outputs: Mapping[str, Arrays],
        metrics: Metrics,
        training: NDArray[np.bool_],
        middles: Arrays | None = None,
    ) -> None:
        """Add a batch and its outputs by network and name. `settle` comes first, with the first batch.

        place: of its first sample in the data. training: which of the samples belong to the training part. middles: of
        the ANN's outputs, by name (`middles_of`). Raises
        DataError where a metric has other figures than for the batches before.
        """
        reference = outputs[REFERENCE]
        sampled = Sampled(batch.size, batch.labels, training)
        for text, metric in metrics.by_name.items():
            by_network = self.scores.setdefault(text, {})
            scored = {network: metric.score(found, sampled, reference) for network, found in outputs.items()}
            where = f"metric {text}: samples {place} to {place + batch.size - 1}, "
            for network, score in scored.items():
                known = by_network.get(network, Score())
                if self.samples:
                    _require_same_figures(where + network, known, score)
                by_network[network] = known.merge(score)
            spreads = spread_of(scored["snn"], scored[REFERENCE]) if "snn" in scored else {}
            self.spreads[text] = _joined(self.spreads.get(text, {}), spreads)
        self.samples += batch.size
        for other in self.others:
            sums = self.sums.setdefault(other, {})
            for name, a in reference.items():
                apart = self._difference(other, name, outputs[other][name], a, (middles or {}).get(name))
                sums[name] = sums.get(name, OutputSums()).merge(apart)
        if self.class_output is None:
            return
        scores = {network: flat(values[self.class_output]) for network, values in outputs.items()}
        for other in self.others:
            self.agreement[other] = self._agreed(other).update(scores[other], scores[REFERENCE])
        if batch.labels is not None:
            labels = _labels(batch.labels, self.classes, self.class_output)
            for network, values in scores.items():
                self.hits[network] = self.hits.get(network, Hits()).update(values, labels)

    def settle(self, outputs: Arrays, batch: Batch, axes: Axes, wanted: str | None, classes: bool) -> None:
        """Choose the class output by the very first batch and the ANN's outputs for it. wanted: its name, or None.

        axes: where the samples are in the outputs. classes: whether there may be a class output.
        """
        self.names = tuple(outputs)
        if not classes:
            return
        candidates = {
            name: _classes_of(values, batch.size) if axes.get(name) == 0 else 0 for name, values in outputs.items()
        }
        if wanted is not None:
            if wanted not in outputs:
                raise OptionError(f"the model has no output {wanted!r}", f"choose one of {', '.join(outputs)}")
            if not candidates[wanted]:
                shape = list(outputs[wanted].shape)
                raise OptionError(
                    f"output {wanted!r} of shape {shape} has no class scores",
                    "choose one of shape [samples, classes]",
                )
            self.class_output = wanted
        else:
            many = [name for name, count in candidates.items() if count > 1]
            one = [name for name, count in candidates.items() if count == 1 and _is_probability(outputs[name])]
            self.class_output = next(iter([*many, *one]), None)
        if self.class_output is not None:
            self.classes = candidates[self.class_output]
        elif batch.labels is not None:
            self._note("labels were not used: no output of shape [samples, classes]")

    def merge(self, other: "Comparison") -> "Comparison":
        """Add the results of later samples of the same data."""
        networks, agreement, hits = self.others, dict(self.agreement), dict(self.hits)
        for network in networks:
            agreement[network] = self._agreed(network).merge(other._agreed(network))
        for network, found in other.hits.items():
            hits[network] = hits.get(network, Hits()).merge(found)
        nothing = OutputSums()
        sums = {
            network: {
                name: self._sums(network).get(name, nothing).merge(other._sums(network).get(name, nothing))
                for name in self.names
            }
            for network in networks
        }
        notes = tuple(dict.fromkeys([*self.notes, *other.notes]))
        scores = {
            text: {network: score.merge(other.scores[text][network]) for network, score in by_network.items()}
            for text, by_network in self.scores.items()
        }
        spreads = {text: _joined(found, other.spreads[text]) for text, found in self.spreads.items()}
        samples = self.samples + other.samples
        return replace(
            self,
            samples=samples,
            notes=notes,
            agreement=agreement,
            hits=hits,
            sums=sums,
            scores=scores,
            spreads=spreads,
        )

    def metrics(self) -> tuple[MetricResult, ...]:
        """Every figure of every metric, in the order of the metrics."""
        found = []
        for text, by_network in self.scores.items():
            figures = {network: score.figures for network, score in by_network.items()}
            for name in dict.fromkeys(name for each in figures.values() for name in each):
                ann, snn, baseline = (figures.get(network, {}).get(name) for network in (REFERENCE, "snn", "baseline"))
                spread = self.spreads.get(text, {}).get(name, Spread())
                found.append(MetricResult(text, name, ann, snn, baseline, spread.noise))
        return tuple(found)

    def agreed(self, network: str) -> float | None:
        """Fraction of the samples for which a network predicts the ANN's class; None without class scores."""
        return self._agreed(network).fraction

    def _agreed(self, network: str) -> Agreement:
        return self.agreement.get(network, Agreement())

    def _sums(self, network: str) -> Mapping[str, OutputSums]:
        return self.sums.get(network, {})

    def _note(self, text: str) -> None:
        self.notes = tuple(dict.fromkeys([*self.notes, text]))

    def _difference(self, other: str, name: str, y: Array, a: Array, middle: Array | None) -> OutputSums:
        if y.shape != a.shape:
            self._note(f"output {name!r} of the {other} has another shape than the ANN's")
            return OutputSums(misfit=True)
        if not a.size:
            return OutputSums()
        if np.issubdtype(a.dtype, np.floating):
            return OutputSums(Difference().update(y, a, middle))
        return OutputSums(same=int((y == a).sum()), total=a.size)

    def accuracy(self, network: str) -> Accuracy:
        """Top-1 and top-5; None without labels."""
        hits = self.hits.get(network)
        if hits is None:
            return Accuracy(None, None)
        many = self.classes >= LEAST_CLASSES_FOR_TOP5
        return Accuracy(hits.top1 / hits.samples, hits.top5 / hits.samples if many else None)

    def outputs(self, network: str) -> tuple[OutputResult, ...]:
        """Every output of a network, compared with the ANN's."""
        return tuple(self._output(network, name) for name in self.names)

    def _output(self, network: str, name: str) -> OutputResult:
        found = self._sums(network).get(name, OutputSums())
        if found.misfit or not found.difference.values:
            equal = found.same / found.total if found.total and not found.misfit else None
            return OutputResult(name, None, None, equal)
        return OutputResult(name, found.difference.relative_error, found.difference.cosine_similarity, None)

    def flattered(self) -> tuple[str, ...]:
        """A remark for every output of the SNN that differs little between samples, so that its error looks small."""
        found = []
        for name, sums in self._sums("snn").items():
            error, of_spread = sums.difference.relative_error, sums.difference.error_of_spread
            if error is None or of_spread is None or self.samples < ENOUGH:
                continue
            if of_spread >= max(FLATTERED * error, WORTH_SAYING):
                found.append(
                    f"output {name!r} differs little between samples: its error is {100 * error:.2g} % of the values, "
                    f"but {100 * of_spread:.2g} % of how far samples are from their mean"
                )
        return tuple(found)

    def main_error(self, network: str) -> float | None:
        """Relative error of the class output, or of the first output."""
        name = self.class_output or next(iter(self.names), None)
        return self._output(network, name).relative_error if name else None


def _joined(one: Mapping[str, Spread], other: Mapping[str, Spread]) -> dict[str, Spread]:
    return {name: one.get(name, Spread()).merge(other.get(name, Spread())) for name in {**one, **other}}


def _require_same_figures(where: str, known: Score, found: Score) -> None:
    """Raises DataError unless a batch has the figures of those before it: others would be means of some batches."""
    one, other = ({*score.means, *score.exponents} for score in (known, found))
    if changed := sorted(one ^ other):
        what = "lack" if changed[0] in one else "have, unlike those before them,"
        raise DataError(
            f"{where} {what} the figure {changed[0]!r}",
            "return the same figures for every batch; a sample that does not count has a denominator of 0",
        )


def middles_of(outputs: Arrays, axes: Axes) -> dict[str, Array]:
    """The mean of the samples of each output of floats, float64: of the very first batch, so that parts agree on it."""
    return {
        name: values.mean(0, dtype=np.float64)
        for name, values in outputs.items()
        if axes.get(name) == 0 and np.issubdtype(values.dtype, np.floating)
    }


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
            f"labels of type {labels.dtype} and shape {list(labels.shape)} are not classes",
            "give one integer a sample, or leave the labels out",
        )
    highest = max(classes - 1, 1)
    bad = flat_labels[(flat_labels < 0) | (flat_labels > highest)]
    if bad.size:
        raise DataError(
            f"label {bad[0]} is not one of the classes 0 … {highest} of output {output!r}",
            "check that the labels count from 0 and belong to this model",
        )
    return flat_labels.astype(np.int64)
