"""Accuracy against energy: the conversions of a sweep, and which of them are worth their energy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphpass.errors import DataError, OptionError
from graphpass.maths.pareto import front
from graphpass.records import RecordError, record_of
from graphpass.report import html
from graphpass.report.pictures.picture import COLOURS, Picture
from graphpass.wording import counted

SYMBOLS = {"rate": "circle", "phase": "diamond"}
REMEDY = "give the JSON that `graphpass sweep --json` or `graphpass evaluate --json` wrote"
LEAST = 1e-9  # energy that has a logarithm
NEAR = 0.06  # of a decade of energy, or of the height: labels that are nearer would touch
TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
FALLING = frozenset(  # figures of metrics (docs/metrics.md) of which less is better
    "character_error_rate mean_absolute_error mean_squared_error difference_to_ann relative_l2 perplexity "
    "perplexity_ratio kl_to_ann".split()
)


@dataclass(frozen=True)
class MetricPair:
    """One figure of a metric, of ANN and SNN."""

    name: str
    ann: float | None
    snn: float | None


@dataclass(frozen=True)
class ConversionFigures:
    """What is drawn of one document. energy: of the SNN, as a share of the ANN's. error: of the first output."""

    time_steps: int
    coding: str
    levels: int
    method: str
    samples: int
    energy: float | None
    top1: MetricPair
    metrics: tuple[MetricPair, ...]
    error: float | None


@dataclass(frozen=True)
class Scored:
    """One conversion: its settings, its energy, and a figure of ANN and SNN."""

    time_steps: int
    coding: str
    levels: int
    method: str
    energy: float
    snn: float
    ann: float | None


@dataclass(frozen=True)
class Figure:
    """What stands on the vertical axis: its name, its unit, and whether less is better."""

    name: str
    unit: str
    falls: bool = False


def pareto(documents: Sequence[Any], where: str = "the sweep") -> Picture:
    """Points of all conversions, and the front of those that no other beats in both.

    documents: of docs/formats.md, evaluations or rows of sweeps. Raises DataError for other ones, OptionError where no
    energy was measured.
    """
    found = [_figures(each, where) for each in documents]
    figure, drawn = _scored(found)
    if not drawn:
        raise OptionError(
            f"{where}: no conversion has both an accuracy and an energy", "evaluate the folded or the unrolled form"
        )
    sign = -1 if figure.falls else 1
    best = [drawn[k] for k in front([each.energy for each in drawn], [sign * each.snn for each in drawn])]
    methods, data = list(dict.fromkeys(each.method for each in drawn)), []
    data.append(_front(best))
    for number, method in enumerate(methods):
        for coding in dict.fromkeys(each.coding for each in drawn if each.method == method):
            group = [each for each in drawn if (each.method, each.coding) == (method, coding)]
            data.append(_points(group, best, COLOURS[number % len(COLOURS)], figure))
    ann = next((each.ann for each in drawn if each.ann is not None), None)
    if ann is not None:
        data.append(_ann(ann, [*(each.energy for each in drawn), 1.0], figure))
    left = len(found) - len(drawn)
    note = (
        f"{counted(len(drawn), 'conversion')}, {_samples(found)}. The line joins those that no other conversion "
        "beats in both. Energy is of synaptic operations, as a share of the original network's."
        + (f" {left} without energy or accuracy are left out." if left else "")
    )
    names = "; ".join(f"{_name(e)}: {e.snn:.4g}{figure.unit} at {e.energy:.3g} × the energy" for e in best[:30])
    return Picture(
        f"{figure.name[:1].upper()}{figure.name[1:]} against energy", note, names, tuple(data), _layout(figure, drawn)
    )


def _figures(document: Any, where: str) -> ConversionFigures:
    """What is drawn of an evaluation, or of a row of a sweep."""
    try:
        found = document.get("evaluation", document)
        if found["format"] != "graphpass-evaluation":
            raise RecordError("another format")
        values = {name: document[name] for name in ("time_steps", "coding", "levels", "method")}
        values["samples"] = found["samples"]
        values["energy"] = energy_of(found)
        values["top1"] = {"name": "top1", "ann": found["ann"]["top1"], "snn": found["snn"]["top1"]}
        values["metrics"] = [{name: each[name] for name in ("name", "ann", "snn")} for each in found["metrics"]]
        values["error"] = next((each["relative_error"] for each in found["outputs"]), None)
        figures: ConversionFigures = record_of(ConversionFigures, values)
    except (AttributeError, KeyError, TypeError, RecordError) as error:
        reason = f" ({error})" if isinstance(error, RecordError) else ""  # of others it is a key, or Python's words
        raise DataError(f"{where}: not the figures of a conversion{reason}", REMEDY) from error
    return figures


