"""What a metric is, and its result: a figure is Σ numerators / Σ denominators over samples, or exp of that.

Both sums are exact (maths.metrics.Sum), so that parts of an evaluation merge to the same bits wherever they were cut.
Average precision is not such a ratio; its boxes are kept (maths.detection).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import DataError, OptionError
from graphpass.maths.detection import OVERLAPS, Detections
from graphpass.maths.metrics import Mean, Spread

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Ratios = Mapping[str, tuple[Array, Array]]

PRECISIONS = {"map50": 0, "map75": 5}  # figure → place in OVERLAPS
ALL_PRECISIONS = "map50_95"


@dataclass(frozen=True)
class Score:
    """One metric of one network: figures that are means, figures that are exp(mean), boxes for average precision."""

    means: dict[str, Mean] = field(default_factory=dict)
    detections: Detections = field(default_factory=Detections)
    exponents: dict[str, Mean] = field(default_factory=dict)

    def merge(self, other: "Score") -> "Score":
        """Add the score of later samples."""
        return Score(
            _merged(self.means, other.means),
            self.detections.merge(other.detections),
            _merged(self.exponents, other.exponents),
        )

    @property
    def figures(self) -> dict[str, float | None]:
        """Every figure by its name; None where nothing was counted."""
        found = {name: _exp(mean.value) for name, mean in self.exponents.items()}
        found |= {name: mean.value for name, mean in self.means.items()}
        if any(self.detections.truths.values()):
            every = [self.detections.precision(place) for place in range(len(OVERLAPS))]
            found |= {name: every[place] for name, place in PRECISIONS.items()}
            found[ALL_PRECISIONS] = float(np.mean([each for each in every if each is not None]))
        return found


@dataclass(frozen=True)
class BatchScore(Score):
    """The score of one batch. rows: numerators and denominators [N] of each figure that is a mean, or exp of one."""

    rows: Ratios = field(default_factory=dict)


def _merged(one: Mapping[str, Mean], other: Mapping[str, Mean]) -> dict[str, Mean]:
    return {name: one.get(name, Mean()).merge(other.get(name, Mean())) for name in {**one, **other}}


def _exp(value: float | None) -> float | None:
    with np.errstate(over="ignore"):
        return None if value is None else float(np.exp(value))


def scored(ratios: Ratios, boxes: Detections | None = None, exponents: Ratios | None = None) -> BatchScore:
    """The score of a batch: numerators and denominators [N] by figure. exponents: of figures that are exp(ratio)."""
    means, logarithms = ({name: Mean().add(*each) for name, each in kind.items()} for kind in (ratios, exponents or {}))
    return BatchScore(means, boxes or Detections(), logarithms, {**ratios, **(exponents or {})})


def spread_of(score: BatchScore, reference: BatchScore) -> dict[str, Spread]:
    """By how much the difference of two networks' figures varies, of one batch; of figures of one network, they."""
    found = {}
    for name, (above, below) in score.rows.items():
        theirs = reference.rows.get(name)
        found[name] = Spread().add(above if theirs is None else above - theirs[0], below)
    return found


def plain(values: Sequence[Any] | Array) -> tuple[Array, Array]:
    """One value per sample, to be averaged over samples."""
    found = np.asarray(values, np.float64)
    return found, np.ones(len(found))


@dataclass(frozen=True, eq=False)
class Sampled:
    """A batch of `size` samples: their labels, if any, and which of them belong to the training part."""

    size: int
    labels: Array | None
    training: NDArray[np.bool_]


class Metric(Protocol):
    """score: of one network's outputs, by name; `outputs is reference` for the ANN, which is not compared with itself.

    trained: whether it has to be `fitted` with the ANN's outputs for the training part, and its labels, to use labels.
    """

    @property
    def trained(self) -> bool: ...
    def fitted(self, outputs: Arrays, labels: Array) -> "Metric": ...
    def score(self, outputs: Arrays, batch: Sampled, reference: Arrays) -> BatchScore: ...


class Untrained:
    """A metric that does not have to be fitted."""

    trained = False

    def fitted(self, outputs: Arrays, labels: Array) -> Any:
        return self


def chosen_output(metric: str, outputs: Arrays, wanted: str, fits: Callable[[Array], bool], shape: str) -> str:
    """Name of the output that was asked for, else of the first float one that fits. Raises OptionError."""
    if wanted:
        if wanted not in outputs:
            raise OptionError(
                f"metric {metric}: the model has no output {wanted!r}", f"choose one of {', '.join(outputs)}"
            )
        names = [wanted]
    else:
        names = [name for name, values in outputs.items() if np.issubdtype(values.dtype, np.floating)]
    found = next((name for name in names if fits(outputs[name])), None)
    if found is None:
        shapes = ", ".join(f"{name!r} {list(outputs[name].shape)}" for name in names or outputs)
        raise OptionError(f"metric {metric}: no output of shape {shape} (there is {shapes})", "choose another metric")
    return found


def require_same_shape(metric: str, one: Array, other: Array) -> None:
    """Raises DataError where outputs and labels, or outputs of two networks, cannot be compared number by number."""
    if one.shape != other.shape:
        raise DataError(
            f"metric {metric}: an output of shape {list(one.shape)} against {list(other.shape)}",
            "give labels of the output's shape",
        )


def one_class(labels: Array) -> NDArray[np.int64]:
    """Labels as one class per sample, int64 [N]."""
    if labels.size != len(labels) or labels.dtype.kind not in "iub":
        raise DataError(
            f"labels of type {labels.dtype} and shape {list(labels.shape)} are not classes",
            "give one integer a sample",
        )
    return labels.reshape(-1).astype(np.int64)
