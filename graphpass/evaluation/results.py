"""The result of an evaluation, and what a converted model says about itself. JSON keys: docs/formats.md."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from graphpass.errors import ModelError, OptionError
from graphpass.graph.description import PREFIX
from graphpass.graph.plan import Left
from graphpass.maths.metrics import Operations, energy_pj
from graphpass.maths.neuron import levels_of

KEYS = ("version", "time_steps", "coding", "levels", "method", "form", "model_sha256", "data_sha256", "sites", "left")


@dataclass(frozen=True)
class SiteInfo:
    """A site as the metadata tells it; see graph.sites.Site and graph.plan.SitePlan."""

    name: str
    kind: str
    input: str
    output: str
    layers: tuple[str, ...]
    lowest: float
    highest: float


@dataclass(frozen=True)
class Conversion:
    """The metadata of a converted model (keys ``graphpass.*``). data: given, synthetic, none, or empty if unknown."""

    version: str
    time_steps: int
    coding: str
    levels: int
    method: str
    form: str
    model_digest: str
    data_digest: str
    sites: tuple[SiteInfo, ...]
    left: tuple[Left, ...]
    data: str = ""


def conversion_of(snn: onnx.ModelProto) -> Conversion:
    """What the metadata of a converted model says. Raises ModelError where it is missing or makes no sense."""
    stored = {entry.key: entry.value for entry in snn.metadata_props}
    remedy = "convert it with graphpass"
    missing = [key for key in KEYS if PREFIX + key not in stored]
    if missing:
        raise ModelError(f"the spiking model lacks the metadata {PREFIX}{missing[0]}", remedy)
    text = {key: stored[PREFIX + key] for key in KEYS}
    try:
        sites = [{name: entry[name] for name in SiteInfo.__dataclass_fields__} for entry in json.loads(text["sites"])]
        found = Conversion(
            text["version"],
            int(text["time_steps"]),
            text["coding"],
            int(text["levels"]),
            text["method"],
            text["form"],
            text["model_sha256"],
            text["data_sha256"],
            tuple(SiteInfo(**{**entry, "layers": tuple(entry["layers"])}) for entry in sites),
            tuple(Left(**entry) for entry in json.loads(text["left"])),
            stored.get(PREFIX + "data", ""),
        )
        if found.levels != levels_of(found.time_steps, found.coding):
            raise ValueError(f"{found.levels} levels")
    except (ValueError, TypeError, KeyError, OptionError) as error:
        raise ModelError(
            f"the metadata of the spiking model is damaged ({type(error).__name__}: {error})", remedy
        ) from error
    return found


def told_levels(snn: onnx.ModelProto) -> dict[str, int]:
    """Levels of each site's neurons, by the metadata of a converted model (which conversion_of has accepted)."""
    stored = {entry.key: entry.value for entry in snn.metadata_props}
    try:
        return {site["name"]: int(site["levels"]) for site in json.loads(stored[PREFIX + "sites"])}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError("the metadata of the spiking model tells no levels", "convert it with graphpass") from error


@dataclass(frozen=True)
class Accuracy:
    """Fractions 0 … 1 of the samples; None without labels, top5 also with fewer than 10 classes."""

    top1: float | None
    top5: float | None


@dataclass(frozen=True)
class OutputResult:
    """One output of the SNN beside the ANN's. equal: fraction of equal values, for integer outputs only."""

    name: str
    relative_error: float | None
    cosine_similarity: float | None
    equal: float | None


@dataclass(frozen=True)
class MetricResult:
    """One figure of a metric (docs/metrics.md); None where it does not apply, as the ANN's distance from itself."""

    metric: str
    name: str
    ann: float | None
    snn: float | None
    baseline: float | None


@dataclass(frozen=True)
class SiteResult:
    """One site. neurons: per sample; error: Σ(y − a)² / Σ(a − ā)² of its output against the ANN's."""

    name: str
    kind: str
    neurons: int
    levels: int
    time_steps: int
    firing_rate: float | None
    sparsity: float | None
    error: float | None


@dataclass(frozen=True)
class LayerResult:
    """Operations of one weight layer or product per sample. input: "spikes" (they are ACs) or "analogue" (MACs)."""

    name: str
    op: str
    input: str
    effective: float
    dense: float