def energy_of(evaluation: Mapping[str, Any]) -> Any:
    """The energy of the SNN as a share of the ANN's, with memory traffic, in the document of an evaluation."""
    return evaluation["energy"]["ratio"]


def _scored(found: Sequence[ConversionFigures]) -> tuple[Figure, list[Scored]]:
    """Top-1 accuracy; without labels the first metric, else the error of the output."""
    if any(each.top1.snn is not None for each in found):
        figure = Figure("top-1 accuracy", " %")
        pairs = [(_percent(each.top1.ann), _percent(each.top1.snn)) for each in found]
    elif found and all(each.metrics for each in found):
        name = found[0].metrics[0].name
        figure = Figure(name.replace("_", " "), "", name in FALLING)
        pairs = [(each.metrics[0].ann, each.metrics[0].snn) for each in found]
    else:
        figure = Figure("relative error of the output", " %", falls=True)
        pairs = [(None, _percent(each.error)) for each in found]
    scored = [
        Scored(each.time_steps, each.coding, each.levels, each.method, each.energy, snn, ann)
        for each, (ann, snn) in zip(found, pairs, strict=True)
        if each.energy is not None and snn is not None
    ]
    return figure, scored


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _name(each: Scored) -> str:
    return f"T = {each.time_steps}, {each.coding}, {each.levels} levels, {each.method}"


def _front(best: Sequence[Scored]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [each.energy for each in best],
        "y": [each.snn for each in best],
        "line": {"color": "--soft", "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }


def _points(group: Sequence[Scored], best: Sequence[Scored], colour: str, figure: Figure) -> dict[str, Any]:
    kept, labelled = [each in best for each in group], _apart(best)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": html.escape(f"{group[0].method}, {group[0].coding} code"),
        "x": [each.energy for each in group],
        "y": [each.snn for each in group],
        "text": [f"T = {each.time_steps}" if each in labelled else "" for each in group],
        "textposition": "bottom left" if figure.falls else "top left",  # nothing better lies there
        "textfont": {"size": 12},
        "hovertext": [html.escape(_name(each)) for each in group],
        "hovertemplate": "%{hovertext}<br>%{y:.4g}" + figure.unit + " at %{x:.3g} × the energy<extra></extra>",
        "marker": {
            "color": colour,
            "size": [12 if one else 8 for one in kept],
            "opacity": [1.0 if one else 0.65 for one in kept],
            "symbol": SYMBOLS.get(group[0].coding, "square"),
            "line": {"width": [1.5 if one else 0 for one in kept], "color": "--ink"},
        },
    }


def _apart(best: Sequence[Scored]) -> list[Scored]:
    """Those of the front whose labels do not touch: each is far enough from the one before in one direction."""
    found: list[Scored] = []
    heights = [each.snn for each in best]
    tall = max(heights) - min(heights) or 1.0
    for each in best:
        before = found[-1] if found else None
        if before is None or (
            math.log10(max(each.energy, LEAST) / max(before.energy, LEAST)) > NEAR
            or abs(each.snn - before.snn) > NEAR * tall
        ):
            found.append(each)
    return found


def _ann(value: float, energies: Sequence[float], figure: Figure) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "original network (ANN)",
        "x": [min(energies) / 1.3, max(energies) * 1.3],
        "y": [value, value],
        "line": {"color": "--soft", "dash": "dash", "width": 1.5},
        "hovertemplate": "ANN: %{y:.4g}" + figure.unit + "<extra></extra>",
    }


def _layout(figure: Figure, drawn: Sequence[Scored]) -> dict[str, Any]:
    energies = [each.energy for each in drawn]
    spread = min(energies) > 0 and max(energies) / min(energies) > 4
    title = f"{figure.name} ({figure.unit.strip()})" if figure.unit else figure.name
    return {
        "height": 460,
        "margin": {"l": 60, "r": 20, "t": 16, "b": 56},
        "legend": {"orientation": "h", "y": -0.2},
        "xaxis": {
            "title": {"text": "energy of a sample with memory traffic, SNN / ANN"},
            **(
                {"type": "log", "tickvals": TICKS, "ticktext": [f"{t:g}" for t in TICKS]}
                if spread
                else {"rangemode": "tozero"}
            ),
        },
        "yaxis": {"title": {"text": html.escape(title)}},
    }


def _samples(found: Sequence[ConversionFigures]) -> str:
    counts = sorted({each.samples for each in found})
    return (
        f"{counted(counts[0], 'sample')} each"
        if len(counts) == 1
        else f"{counts[0]:,} to {counted(counts[-1], 'sample')}"
    )
