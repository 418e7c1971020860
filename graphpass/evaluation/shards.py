"""An evaluation in parts: each compares a span of the samples, and one of them measures. Merged, they are the whole.

    merge(parts of [0, a), [a, b), … [z, n)) = the part of [0, n), bit for bit

Counts are integers, sums over batches exact (maths.metrics.Sum), and every batch lies in one part: nothing depends on
where the samples were cut. Counts on a few samples, and times, are measured by one part for all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphpass.errors import DataError
from graphpass.evaluation.comparison import Comparison
from graphpass.evaluation.drawn import Drawn
from graphpass.evaluation.results import (
    Baseline,
    ConversionFacts,
    Evaluation,
    Latency,
    OperationCount,
    Provenance,
    SiteResult,
)
from graphpass.maths.energy import EnergyEstimate
from graphpass.records import RecordError, any_number, json_of, parsed, record_of
from graphpass.wording import counted

REMEDY = "merge all parts of one evaluation, in the order of their samples, one of them with measurements"


@dataclass(frozen=True)
class Measured:
    """The part of an evaluation that is not summed over all samples. levels: of the baseline."""

    conversion: ConversionFacts
    firing_rate: float | None
    operations: OperationCount
    energy: EnergyEstimate
    latency: Latency
    sites: tuple[SiteResult, ...]
    levels: int
    provenance: Provenance
    notes: tuple[str, ...]
    drawn: Drawn


@dataclass(frozen=True)
class EvaluationShard:
    """Samples start … stop − 1 of `total`, and the measurements where this part made them."""

    start: int
    stop: int
    total: int
    comparison: Comparison
    measured: Measured | None = None

    def to_text(self) -> str:
        """As JSON; no number loses a bit."""
        return json.dumps(json_of(self), allow_nan=False)


def from_text(text: str) -> EvaluationShard:
    """The part that `EvaluationShard.to_text` wrote. Raises DataError for any other text."""
    try:
        part: EvaluationShard = record_of(EvaluationShard, parsed(text), number=any_number)
        return part
    except RecordError as error:
        raise DataError(f"not a part of an evaluation ({error})", REMEDY) from error


def merge(parts: Sequence[EvaluationShard]) -> Evaluation:
    """The evaluation of all parts. Raises DataError where one is missing, present twice, or of another evaluation."""
    measured = [part.measured for part in parts if part.measured is not None]
    if len(measured) != 1:
        raise DataError(f"{counted(len(measured), 'part')} of an evaluation with measurements, not one", REMEDY)
    filled = [part for part in parts if part.start < part.stop]
    place, comparison = 0, filled[0].comparison if filled else Comparison(())
    for number, part in enumerate(filled):
        theirs = part.comparison
        if part.start != place or part.total != filled[0].total or theirs.samples != part.stop - part.start:
            raise DataError(f"samples {place} to {part.start} of an evaluation are missing, or appear twice", REMEDY)
        if _kind(theirs) != _kind(comparison):
            raise DataError("parts of different evaluations", REMEDY)
        comparison = comparison.merge(theirs) if number else comparison
        place = part.stop
    if not filled or place != filled[0].total:
        raise DataError(f"samples {place} and later of an evaluation are missing", REMEDY)
    return _whole(comparison, measured[0])


def _kind(comparison: Comparison) -> tuple[Any, ...]:
    """The values that all parts of one evaluation share."""
    metrics = {text: tuple(by_network) for text, by_network in comparison.scores.items()}
    return comparison.names, comparison.class_output, comparison.others, metrics


def _whole(comparison: Comparison, measured: Measured) -> Evaluation:
    return Evaluation(
        comparison.samples,
        measured.conversion,
        comparison.class_output,
        comparison.accuracy("ann"),
        comparison.accuracy("snn"),
        comparison.agreed("snn"),
        comparison.metrics(),
        comparison.outputs("snn"),
        measured.firing_rate,
        measured.operations,
        measured.energy,
        measured.latency,
        measured.sites,
        Baseline(
            measured.levels,
            comparison.accuracy("baseline"),
            comparison.agreed("baseline"),
            comparison.main_error("baseline"),
        ),
        measured.provenance,
        (*comparison.notes, *comparison.flattered(), *measured.notes),
        measured.drawn,
    )
