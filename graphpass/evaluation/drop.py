"""How much a converted network loses, as one number that is compared with a limit.

Of figures where more is better, in points (100 × a fraction) or in dB:     drop = ANN − SNN
Of errors and of perplexity, where less is better, in percent:               drop = 100·(SNN / ANN − 1)
Without labels, of a figure that is 1 where both networks agree, in points:  drop = 100·(1 − SNN)

The noise of a difference of two accuracies on N samples is at most 100·√((1 − agreement)/N) points (one standard
deviation): samples on which both networks say the same do not add to it. Metrics bring theirs (maths.metrics.Spread).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from graphpass.errors import OptionError
from graphpass.evaluation.metrics.registry import CLASSES
from graphpass.evaluation.results import Evaluation, MetricResult

Kind = Literal["gain", "decibel", "error", "likeness"]
DIGITS = 9  # of a drop: 100·(1 − 0.98) is 2, not 2.0000000000000018

AGREEMENT = "agreement"
# metric → its figures, the first that the evaluation has is taken; those against labels come first
FIGURES: Mapping[str, tuple[tuple[str, Kind], ...]] = {
    "ctc": (("exact", "gain"), ("same_text", "likeness")),
    "embedding": (("probe_accuracy", "gain"), ("cosine", "likeness")),
    "psnr": (("psnr", "decibel"),),
    "detection": (("map50", "gain"), ("ann_boxes_found", "likeness")),
    "regression": (("mean_absolute_error", "error"),),
    "perplexity": (("perplexity", "error"), ("same_token", "likeness")),
}
UNITS: Mapping[Kind, str] = {"gain": "points", "decibel": "dB", "error": "%", "likeness": "points"}


@dataclass(frozen=True)
class Drop:
    """value: in `unit`; infinite where the network gives no figure. noise: one standard deviation; None if unknown.

    figure: what was compared, such as top1, agreement or embedding cosine.
    """

    figure: str
    unit: str
    value: float
    noise: float | None = None

    def __str__(self) -> str:
        noise = "" if self.noise is None else f" ± {self.noise:.2f}"
        return f"{self.value:.2f}{noise} {self.unit} of {self.figure}"


def drop_of(found: Evaluation, metric: str = "") -> Drop:
    """The drop of an evaluation: of a metric by its text, else of class scores, else of the first output's cosine.

    metric: that was named first; empty: none was.

    Raises OptionError where the metric has no figure that a limit could be set on: that of a function of the user, and
    one that needs labels which the data does not have.
    """
    drop = _drop_of(found, metric)
    return replace(drop, value=round(drop.value, DIGITS))


def _drop_of(found: Evaluation, metric: str) -> Drop:
    if metric not in ("", CLASSES):
        return _of_metric(found, metric)
    if found.agreement is not None:
        return _of_classes(found)
    output = next((each for each in found.outputs if each.cosine_similarity is not None), None)
    if output is None:
        raise OptionError(
            "a largest drop cannot be set here: no output is compared by numbers", "name a metric (docs/metrics.md)"
        )
    return Drop(f"cosine of {output.name}", "points", _points(output.cosine_similarity))


def _of_classes(found: Evaluation) -> Drop:
    apart = 1.0 - (found.agreement or 0.0)
    if found.ann.top1 is None or found.snn.top1 is None:
        noise = 100 * math.sqrt(apart * (1 - apart) / found.samples)
        return Drop(AGREEMENT, "points", 100 * apart, noise)
    noise = 100 * math.sqrt(apart / found.samples)
    return Drop("top1", "points", 100 * (found.ann.top1 - found.snn.top1), noise)


def _of_metric(found: Evaluation, text: str) -> Drop:
    figures = {each.name: each for each in found.metrics if each.metric == text}
    known = FIGURES.get(text.partition(":")[0], ())
    name, kind = next(((name, kind) for name, kind in known if name in figures), ("", "gain"))
    if not name:
        wanted = f"give labels, for {known[0][0]}" if known else f"choose one of classes, {', '.join(FIGURES)}"
        raise OptionError(f"a largest drop cannot be set on metric {text} here", wanted, "metric")
    return Drop(f"{text} {name}", UNITS[kind], _value(figures[name], kind), _noise(figures[name], kind))


def _value(figure: MetricResult, kind: Kind) -> float:
    ann, snn = figure.ann, figure.snn
    if kind == "likeness":
        return _points(snn)
    if ann is None or snn is None or not math.isfinite(snn):
        return math.inf
    if kind == "error":
        if not ann:
            raise OptionError(
                f"metric {figure.metric}: the network itself makes no error, so a relative loss is not defined",
                "give other labels, or none and another metric",
                "metric",
            )
        return 100 * (snn / ann - 1)
    return (100 if kind == "gain" else 1) * (ann - snn)


def _noise(figure: MetricResult, kind: Kind) -> float | None:
    """In the unit of the drop. The noise of exp(m) is exp(m) times that of m."""
    if figure.noise is None or kind != "error":
        return None if figure.noise is None else (1 if kind == "decibel" else 100) * figure.noise
    scale = figure.snn if figure.name == "perplexity" else 1.0
    return 100 * figure.noise * scale / figure.ann if scale and figure.ann else None


def _points(likeness: float | None) -> float:
    return 100 * (1 - likeness) if likeness is not None and math.isfinite(likeness) else math.inf
