"""The result of an evaluation, and the metadata of a converted model. JSON keys: docs/formats.md."""

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np
import onnx

from graphpass.errors import ModelError, OptionError
from graphpass.evaluation.drawn import Drawn
from graphpass.graph.description import PREFIX
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.plan import SCALES, Left, SitePlan, check_site
from graphpass.maths.energy import Energy, EnergyEstimate
from graphpass.maths.metrics import Operations, energy_pj
from graphpass.maths.neuron import levels_of
from graphpass.maths.thresholds import Levels, largest
from graphpass.options.table import OPTIONS, form_words
from graphpass.records import RecordError, json_of, parsed, record_of
from graphpass.wording import counted

T = TypeVar("T")
KEYS = ("version", "time_steps", "coding", "levels", "method", "form", "model_sha256", "data_sha256", "sites", "left")


@dataclass(frozen=True)
class SiteInfo:
    """A site as it is in the metadata; see sites.sites.Site and graph.plan.SitePlan. Older files have no quantiser."""

    name: str
    kind: str
    input: str
    output: str
    layers: tuple[str, ...]
    levels: int
    lowest: float
    highest: float
    shape: tuple[int, ...] = (1,)
    scale: str = SCALES[0]
    quantiser: Levels | None = None

    @property
    def quantised(self) -> SitePlan:
        """The site with the levels of its quantiser; without one they span the range of f(x) in the whole tensor."""
        shape, scale, levels = self.shape, self.scale, self.quantiser
        if levels is None:
            low, high = np.array([min(self.lowest, 0.0)]), np.array([max(self.highest, 0.0)])
            levels = largest(high, self.levels, low)
            shape, scale = (1,), "pre-activation" if self.kind == "identity" else "activation"
        arrays = (levels.threshold, levels.shift, levels.amplitude, levels.offset)
        names = (self.name, self.kind, self.input, self.output, self.layers)
        return SitePlan(*names, shape, self.levels, *arrays, self.lowest, self.highest, scale=scale)


@dataclass(frozen=True)
class ConversionFacts:
    """The metadata of a converted model (keys ``graphpass.*``). data: given, synthetic, none, or empty if unknown.

    precision: "float16", or "source" for the types of the original network; older files do not state it. target: of the
    integer form; older files, and those for the usual one, do not state it.
    """

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
    precision: str = "source"
    target: str = OPTIONS["target"].default

    @property
    def form_and_precision(self) -> str:
        """As texts name it: folded form, folded form in float16, or integer form for tensorrt."""
        return form_words(f"{self.form} form", self.precision, self.target)


def conversion_of(snn: onnx.ModelProto) -> ConversionFacts:
    """The metadata of a converted model. Raises ModelError where it is missing or makes no sense."""
    stored = {
        entry.key.removeprefix(PREFIX): entry.value for entry in snn.metadata_props if entry.key.startswith(PREFIX)
    }
    try:
        return _conversion(stored)
    except (RecordError, OptionError) as error:
        spiking = not stored and any(node.domain == SPIKING_DOMAIN for node in snn.graph.node)
        raise ModelError(
            "a spiking network without its metadata, which graphsurgeon and onnx.utils.extract_model leave out"
            if spiking
            else f"not a converted network (its metadata: {PREFIX}{error})",
            "give a converted network, as `graphpass convert` writes it",
        ) from error


def _conversion(stored: Mapping[str, str]) -> ConversionFacts:
    if missing := next((key for key in KEYS if key not in stored), None):
        raise RecordError(f"{missing}: is missing")
    steps, levels = (_whole(stored[key], key) for key in ("time_steps", "levels"))
    if levels_of(steps, stored["coding"]) != levels:
        raise RecordError(
            f"levels: {levels}, not those of {counted(steps, 'time-step')} of the {stored['coding']} code"
        )
    sites = _entries(SiteInfo, stored, "sites")
    for place, site in enumerate(sites):
        check_site(site.quantised, f"sites[{place}].{{}}".format, levels)
    if twice := next((site.name for site in sites if sum(site.name == each.name for each in sites) > 1), None):
        raise RecordError(f"sites: {twice!r} appears twice")
    return ConversionFacts(
        version=stored["version"],
        time_steps=steps,
        coding=stored["coding"],
        levels=levels,
        method=stored["method"],
        form=stored["form"],
        model_digest=stored["model_sha256"],
        data_digest=stored["data_sha256"],
        sites=sites,
        left=_entries(Left, stored, "left"),
        data=stored.get("data", ""),
        precision=stored.get("precision", "source"),
        target=stored.get("target", OPTIONS["target"].default),
    )


