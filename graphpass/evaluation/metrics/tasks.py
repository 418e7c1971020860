"""Metrics of text recognition, vectors, images and numbers. docs/metrics.md."""

from dataclasses import dataclass, replace

import numpy as np

from graphpass.errors import DataError, OptionError
from graphpass.evaluation.metrics.score import (
    Array,
    Arrays,
    BatchScore,
    Sampled,
    Untrained,
    chosen_output,
    one_class,
    plain,
    require_same_shape,
    scored,
)
from graphpass.maths.metrics import cosines
from graphpass.maths.probe import Probe, fit_probe
from graphpass.maths.text import Text, decode, edits
from graphpass.wording import counted

HIGHEST_PSNR = 100.0  # dB, also for equal images, whose infinite ratio would make the mean infinite


@dataclass(frozen=True)
class Ctc(Untrained):
    """Scores [N, frames, C], or with axis=1 [frames, N, C]. Labels: int [N, longest], filled up with −1.

    blank: the class that stands for no character; a negative number counts from the end.
    """

    output: str = ""
    blank: int = 0
    axis: int = 0

    def __post_init__(self) -> None:
        if self.axis not in (0, 1):
            raise OptionError(f"metric ctc: axis {self.axis}", "choose 0 or 1: where the samples are")

    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore:
        """exact, character_error_rate = Σ edits / Σ characters; same_text as the ANN."""
        texts = self._texts(outputs, batch.size)
        found = {}
        if batch.labels is not None:
            known = _texts_of(batch.labels)
            pairs = list(zip(texts, known, strict=True))
            found["exact"] = plain([text == label for text, label in pairs])
            found["character_error_rate"] = (
                np.array([edits(text, label) for text, label in pairs], np.float64),
                np.array([len(label) for label in known], np.float64),
            )
        if outputs is not reference:
            theirs = self._texts(reference, batch.size)
            found["same_text"] = plain([text == other for text, other in zip(texts, theirs, strict=True)])
        return scored(found)

    def _texts(self, outputs: Arrays, size: int) -> list[Text]:
        name = chosen_output("ctc", outputs, self.output, lambda v: v.ndim == 3, "[samples, frames, classes]")
        scores = np.moveaxis(outputs[name], self.axis, 0)
        if len(scores) < size or not -scores.shape[2] <= self.blank < scores.shape[2]:
            raise OptionError(
                f"metric ctc: output {name!r} of shape {list(outputs[name].shape)} for {counted(size, 'sample')}, "
                f"axis {self.axis}, blank {self.blank}",
                "set axis to where the samples are, and blank to one of the classes",
            )
        return decode(scores[:size], self.blank)


def _texts_of(labels: Array) -> list[Text]:
    if labels.ndim != 2 or labels.dtype.kind != "i":
        raise DataError(
            f"labels of type {labels.dtype} and shape {list(labels.shape)} are not texts",
            "give the classes of the characters as integers [samples, longest], filled up with -1",
        )
    return [tuple(int(each) for each in row if each >= 0) for row in labels]


@dataclass(frozen=True)
class Embedding:
    """Vectors [N, D]. Labels: one class a sample. The probe is fitted on the ANN's vectors of the training part."""

    output: str = ""
    probe: Probe | None = None
    trained = True

    def fitted(self, outputs: Arrays, labels: Array) -> "Embedding":
        return replace(self, probe=fit_probe(self._vectors(outputs), one_class(labels)))

    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore:
        """probe_accuracy on the samples that are not of the training part; cosine to the ANN's vector."""
        vectors, found = self._vectors(outputs), {}
        if batch.labels is not None and self.probe is not None:
            hits = self.probe.predict(vectors) == one_class(batch.labels)
            tested = ~batch.training
            found["probe_accuracy"] = ((hits & tested).astype(np.float64), tested.astype(np.float64))
        if outputs is not reference:
            found["cosine"] = plain(cosines(vectors, self._vectors(reference)))
        return scored(found)

    def _vectors(self, outputs: Arrays) -> Array:
        def is_vector(values: Array) -> bool:
            return values.ndim >= 2 and sum(length != 1 for length in values.shape[1:]) <= 1

        name = chosen_output("embedding", outputs, self.output, is_vector, "[samples, size]")
        return outputs[name].reshape(len(outputs[name]), -1)


@dataclass(frozen=True)
class Psnr(Untrained):
    """10·log₁₀(peak² / mean (y − target)²) in dB, `border` pixels of each side left out. Labels: the target images."""

    output: str = ""
    peak: float = 1.0
    border: int = 0

    def __post_init__(self) -> None:
        if self.peak <= 0 or self.border < 0:
            raise OptionError(f"metric psnr: peak {self.peak}, border {self.border}", "give a peak > 0, a border ≥ 0")

    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore:
        """psnr against the labels, psnr_to_ann."""
        name = chosen_output("psnr", outputs, self.output, lambda v: v.ndim >= 3, "[samples, …, height, width]")
        found = {}
        if batch.labels is not None:
            found["psnr"] = plain(self._psnr(outputs[name], batch.labels))
        if outputs is not reference:
            found["psnr_to_ann"] = plain(self._psnr(outputs[name], reference[name]))
        return scored(found)

    def _psnr(self, images: Array, target: Array) -> Array:
        require_same_shape("psnr", images, target)
        inner = slice(self.border, -self.border or None)
        apart = np.square(images.astype(np.float64) - target)[..., inner, inner].reshape(len(images), -1)
        if not apart.size:
            raise OptionError(f"metric psnr: border {self.border} leaves nothing of the images", "choose a smaller one")
        least = self.peak**2 * 10 ** (-HIGHEST_PSNR / 10)
        return np.asarray(10 * np.log10(self.peak**2 / np.maximum(apart.mean(1), least)))


@dataclass(frozen=True)
class RegressionTask(Untrained):
    """Numbers [N, …]. Labels: of the same shape."""

    output: str = ""

    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore:
        """mean_absolute_error and mean_squared_error against the labels; difference_to_ann = mean |y − a| and
        relative_l2 = ‖y − a‖₂ / ‖a‖₂ of a sample, where a ≠ 0, against the ANN.
        """
        labels = batch.labels

        def fits(values: Array) -> bool:
            return values.ndim >= 1 and (labels is None or values.size == labels.size)

        name = chosen_output(
            "regression", outputs, self.output, fits, "of the labels" if labels is not None else "[N, …]"
        )
        y, found = _rows(outputs[name]), {}
        if labels is not None:
            require_same_shape("regression", y, _rows(labels))
            apart = y - _rows(labels)
            found["mean_absolute_error"] = plain(np.abs(apart).mean(1))
            found["mean_squared_error"] = plain(np.square(apart).mean(1))
        if outputs is not reference:
            a = _rows(reference[name])
            require_same_shape("regression", y, a)
            length = np.linalg.norm(a, axis=1)
            known = length > 0
            relative = np.linalg.norm(y - a, axis=1) / np.where(known, length, 1.0)
            found["difference_to_ann"] = plain(np.abs(y - a).mean(1))
            found["relative_l2"] = (np.where(known, relative, 0.0), known.astype(np.float64))
        return scored(found)


def _rows(values: Array) -> Array:
    return values.reshape(len(values), -1).astype(np.float64)
