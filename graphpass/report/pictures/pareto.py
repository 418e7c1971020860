"""Accuracy against energy: the conversions of a sweep, and which of them are worth their energy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphpass.errors import DataError, OptionError
from graphpass.maths.pareto import front
from graphpass.report import html
from graphpass.report.pictures.picture import COLOURS, Picture

SYMBOLS = {"rate": "circle", "phase": "diamond"}
REMEDY = "give the JSON that `graphpass sweep --json` or `graphpass evaluate --json` wrote"
LEAST = 1e-9  # energy that has a logarithm
NEAR = 0.06  # of a decade of energy, or of the height: labels that are nearer would touch


@dataclass(frozen=True)
class Scored:
    """One conversion: its settings, its energy a sample as a share of the ANN's, and a figure of ANN and SNN."""

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
    found = [_evaluation(each, where) for each in documents]
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
        f"{len(drawn)} conversions, {_samples(found)}. The line joins those that no other conversion beats in both. "
        "Energy is of synaptic operations, as a share of the original network's."
        + (f" {left} without energy or accuracy are left out." if left else "")
    )
    names = "; ".join(f"{_name(e)}: {e.snn:.4g}{figure.unit} at {e.energy:.3g} × the energy" for e in best[:30])
    return Picture(
        f"{figure.name[:1].upper()}{figure.name[1:]} against energy", note, names, tuple(data), _layout(figure, drawn)
    )


def _evaluation(document: Any, where: str) -> Mapping[str, Any]:
    """The document of an evaluation, with the method of a row of a sweep."""
    try:
        found = document.get("evaluation", document)
        if found["format"] != "graphpass-evaluation":
            raise KeyError("format")
        energy_of(found), found["snn"]["top1"], found["ann"]["top1"], list(found["outputs"]), list(found["metrics"])
        return {
            **found,
            **{name: document.get(name, found[name]) for name in ("time_steps", "coding", "levels", "method")},
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: not the figures of a conversion ({type(error).__name__}: {error})", REMEDY
        ) from error


def energy_of(evaluation: Mapping[str, Any]) -> float | None:
    """The energy of the SNN as a share of the ANN's."""
    found = evaluation["energy_pj"]["ratio"]
    return None if found is None else float(found)


def _scored(found: Sequence[Mapping[str, Any]]) -> tuple[Figure, list[Scored]]:
    """Top-1 accuracy; without labels the first metric, else the error of the output."""
    if any(each["snn"]["top1"] is not None for each in found):
        figure, pairs = (
            Figure("top-1 accuracy", " %"),
            [(_percent(e["ann"]["top1"]), _percent(e["snn"]["top1"])) for e in found],
        )
    elif all(each["metrics"] for each in found):
        first = found[0]["metrics"][0]
        figure = Figure(str(first["name"]).replace("_", " "), "", first["name"] in FALLING)
        pairs = [(e["metrics"][0]["ann"], e["metrics"][0]["snn"]) for e in found]
    else:
        figure = Figure("relative error of the output", " %", falls=True)
        pairs = [(None, _percent(next((o["relative_error"] for o in e["outputs"]), None))) for e in found]
    names, scored = ("time_steps", "coding", "levels", "method"), []
    for each, (ann, snn) in zip(found, pairs, strict=True):
        energy, value = energy_of(each), _finite(snn)
        if energy is not None and value is not None:
            scored.append(Scored(**{name: each[name] for name in names}, energy=energy, snn=value, ann=_finite(ann)))
    return figure, scored


FALLING = frozenset({"perplexity", "kl", "mae", "rmse"})


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


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
            "title": {"text": "energy of synaptic operations a sample, SNN / ANN"},
            **(
                {"type": "log", "tickvals": TICKS, "ticktext": [f"{t:g}" for t in TICKS]}
                if spread
                else {"rangemode": "tozero"}
            ),
        },
        "yaxis": {"title": {"text": html.escape(title)}},
    }


TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]


def _samples(found: Sequence[Mapping[str, Any]]) -> str:
    counts = sorted({int(each["samples"]) for each in found})
    return f"{counts[0]:,} samples each" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} samples"