def _entries(kind: type[T], stored: Mapping[str, str], key: str) -> tuple[T, ...]:
    """A list of JSON; entries may have more keys, of a later version, or lack those that have a default."""
    try:
        found = parsed(stored[key])
    except RecordError as error:
        raise RecordError(f"{key}: {error}") from error
    known = {each.name: each.default for each in fields(kind)}  # type: ignore[arg-type]
    usual = {name: json_of(value) for name, value in known.items() if value is not MISSING}
    if isinstance(found, list):
        found = [usual | {n: each[n] for n in known if n in each} if isinstance(each, dict) else each for each in found]
    entries: tuple[T, ...] = record_of(tuple[kind, ...], found, key)  # type: ignore[valid-type]
    return entries


def _whole(text: str, key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise RecordError(f"{key}: {text[:60]!r} is not a whole number")
    return int(text)


@dataclass(frozen=True)
class Accuracy:
    """Fractions 0 … 1 of the samples; None without labels, top5 also with fewer than 10 classes."""

    top1: float | None
    top5: float | None


@dataclass(frozen=True)
class OutputResult:
    """One output of the SNN compared with the ANN's. equal: fraction of equal values, for integer outputs only."""

    name: str
    relative_error: float | None
    cosine_similarity: float | None
    equal: float | None


@dataclass(frozen=True)
class MetricResult:
    """One figure of a metric (docs/metrics.md); None where it does not apply, such as the ANN's distance to itself.

    noise: one standard deviation of SNN − ANN, or of the SNN's figure where the ANN has none; of a figure that is exp
    of a mean, that of the mean. None for average precision.
    """

    metric: str
    name: str
    ann: float | None
    snn: float | None
    baseline: float | None
    noise: float | None = None


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
    """An ANN compared with the SNN converted from it.

    firing_rate: of all neurons together. energy: with memory traffic, by the model that was chosen. drawn: not in the
    JSON.
    """

    samples: int
    conversion: ConversionFacts
    class_output: str | None
    ann: Accuracy
    snn: Accuracy
    agreement: float | None
    metrics: tuple[MetricResult, ...]
    outputs: tuple[OutputResult, ...]
    firing_rate: float | None
    operations: OperationCount
    energy: EnergyEstimate
    latency: Latency
    sites: tuple[SiteResult, ...]
    baseline: Baseline
    provenance: Provenance
    notes: tuple[str, ...] = ()
    drawn: Drawn | None = None

    @property
    def energy_ann(self) -> float:
        """pJ per sample of operations alone, without memory traffic."""
        return energy_pj(self.operations.ann)

    @property
    def energy_snn(self) -> float:
        """pJ per sample of operations alone, without memory traffic."""
        return energy_pj(self.operations.snn)

    @property
    def total_energy_snn(self) -> float:
        """pJ per sample of the SNN, with memory traffic, by the chosen model; NaN where operations are not counted.

        That is the integer form. The ANN's is `energy.ann.total`.
        """
        return self.energy.snn.total

    @property
    def total_energy_ratio(self) -> float | None:
        """SNN / ANN, with memory traffic, by the chosen model; None where the ANN has no layers, NaN as above."""
        return self.energy.ratio

    def to_json(self) -> dict[str, Any]:
        """The document of docs/formats.md: fractions are 0 … 1; null where a value does not apply or is not finite."""
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
            "precision": conversion.precision,
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
            "energy": {
                "model": self.energy.model,
                "bits": self.energy.bits,
                **{name: _energy_json(getattr(self.energy, name)) for name in ("ann", "quantised", "snn")},
                "ratio": self.energy.ratio,
                "quantised_ratio": self.energy.quantised_ratio,
                "spikes_per_synapse": self.energy.spikes_per_synapse,
                "verdict": self.energy.verdict,
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
        return {key: without_nan(value) for key, value in document.items()}


def _energy_json(energy: Energy) -> dict[str, float]:
    """Picojoules by what they are spent on."""
    return {f"{name}_pj": value for name, value in (asdict(energy) | {"total": energy.total}).items()}


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None where whole is zero."""
    return part / whole if whole else None


def without_nan(value: Any) -> Any:
    """The value with null for NaN and infinities, which JSON cannot express."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