@dataclass(frozen=True)
class OperationCount:
    """Operations per sample of ANN and SNN, counted on `samples` samples. uncounted: nodes with products left out."""

    ann: Operations
    snn: Operations
    samples: int
    layers: tuple[LayerResult, ...]
    uncounted: tuple[str, ...]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one run: median, least and most."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Latency:
    """One run of each network over `batch` samples, alternately, `rounds` times. threads: 0 for all cores."""

    ann: Timing
    snn: Timing
    batch: int
    rounds: int
    threads: int


@dataclass(frozen=True)
class Baseline:
    """The ANN with activations quantised to `levels` levels between least and largest value, and its output's error."""

    levels: int
    accuracy: Accuracy
    agreement: float | None
    relative_error: float | None


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from. Digests: sha256, hex; empty where unknown."""

    ann: str
    ann_sha256: str
    snn_sha256: str
    calibration_sha256: str
    evaluation_data: str
    evaluation_sha256: str
    converter: str
    onnxruntime: str
    date: str


@dataclass(frozen=True)
class Evaluation:
    """An ANN beside the SNN that it became. firing_rate: of all neurons together."""

    samples: int
    conversion: Conversion
    class_output: str | None
    ann: Accuracy
    snn: Accuracy
    agreement: float | None
    metrics: tuple[MetricResult, ...]
    outputs: tuple[OutputResult, ...]
    firing_rate: float | None
    operations: OperationCount
    latency: Latency
    sites: tuple[SiteResult, ...]
    baseline: Baseline
    provenance: Provenance
    notes: tuple[str, ...] = ()

    @property
    def energy_ann(self) -> float:
        """pJ per sample."""
        return energy_pj(self.operations.ann)

    @property
    def energy_snn(self) -> float:
        """pJ per sample."""
        return energy_pj(self.operations.snn)

    def to_json(self) -> dict[str, Any]:
        """The document of docs/formats.md: fractions 0 … 1, null where not applicable or not finite."""
        conversion, operations, latency = self.conversion, self.operations, self.latency
        document = {
            "format": "graphpass-evaluation",
            "version": 1,
            "samples": self.samples,
            "time_steps": conversion.time_steps,
            "coding": conversion.coding,
            "levels": conversion.levels,
            "method": conversion.method,
            "form": conversion.form,
            "class_output": self.class_output,
            "ann": asdict(self.ann),
            "snn": asdict(self.snn),
            "agreement": self.agreement,
            "metrics": [asdict(metric) for metric in self.metrics],
            "outputs": [asdict(output) for output in self.outputs],
            "firing_rate": self.firing_rate,
            "synaptic_operations": {
                **asdict(operations.snn),
                "samples": operations.samples,
                "ann": asdict(operations.ann),
                "layers": [asdict(layer) for layer in operations.layers],
                "uncounted": list(operations.uncounted),
            },
            "energy_pj": {
                "ann": self.energy_ann,
                "snn": self.energy_snn,
                "ratio": ratio(self.energy_snn, self.energy_ann),
            },
            "latency_ms": {
                "ann": latency.ann.median,
                "snn": latency.snn.median,
                "ratio": ratio(latency.snn.median, latency.ann.median),
                "ann_range": [latency.ann.lowest, latency.ann.highest],
                "snn_range": [latency.snn.lowest, latency.snn.highest],
                "batch": latency.batch,
                "rounds": latency.rounds,
                "threads": latency.threads,
                "throughput_ann": 1000 * latency.batch / latency.ann.median,
                "throughput_snn": 1000 * latency.batch / latency.snn.median,
            },
            "sites": [asdict(site) for site in self.sites],
            "baseline": {
                "levels": self.baseline.levels,
                **asdict(self.baseline.accuracy),
                "agreement": self.baseline.agreement,
                "relative_error": self.baseline.relative_error,
            },
            "left": [asdict(entry) for entry in conversion.left],
            "provenance": asdict(self.provenance),
            "notes": list(self.notes),
        }
        return {key: _finite(value) for key, value in document.items()}


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None where whole is zero."""
    return part / whole if whole else None


def _finite(value: Any) -> Any:
    """The value with null for NaN and infinities, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
