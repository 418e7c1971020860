"""Evaluations and sweeps as self-contained HTML pages."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields
from typing import Any

from graphpass.errors import OptionError
from graphpass.evaluation.results import Evaluation
from graphpass.maths.metrics import ENERGY_AC, ENERGY_MAC
from graphpass.report import html
from graphpass.report.cells import (
    NONE,
    OPERATION_NAMES,
    count,
    headline,
    is_labelled,
    joules,
    lines,
    main_error,
    metric_name,
    percent,
    settings,
)
from graphpass.report.pictures.network import network
from graphpass.report.pictures.pareto import pareto
from graphpass.report.pictures.picture import COLOURS, Picture
from graphpass.report.pictures.raster import raster
from graphpass.sweeps import Row

PROVENANCE = {"ann": "network", "ann_sha256": "network sha256", "snn_sha256": "spiking network sha256"}
ENERGY_NOTE = (
    f"Energy is {ENERGY_MAC} pJ a MAC and {ENERGY_AC} pJ an AC (45 nm, 32-bit float; Horowitz, ISSCC 2014). "
    "Memory traffic is not included."
)


def evaluation_report(evaluation: Evaluation) -> str:
    """The report of one conversion, an HTML page."""
    name = evaluation.provenance.ann
    parts = [
        f"<h1>{html.escape(name)} as a spiking network</h1>",
        f"<p>{evaluation.samples:,} samples, {html.escape(settings(evaluation))}.</p>",
        html.table(*headline(evaluation)),
        *_details(evaluation),
    ]
    return html.page(name, parts)


def sweep_report(rows: Sequence[Row]) -> str:
    """The report of a sweep, an HTML page. Raises OptionError when there are no rows."""
    if not rows:
        raise OptionError("a sweep without conversions has no report", "give at least one T, coding and method")
    best = min(rows, key=_badness)
    name = best.evaluation.provenance.ann
    parts = [
        f"<h1>{html.escape(name)} as a spiking network: a sweep</h1>",
        f"<p>{len(rows)} conversions, {best.evaluation.samples:,} samples each.</p>",
        _over_steps(rows),
        *(each.section() for each in sweep_pictures(rows)),
        html.table(*lines(rows), text_columns=(1, 3)),
        f"<h1>The closest one: {html.escape(settings(best.evaluation))}</h1>",
        html.table(*headline(best.evaluation)),
        *_details(best.evaluation),
    ]
    return html.page(name, parts)


def _badness(row: Row) -> tuple[float, int]:
    top1, error = row.evaluation.snn.top1, main_error(row.evaluation)
    return (-top1 if top1 is not None else float("inf") if error is None else error), row.time_steps


def _details(evaluation: Evaluation) -> list[str]:
    left, notes = evaluation.conversion.left, evaluation.notes
    parts = [f"<p class=note>{html.escape(note)}.</p>" for note in notes]
    parts += ["<h2>Sites</h2>", _sites(evaluation), *(each.section() for each in pictures_of(evaluation))]
    parts += ["<h2>Operations and energy</h2>", _operations(evaluation)]
    parts.append("<h2>Not converted</h2>")
    if left:
        rows = [(each.node, each.op, each.reason, "yes" if each.expected else "NO") for each in left]
        parts.append(html.table(("node", "operator", "because", "as it should be"), rows, text_columns=range(4)))
    else:
        parts.append("<p>All nodes that could become spiking are spiking.</p>")
    parts += ["<h2>Outputs</h2>", _outputs(evaluation), "<h2>Provenance</h2>"]
    facts = [
        (PROVENANCE.get(each.name, each.name.replace("_", " ")), value or NONE)
        for each, value in zip(fields(evaluation.provenance), astuple(evaluation.provenance), strict=True)
    ]
    facts.insert(0, ("samples", f"{evaluation.samples:,}"))
    parts.append(html.table(("", ""), facts, text_columns=(1,)))
    return parts


def pictures_of(evaluation: Evaluation) -> list[Picture]:
    """The network as a graph, and the spikes of a sample."""
    drawn, title = evaluation.drawn, f"The spiking network of {html.short(evaluation.provenance.ann)}"
    pictures = [
        network(drawn.outline, evaluation.sites, title) if drawn else None,
        raster(drawn.spikes) if drawn and drawn.spikes else None,
    ]
    return [each for each in pictures if each is not None]


def sweep_pictures(rows: Sequence[Row]) -> list[Picture]:
    """Accuracy against energy, where both were measured."""
    try:
        return [pareto([row.to_json() for row in rows])]
    except OptionError:
        return []


def _sites(evaluation: Evaluation) -> str:
    sites = evaluation.sites
    names = [site.name for site in sites]
    bars = [("error", "x", [site.error for site in sites]), ("firing rate", "x2", [site.firing_rate for site in sites])]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "x": [None if value is None else 100 * value for value in values],
            "y": list(range(len(sites))),
            "xaxis": axis,
            "marker": {"color": COLOURS[number]},
            "hovertext": [html.escape(name) for name in names],
            "hovertemplate": "%{hovertext}<br>%{x:.3g} %<extra></extra>",
        }
        for number, (title, axis, values) in enumerate(bars)
    ]
    layout = {
        "height": 90 + 24 * len(sites),
        "showlegend": False,
        "margin": {"l": 230, "r": 10, "t": 10, "b": 50},
        "xaxis": {"title": {"text": "error (% of the variance)"}, "domain": [0, 0.48], "rangemode": "tozero"},
        "xaxis2": {"title": {"text": "firing rate (%)"}, "domain": [0.52, 1], "rangemode": "tozero"},
        "yaxis": {
            "autorange": "reversed",
            "ticksuffix": "  ",
            "tickvals": list(range(len(sites))),
            "ticktext": [html.escape(html.short(name)) for name in names],
        },
    }
    rows = [
        (
            *(each.name, each.kind, count(each.neurons), str(each.levels)),
            *(percent(each.error), percent(each.firing_rate), percent(each.sparsity)),
        )
        for each in sites
    ]
    header = ("site", "activation", "neurons", "levels", "error", "firing rate", "sparsity")
    table = html.table(header, rows, text_columns=(1,))
    return html.figure("Error and firing rate of each site", traces, layout) + html.folded("As a table", table)


def _operations(evaluation: Evaluation) -> str:
    found, sides = evaluation.operations, ("ANN", "SNN")
    both = (found.ann, found.snn)
    parts = zip(("MACs", "ACs"), OPERATION_NAMES, (ENERGY_MAC, ENERGY_AC), strict=True)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "y": sides,
            "x": [_nanojoules(getattr(each, name) * cost) for each in both],
            "marker": {"color": COLOURS[number]},
            "hovertemplate": "%{y}, " + title + ": %{x:,.1f} nJ<extra></extra>",
        }
        for number, (title, name, cost) in enumerate(parts)
    ]
    layout = {
        "height": 190,
        "barmode": "stack",
        "margin": {"l": 60, "r": 10, "t": 10, "b": 50},
        "xaxis": {"title": {"text": "energy a sample (nJ)"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "ticksuffix": "  ", "type": "category"},
    }
    energies = (evaluation.energy_ann, evaluation.energy_snn)
    rows = [
        (side, count(each.effective_macs), count(each.effective_acs), count(each.dense), joules(energy))
        for side, each, energy in zip(sides, both, energies, strict=True)
    ]
    table = html.table(("a sample", "MACs", "ACs", "if dense", "energy"), rows)
    layers = [(each.name, each.op, each.input, count(each.effective), count(each.dense)) for each in found.layers]
    header = ("layer of the SNN", "operator", "input", "operations", "if dense")
    note = f"<p>Counted on {found.samples:,} samples. {ENERGY_NOTE}</p>"
    if found.uncounted:
        note += f"<p class=note>Not counted: {html.escape(', '.join(found.uncounted))}.</p>"
    figure = html.figure("Energy of ANN and SNN", traces, layout)
    return figure + table + note + html.folded("Layer by layer", html.table(header, layers, text_columns=(1, 2)))


def _outputs(evaluation: Evaluation) -> str:
    rows = [
        (each.name, percent(each.relative_error), percent(each.cosine_similarity), percent(each.equal))
        for each in evaluation.outputs
    ]
    return html.table(("output", "relative error", "cosine similarity", "equal values"), rows)


def _over_steps(rows: Sequence[Row]) -> str:
    """Figure over T, a line for each method and coding; ANN dashed, baseline dotted."""
    title, unit, values_of = _drawn(rows)
    steps = sorted({row.time_steps for row in rows})
    traces = []
    for number, (method, coding) in enumerate(dict.fromkeys((row.method, row.coding) for row in rows)):
        line = sorted((row for row in rows if (row.method, row.coding) == (method, coding)), key=lambda r: r.time_steps)
        values = [values_of(row.evaluation)[1] for row in line]
        colour = COLOURS[number % len(COLOURS)]
        traces.append(_trace(f"{method}, {coding}", [row.time_steps for row in line], values, {"color": colour}, unit))
    for coding in dict.fromkeys(row.coding for row in rows):
        by_steps = {row.time_steps: values_of(row.evaluation)[2] for row in rows if row.coding == coding}
        values = [by_steps[t] for t in sorted(by_steps)]
        dotted = {"color": "#8a8a8a", "dash": "dot" if coding == "rate" else "dashdot"}
        traces.append(_trace(f"quantised ANN, {coding} levels", sorted(by_steps), values, dotted, unit))
    ann = values_of(rows[0].evaluation)[0]
    if ann is not None:
        traces.append(_trace("ANN", steps, [ann] * len(steps), {"color": "#8a8a8a", "dash": "dash"}, unit))
    layout = {
        "height": 440,
        "margin": {"l": 60, "r": 10, "t": 10, "b": 50},
        "legend": {"orientation": "h", "y": -0.26},
        "xaxis": {"title": {"text": "time-steps T"}, "type": "log", "tickvals": steps, "ticktext": [*map(str, steps)]},
        "yaxis": {"title": {"text": html.escape(title)}},
    }
    return html.figure(f"{title} over time-steps", traces, layout)


Triple = tuple[float | None, float | None, float | None]  # of ANN, SNN, baseline


def _drawn(rows: Sequence[Row]) -> tuple[str, str, Callable[[Evaluation], Triple]]:
    """The figure to draw for a sweep (accuracy, else the first metric, else the error): title, unit and values."""
    if is_labelled(rows):
        return "top-1 accuracy (%)", " %", lambda e: (e.ann.top1, e.snn.top1, e.baseline.accuracy.top1)
    if rows[0].evaluation.metrics:
        first = rows[0].evaluation.metrics[0]
        return metric_name(first), "", lambda e: (e.metrics[0].ann, e.metrics[0].snn, e.metrics[0].baseline)
    return "relative error of the output (%)", " %", lambda e: (None, main_error(e), e.baseline.relative_error)


def _trace(
    name: str, steps: Sequence[int], values: Iterable[float | None], line: dict[str, str], unit: str
) -> dict[str, Any]:
    scale = 100 if unit else 1
    drawn = [None if value is None or not math.isfinite(value) else scale * value for value in values]
    mode = "lines" if "dash" in line else "lines+markers"
    hover = "T = %{x}: %{y:.4g}" + unit
    found = {"type": "scatter", "mode": mode, "name": html.escape(name), "x": steps, "y": drawn}
    return {**found, "line": {"width": 2, **line}, "hovertemplate": hover}


def _nanojoules(picojoules: float) -> float | None:
    """The values of a figure; None where operations were not counted."""
    return None if math.isnan(picojoules) else picojoules / 1e3
