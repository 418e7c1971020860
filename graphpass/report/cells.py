"""Evaluations as rows of text, for the terminal and for pages."""

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from graphpass.evaluation.results import Evaluation, MetricResult, Timing
from graphpass.maths.allocation import levels_text
from graphpass.maths.energy import Energy, in_bits
from graphpass.sweeps import Row

NONE = "–"
ENERGY_PARTS = tuple(each.name for each in fields(Energy))
OPERATION_NAMES = ("effective_macs", "effective_acs")

Cells = Sequence[str]


def headline(evaluation: Evaluation) -> tuple[Cells, list[Cells]]:
    ann, snn, baseline = evaluation.ann, evaluation.snn, evaluation.baseline
    operations, latency = evaluation.operations, evaluation.latency
    rows: list[Cells] = []
    for label, name in (("top-1 accuracy", "top1"), ("top-5 accuracy", "top5")):
        values = [getattr(each, name) for each in (ann, snn, baseline.accuracy)]
        if values[0] is not None:
            rows.append((label, *(percent(value) for value in values)))
    if evaluation.agreement is not None:
        rows.append(("same class as the ANN", NONE, percent(evaluation.agreement), percent(baseline.agreement)))
    for each in evaluation.metrics:
        rows.append((metric_name(each), *(_figure_text(v) for v in (each.ann, each.snn, each.baseline))))
    macs, acs = ([getattr(each, name) for each in (operations.ann, operations.snn)] for name in OPERATION_NAMES)
    energy = evaluation.energy
    rows += [
        ("relative error of the output", NONE, percent(main_error(evaluation)), percent(baseline.relative_error)),
        (
            "levels",
            NONE,
            levels(evaluation),
            levels(evaluation) if _has_own_levels(evaluation) else str(baseline.levels),
        ),
        ("firing rate", NONE, percent(evaluation.firing_rate), NONE),
        ("MACs a sample", *(count(value) for value in macs), NONE),
        ("ACs a sample", *(count(value) for value in acs), NONE),
        ("energy a sample", *(joules(each.total) for each in (energy.ann, energy.snn, energy.quantised))),
        ("energy / that of the ANN", NONE, _times(energy.ratio), _times(energy.quantised_ratio)),
        (f"latency, batch {latency.batch}", _time(latency.ann), _time(latency.snn), NONE),
    ]
    return ("", "ANN", "SNN", "quantised ANN"), rows


def energy_lines(evaluation: Evaluation) -> tuple[Cells, list[Cells]]:
    """What the energy of a sample is spent on, and how it compares with the ANN's."""
    found = evaluation.energy
    sides = (
        ("ANN", found.ann, 1.0),
        (f"quantised ANN ({in_bits(found.bits)})", found.quantised, found.quantised_ratio),
        ("SNN", found.snn, found.ratio),
    )
    parts = (*ENERGY_PARTS, "total")
    rows: list[Cells] = [
        (name, *(joules(getattr(energy, part)) for part in parts), _times(share)) for name, energy, share in sides
    ]
    return ("energy a sample", *parts, "/ ANN"), rows


def lines(rows: Sequence[Row]) -> tuple[Cells, list[Cells]]:
    labelled = is_labelled(rows)
    measured = (
        ("ANN top-1", "SNN top-1", "points lost", "quantised top-1", "agreement")
        if labelled
        else ("error", "quantised error", "agreement")
    )
    figures = [f"{side} {metric_name(each)}" for each, side, _ in _sides(rows[0].evaluation)] if rows else []
    header = ("T", "coding", "levels", "method", *measured, *figures, "firing rate", "energy ratio")
    return header, [_line(row, labelled) for row in rows]


def _line(row: Row, labelled: bool) -> Cells:
    found = row.evaluation
    ann, snn, baseline = found.ann.top1, found.snn.top1, found.baseline
    measured = [percent(main_error(found)), percent(baseline.relative_error)]
    if labelled:
        lost = NONE if ann is None or snn is None else f"{100 * (ann - snn):.2f}"
        measured = [percent(ann), percent(snn), lost, percent(baseline.accuracy.top1)]
    settings = (str(row.time_steps), row.coding, str(row.levels), row.method)
    figures = [_figure_text(value) for _, _, value in _sides(found)]
    rates = (percent(found.firing_rate), _times(found.total_energy_ratio))
    return (*settings, *measured, percent(found.agreement), *figures, *rates)


def _sides(evaluation: Evaluation) -> list[tuple[MetricResult, str, float | None]]:
    """The figure in a line of a sweep: the SNN's, and the ANN's if it has one."""
    return [
        (each, side, value)
        for each in evaluation.metrics
        for side, value in (("ANN", each.ann), ("SNN", each.snn))
        if side == "SNN" or value is not None
    ]


def metric_name(result: MetricResult) -> str:
    """The name of a metric without parameters and folders."""
    code = ".py:" in result.metric
    metric = Path(result.metric).name if code else result.metric.partition(":")[0]
    return f"{result.name.replace('_', ' ')} ({metric})"


def _figure_text(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:.4g}"


def is_labelled(rows: Sequence[Row]) -> bool:
    return any(row.evaluation.ann.top1 is not None for row in rows)


def main_error(evaluation: Evaluation) -> float | None:
    """Relative error of the class output, or of the first output."""
    errors = {output.name: output.relative_error for output in evaluation.outputs}
    return errors.get(evaluation.class_output or "", next(iter(errors.values()), None))


def levels(evaluation: Evaluation, unit: str = "") -> str:
    """The number of levels of all sites, or their range and mean."""
    sites = evaluation.sites
    if not _has_own_levels(evaluation):
        return f"{evaluation.conversion.levels}{unit}"
    return levels_text([site.levels for site in sites], [site.neurons for site in sites], unit)


def _has_own_levels(evaluation: Evaluation) -> bool:
    return len({site.levels for site in evaluation.sites}) > 1


def settings(evaluation: Evaluation) -> str:
    found = evaluation.conversion
    code = f"{found.coding}, {levels(evaluation, ' levels')}"
    return f"T = {found.time_steps} ({code}), method {found.method}, {found.form_and_precision}"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def _times(value: float | None) -> str:
    return NONE if value is None or math.isnan(value) else f"{value:.3g} ×"


def count(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:,.0f}"


def joules(picojoules: float) -> str:
    if math.isnan(picojoules):
        return NONE
    for size, unit in ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
        if picojoules >= size:
            return f"{picojoules / size:.3g} {unit}"
    return f"{picojoules:.3g} pJ"


def _time(timing: Timing) -> str:
    return f"{timing.median:.2f} ms ({timing.lowest:.2f} … {timing.highest:.2f})"
