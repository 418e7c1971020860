"""The metric of language models. docs/metrics.md."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import DataError, OptionError
from graphpass.evaluation.metrics.score import Array, Arrays, BatchScore, Sampled, Untrained, chosen_output, scored
from graphpass.maths.metrics import blocks
from graphpass.maths.tokens import divergences, log_softmax

REMEDY = "give one token for each position as an integer [samples, positions], below 0 where none counts"


@dataclass(frozen=True)
class Perplexity(Untrained):
    """Logits [N, S, V]. Labels: int [N, S], the token that follows each position; one below 0 (−100) does not count.

    shift: 1 where the labels are the text itself, so that position i predicts label i + 1.
    """

    output: str = ""
    shift: int = 0

    def __post_init__(self) -> None:
        if self.shift not in (0, 1):
            raise OptionError(
                f"metric perplexity: shift {self.shift}", "choose 0, or 1 for labels that are the text itself"
            )

    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore:
        """perplexity = exp(mean −log p[label]) over the tokens that count, and against the ANN perplexity_ratio, its
        ratio to the ANN's; kl_to_ann = mean KL(ANN ‖ network) and same_token, the share of positions with the ANN's
        most likely token, over the positions that count, or over all without labels.
        """
        name = chosen_output("perplexity", outputs, self.output, lambda v: v.ndim == 3, "[samples, positions, tokens]")
        logits, labels = outputs[name], batch.labels
        if labels is not None:
            labels = self._labels(labels, logits)
            logits = logits[:, : labels.shape[1]]
        theirs = None if outputs is reference else reference[name][:, : logits.shape[1]]
        kept = np.ones(logits.shape[:2], bool) if labels is None else labels >= 0
        sums: dict[str, list[float]] = {}
        for place, rows in enumerate(kept):
            own = None if labels is None else labels[place, rows]
            other = None if theirs is None else theirs[place, rows]
            for figure, total in _sums(logits[place, rows], other, own).items():
                sums.setdefault(figure, []).append(total)
        counts = kept.sum(1).astype(np.float64)
        ratios = {figure: (np.array(totals), counts) for figure, totals in sums.items()}
        exponents = {figure: ratios.pop(figure) for figure in EXPONENTS if figure in ratios}
        return scored(ratios, exponents=exponents)

    def _labels(self, labels: Array, logits: Array) -> NDArray[np.int64]:
        """Labels [N, S] of the first S positions. Raises DataError where they do not fit the logits."""
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise DataError(
                f"metric perplexity: labels of type {labels.dtype} and shape {list(labels.shape)} are not tokens",
                REMEDY,
            )
        if labels.shape != logits.shape[:2]:
            raise DataError(
                f"metric perplexity: labels of shape {list(labels.shape)} for logits of shape {list(logits.shape)}",
                REMEDY,
            )
        if (labels >= logits.shape[2]).any():
            raise DataError(
                f"metric perplexity: label {labels.max()} is not one of the {logits.shape[2]} tokens "
                f"0 … {logits.shape[2] - 1}",
                "give the labels that belong to this network, or name its logits: perplexity:output=NAME",
            )
        return labels[:, self.shift :].astype(np.int64)


EXPONENTS = ("perplexity", "perplexity_ratio")
"""Figures that are exp(mean)."""


def _sums(logits: Array, theirs: Array | None, labels: NDArray[np.int64] | None) -> dict[str, float]:
    """Sums over positions. logits, theirs (the ANN's): float [S, V]; labels: [S]. A sum of none is 0."""
    found: dict[str, float] = {}

    def add(figure: str, values: Array) -> None:
        found[figure] = found.get(figure, 0.0) + float(values.sum())

    for rows in blocks(logits):  # at least one, so that every sum is there
        y = log_softmax(logits[rows])
        a = None if theirs is None else log_softmax(theirs[rows])
        if labels is not None:
            own = labels[rows][:, None]
            loss = -np.take_along_axis(y, own, 1)
            add("perplexity", loss)
            if a is not None:
                add("perplexity_ratio", loss + np.take_along_axis(a, own, 1))
        if theirs is not None and a is not None:
            add("kl_to_ann", divergences(a, y))
            add("same_token", logits[rows].argmax(1) == theirs[rows].argmax(1))  # the smallest lead counts
    return found
