"""Metrics by name: those of METRICS, with parameters behind a colon, or a function of the user."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from graphpass.datasets.functions import code_of, imported
from graphpass.datasets.parts import named
from graphpass.errors import DataError, OptionError
from graphpass.evaluation.metrics.boxes import Detection
from graphpass.evaluation.metrics.language import Perplexity
from graphpass.evaluation.metrics.score import Array, Arrays, BatchScore, Metric, Sampled, Untrained, plain, scored
from graphpass.evaluation.metrics.tasks import Ctc, Embedding, Psnr, RegressionTask
from graphpass.options.values import number_of, whole_of
from graphpass.wording import counted

CLASSES = "classes"  # top-1, top-5 and agreement (evaluation/comparison.py): measured if no metric is named
METRICS: Mapping[str, Callable[..., Metric]] = {
    "ctc": Ctc,
    "embedding": Embedding,
    "psnr": Psnr,
    "detection": Detection,
    "regression": RegressionTask,
    "perplexity": Perplexity,
}
READERS: Mapping[type, Callable[[str], Any]] = {int: whole_of, float: number_of, str: str}  # of parameters, by type
RESERVED = frozenset({"probe"})  # fields that are no parameters


@dataclass(frozen=True)
class Metrics:
    """Metrics by the text that named them. classes: whether outputs may be class scores. first: the first text."""

    by_name: Mapping[str, Metric] = field(default_factory=dict)
    classes: bool = True
    first: str = ""


@dataclass(frozen=True)
class Plugin(Untrained):
    """function(outputs, labels, reference) → {figure: values}, once a batch and network.

    outputs: the network's, by name, [N, …]. labels: [N, …] as the data has them, or None. reference: the ANN's outputs;
    the same object as `outputs` when the ANN itself is scored. values: N numbers, averaged over samples, or a pair of N
    numerators and N denominators: Σ numerators / Σ denominators.
    """

    where: str
    function: Callable[[dict[str, Array], Array | None, dict[str, Array]], Mapping[str, Any]]

    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore:
        theirs = dict(reference)
        own = theirs if outputs is reference else dict(outputs)
        with named(f"{self.where}: failed", "correct the function: metric(outputs, labels, reference)"):
            found = self.function(own, batch.labels, theirs)
        if not isinstance(found, Mapping):
            raise DataError(f"{self.where}: gave a {type(found).__name__}", "return a dict of figures by name")
        return scored({str(name): self._ratio(str(name), values, batch.size) for name, values in found.items()})

    def _ratio(self, name: str, values: Any, size: int) -> tuple[Array, Array]:
        remedy = f"give one number for each sample ({size:,}), or a pair of such numerators and denominators"
        with named(f"{self.where}: {name!r} is not made of numbers", remedy):
            parts = [np.asarray(each, np.float64) for each in (values if isinstance(values, tuple) else (values,))]
        if len(parts) > 2 or any(part.shape != (size,) for part in parts):
            shapes = ", ".join(str(list(part.shape)) for part in parts)
            raise DataError(f"{self.where}: {name!r} has shape {shapes} for {counted(size, 'sample')}", remedy)
        return (parts[0], parts[1]) if len(parts) == 2 else plain(parts[0])


def metrics_of(texts: Sequence[str], allow_code: bool = False) -> Metrics:
    """The metrics of these names: NAME, NAME:parameter=value,… or, with allow_code, file.py:function.

    None: class scores, where an output holds some. Raises OptionError.
    """
    if not texts:
        return Metrics()
    if len(set(texts)) < len(texts):
        raise OptionError(f"metrics {', '.join(texts)}: one is named twice", "name each once")
    by_name = {text: _metric(text, allow_code) for text in texts if text != CLASSES}
    return Metrics(by_name, CLASSES in texts, texts[0])


def _metric(text: str, allow_code: bool) -> Metric:
    if code := code_of(text):
        if not allow_code:
            raise OptionError(
                f"metric {text}: code is not run here",
                f"choose one of {', '.join((CLASSES, *METRICS))}, or evaluate on your own machine",
            )
        if not code[0].is_file():
            raise OptionError(f"metric {text}: no such file", "write file.py:function")
        return Plugin(text, imported(*code, "taking outputs, labels and reference"))
    name, _, rest = text.partition(":")
    if name == CLASSES:
        raise OptionError(f"metric {text}: it has no parameters", f"write {CLASSES}")
    if name not in METRICS:
        raise OptionError(
            f"unknown metric {name!r}", f"choose one of {', '.join((CLASSES, *METRICS))}, or write file.py:function"
        )
    kind: Any = METRICS[name]
    known = {each.name: READERS[type(each.default)] for each in fields(kind) if each.name not in RESERVED}
    return kind(**_parameters(name, rest, known))  # type: ignore[no-any-return]


def _parameters(metric: str, text: str, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, sign, value = part.partition("=")
        if name not in known or not sign:
            raise OptionError(
                f"metric {metric}: {part!r} is not one of its parameters",
                f"write {metric}:name=value, with {', '.join(known)}",
            )
        try:
            found[name] = known[name](value)
        except ValueError as error:
            raise OptionError(f"metric {metric}: {name}: {error}", f"write {metric}:{name}=1") from error
    return found
