"""An evaluation read back from the JSON of docs/formats.md, for the model that it was made with."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from graphpass.errors import DataError
from graphpass.evaluation.results import (
    Accuracy,
    Baseline,
    ConversionFacts,
    Evaluation,
    Latency,
    LayerResult,
    MetricResult,
    OperationCount,
    OutputResult,
    Provenance,
    SiteResult,
    Timing,
)
from graphpass.maths.energy import Energy, EnergyEstimate
from graphpass.maths.metrics import Operations
from graphpass.records import RecordError, finite, parsed, record_of

T = TypeVar("T")
REMEDY = "give what `graphpass evaluate --json` or `graphpass convert --evaluation --json` wrote"
STATED = {
    "time_steps": int,
    "coding": str,
    "levels": int,
    "method": str,
    "form": str,
    "precision": str,
}  # of the conversion


def read_evaluation(path: Path, conversion: ConversionFacts) -> Evaluation:
    """The evaluation in a file. conversion: of the model. Raises DataError for a file that is no evaluation."""
    try:
        return evaluation_of(parsed(path.read_text("utf-8")), conversion)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})", REMEDY) from error
    except RecordError as error:
        raise DataError(f"{path}: {error}", REMEDY) from error


def require_own(found: Evaluation, conversion: ConversionFacts, snn_digest: str) -> None:
    """Raises DataError unless an evaluation is that of a model.

    conversion, snn_digest: of the model; the sha256 is empty where it has no file, as it is in an evaluation that was
    made before the file was written.
    """
    stated = {name: (getattr(found.conversion, name), getattr(conversion, name)) for name in (*STATED, "model_digest")}
    if found.provenance.snn_sha256 and snn_digest:
        stated["sha256"] = found.provenance.snn_sha256, snn_digest
    if wrong := next((name for name, (theirs, ours) in stated.items() if theirs != ours), None):
        theirs, ours = stated[wrong]
        raise DataError(
            f"the figures are of another network ({wrong} is {theirs!s:.70}, not {ours!s:.70})",
            "evaluate this network",
        )


def evaluation_of(document: Any, conversion: ConversionFacts) -> Evaluation:
    """The evaluation that `Evaluation.to_json` wrote; null is NaN where a number has to be. Raises RecordError.

    conversion: of the model, for what the document does not state.
    """
    if not isinstance(document, Mapping) or document.get("format") != "graphpass-evaluation":
        raise RecordError("it is not an evaluation")
    if document.get("version") != 1:
        raise RecordError(f"version: is {document.get('version')!s:.20}, this graphpass reads 1")
    operations, latency, baseline = (
        _object(document, key) for key in ("synaptic_operations", "latency_ms", "baseline")
    )
    figures = ("effective_acs", "effective_macs", "dense")
    provenance: Provenance = _read(Provenance, document, "provenance")
    stated = {name: _read(kind, document, name) for name, kind in STATED.items()}
    return Evaluation(
        samples=_read(int, document, "samples"),
        conversion=replace(conversion, **stated, model_digest=provenance.ann_sha256),
        class_output=_read(str | None, document, "class_output"),
        ann=_read(Accuracy, document, "ann"),
        snn=_read(Accuracy, document, "snn"),
        agreement=_read(float | None, document, "agreement"),
        metrics=_read(tuple[MetricResult, ...], document, "metrics"),
        outputs=_read(tuple[OutputResult, ...], document, "outputs"),
        firing_rate=_read(float | None, document, "firing_rate"),
        operations=OperationCount(
            ann=_read(Operations, operations, "ann"),
            snn=Operations(*(_read(float, operations, key) for key in figures)),
            samples=_read(int, operations, "samples"),
            layers=_read(tuple[LayerResult, ...], operations, "layers"),
            uncounted=_read(tuple[str, ...], operations, "uncounted"),
        ),
        latency=Latency(
            ann=_timing(latency, "ann"),
            snn=_timing(latency, "snn"),
            batch=_read(int, latency, "batch"),
            rounds=_read(int, latency, "rounds"),
            threads=_read(int, latency, "threads"),
        ),
        sites=_read(tuple[SiteResult, ...], document, "sites"),
        energy=_estimate(_object(document, "energy")),
        baseline=Baseline(
            levels=_read(int, baseline, "levels"),
            accuracy=Accuracy(_read(float | None, baseline, "top1"), _read(float | None, baseline, "top5")),
            agreement=_read(float | None, baseline, "agreement"),
            relative_error=_read(float | None, baseline, "relative_error"),
        ),
        provenance=provenance,
        notes=_read(tuple[str, ...], document, "notes"),
    )


def _estimate(energy: Mapping[str, Any]) -> EnergyEstimate:
    ann, quantised, snn = (_energy(_object(energy, side)) for side in ("ann", "quantised", "snn"))
    reached = _read(float | None, energy, "spikes_per_synapse")
    return EnergyEstimate(_read(str, energy, "model"), _read(int, energy, "bits"), ann, quantised, snn, reached)


def _energy(side: Mapping[str, Any]) -> Energy:
    return Energy(*(_read(float, side, f"{each.name}_pj") for each in fields(Energy)))


def _timing(latency: Mapping[str, Any], which: str) -> Timing:
    ends = _read(tuple[float, ...], latency, f"{which}_range")
    if len(ends) != 2:
        raise RecordError(f"{which}_range: is not the least and the largest value")
    return Timing(_read(float, latency, which), *ends)


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    if not isinstance(found, Mapping):
        raise RecordError(f"{key}: is not an object")
    return found


def _read(kind: type[T] | Any, document: Mapping[str, Any], key: str) -> Any:
    if key not in document:
        raise RecordError(f"{key}: is missing")
    return record_of(kind, document[key], key, _number)


def _number(value: Any, where: str) -> float:
    return math.nan if value is None else finite(value, where)
