"""Members of the zoo and their results. Results have JSON forms, one file for each member."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.evaluation.metrics.score import Metric, Score
from graphpass.sites.sites import Selection

Array = NDArray[Any]
Arrays = Mapping[str, Array]

SETTINGS = (("phase", 4), ("rate", 4), ("rate", 8), ("rate", 16), ("rate", 32))
ACTIVATIONS = {"": Selection()}
IDENTITIES = {"identity sites": Selection(identity_sites=True)}
BOTH = ACTIVATIONS | IDENTITIES


@dataclass(frozen=True)
class Task:
    """What a network is for, as a number; more is better, where `lost` does not say otherwise.

    metric, figures: what is measured of the one output `output`, the first by default; of two figures, precision and
    recall, the harmonic mean (F1). labels: the array of Samples.truth that is compared with. unit: what 1 counts.
    fidelity: the ANN is the truth, and `perfect` its own number.
    """

    name: str
    metric: Metric
    figures: tuple[str, ...]
    labels: str = ""
    output: str = ""
    unit: float = 100.0
    digits: int = 2
    fidelity: bool = False
    perfect: float = 100.0

    def number(self, score: Score) -> float:
        """The task's number; 0 where nothing was counted."""
        found = [score.figures[name] or 0.0 for name in self.figures]
        return self.unit * (found[0] if len(found) == 1 else harmonic_mean(found))

    def lost(self, ann: float | None, snn: float) -> float:
        """How much worse the SNN is than the ANN, or with fidelity, than perfect."""
        return (self.perfect if ann is None else ann) - snn


@dataclass(frozen=True)
class Samples:
    """Paths of .npz files: what the networks see, and what the task compares with (default: the evaluation file).

    For a metric that is fitted, truth also holds `outputs`, what the ANN made of other samples, and their `classes`.
    """

    calibration: Path
    evaluation: Path
    truth: Path | None = None

    def known(self, name: str) -> Array:
        """One array of the truth."""
        with np.load(self.truth or self.evaluation) as data:
            return np.asarray(data[name])


@dataclass(frozen=True)
class Entry:
    """A member. what: the network and its data. shows: operators that it covers.

    assets: of benchmarks/assets.py, network first.
    loses: the most that the task's number may fall at phase T = 4, by variant; measuring more is an error.
    variants: selections of sites by name. batch: samples a run. counted: samples whose operations are counted.
    """

    what: str
    shows: str
    assets: tuple[str, ...]
    model: Callable[[], Path]
    samples: Callable[[], Samples]
    task: Task
    loses: tuple[float, ...]
    small: bool = False
    variants: Mapping[str, Selection] = field(default_factory=lambda: ACTIVATIONS)
    allow_partial: bool = False
    batch: int = 32
    counted: int = 8
    verified: int = 4


@dataclass(frozen=True)
class Reason:
    """Why nodes stayed analogue. share: of all multiply-accumulates; 0 for nodes without. nodes: 0: not counted."""

    text: str
    nodes: int
    share: float


@dataclass(frozen=True)
class Covered:
    """layers: weight layers. macs: multiply-accumulates of weight layers and products, a sample. additions: the share
    of those that are nothing but additions, of binary spikes.
    """

    sites: int
    layers: int
    macs: float
    additions: float
    left: tuple[Reason, ...]


@dataclass(frozen=True)
class Verified:
    """Folded against unrolled form, at phase T = 4."""

    agrees: bool
    samples: int
    neurons: int
    flips: int


@dataclass(frozen=True)
class SettingResult:
    """One setting. cosine: mean similarity of a sample's output with the ANN's. energy, quantised_energy: the SNN's and
    the quantised ANN's, divided by the ANN's, with memory traffic.
    """

    coding: str
    time_steps: int
    levels: int
    snn: float
    baseline: float
    cosine: float | None
    baseline_cosine: float | None
    firing_rate: float | None
    energy: float | None
    quantised_energy: float | None


@dataclass(frozen=True)
class FormTimes:
    """Milliseconds a sample of the ANN, and what the forms take of that, as medians. refusal: of the integer form."""

    batch: int
    threads: int
    ann: float
    folded: float
    integer: float | None
    refusal: str
    machine: str


@dataclass(frozen=True)
class Variant:
    covered: Covered
    verified: Verified | None = None
    rows: tuple[SettingResult, ...] = ()
    times: FormTimes | None = None

    def row(self, coding: str, time_steps: int) -> SettingResult | None:
        return next((row for row in self.rows if (row.coding, row.time_steps) == (coding, time_steps)), None)


@dataclass(frozen=True)
class Result:
    """calibration, evaluation: numbers of samples. ann: the task's number; None under fidelity."""

    name: str
    date: str
    calibration: int = 0
    evaluation: int = 0
    ann: float | None = None
    refusal: str = ""
    variants: Mapping[str, Variant] = field(default_factory=dict)

    def with_variant(self, name: str, variant: Variant) -> "Result":
        return replace(self, variants={**self.variants, name: variant})

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")
        partial.replace(path)


def load_result(folder: Path, name: str) -> Result | None:
    """The result of a member, None where it was not measured yet."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text("utf-8"))
    return Result(**{**found, "variants": {key: _variant(value) for key, value in found["variants"].items()}})


def _variant(found: Mapping[str, Any]) -> Variant:
    covered = found["covered"]
    return Variant(
        Covered(**{**covered, "left": tuple(Reason(**each) for each in covered["left"])}),
        Verified(**found["verified"]) if found["verified"] else None,
        tuple(SettingResult(**row) for row in found["rows"]),
        FormTimes(**found["times"]) if found["times"] else None,
    )
