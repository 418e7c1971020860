"""Evaluations and sweeps as self-contained HTML pages."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields
from typing import Any

from graphpass.calibration.ranking import Ranking
from graphpass.errors import OptionError
from graphpass.evaluation.results import Evaluation
from graphpass.maths.energy import in_bits
from graphpass.maths.metrics import ENERGY_AC, ENERGY_MAC
from graphpass.options.table import OPTIONS
from graphpass.report import html
from graphpass.report.cells import (
    ENERGY_PARTS,
    NONE,
    count,
    energy_lines,
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
from graphpass.report.ranking import advice, caption, ranking_lines
from graphpass.report.trials import TEXT_COLUMNS, aim, conclusion, share_lines, trial_lines
from graphpass.searching.trials import Found
from graphpass.sweeps import Row
from graphpass.wording import counted

PROVENANCE = {"ann": "network", "ann_sha256": "network sha256", "snn_sha256": "spiking network sha256"}
RANKING_NOTE = (
    "Alone: the error of the outputs with neurons at that site only. This predicts best what is gained if the site "
    "stays analogue. Without it: with neurons at all other sites, whose weights were corrected for the spikes of all."
)
SHARES_NOTE = (
    "Each site causes an error of the outputs alone. The share is its part of the sum of these errors. It is measured "
    "on few samples, and if there are many sites, for groups of neighbours. Leave the first ones analogue, or rank "
    "them with graphpass inspect --calibration."
)
OPERATIONS_NOTE = (
    f"Energy of operations alone is {ENERGY_MAC} pJ a MAC and {ENERGY_AC} pJ an AC (45 nm, 32-bit float; Horowitz, "
    "ISSCC 2014), without memory traffic."
)
ENERGY_NOTE = (
    "Prices are of 45 nm (Lemaire et al., ICONIP 2022; Horowitz, ISSCC 2014). The quantised ANN is the same network, "
    "each count sent once as a number of that many bits (Yan et al., arXiv 2409.08290). State is the sums "
    "that spikes are added to. In hardware studies spiking networks break even with others at 0.15 to "
    "1.38 spikes per synapse and inference (Dampfhoffer et al., IEEE TETCI 2023)."
)


def evaluation_report(evaluation: Evaluation) -> str:
    """The report of one conversion, an HTML page."""
    name = evaluation.provenance.ann
    parts = [
        f"<h1>{html.escape(name)} as a spiking network</h1>",
        f"<p>{counted(evaluation.samples, 'sample')}, {html.escape(settings(evaluation))}.</p>",
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
        f"<p>{counted(len(rows), 'conversion')}, {counted(best.evaluation.samples, 'sample')} each.</p>",
        _over_steps(rows),
        *(each.section() for each in sweep_pictures(rows)),
        html.table(*lines(rows), text_columns=(1, 3)),
        f"<h1>The closest one: {html.escape(settings(best.evaluation))}</h1>",
        html.table(*headline(best.evaluation)),
        *_details(best.evaluation),
    ]
    return html.page(name, parts)


def search_report(found: Found) -> str:
    """The report of a search, an HTML page. Where no network is good enough, with the sites that stand in the way."""
    evaluation = found.evaluation
    if evaluation is None:
        parts = [
            "<h1>A search that found no network</h1>",
            f"<p>Aim: {html.escape(aim(found))}. {html.escape(conclusion(found))}.</p>",
            html.table(*trial_lines(found.trials), text_columns=TEXT_COLUMNS),
            "<h1>Which sites cost the accuracy</h1>",
            f"<p>{SHARES_NOTE}</p>",
            html.table(*share_lines(found)),
        ]
        return html.page("A search", parts)
    parts = [
        f"<h1>{html.escape(evaluation.provenance.ann)} as a spiking network: a search</h1>",
        f"<p>Aim: {html.escape(aim(found))}. {html.escape(conclusion(found))}.</p>",
        html.table(*trial_lines(found.trials, found.chosen), text_columns=TEXT_COLUMNS),
        "<h1>The network that was chosen</h1>",
        html.table(*headline(evaluation)),
        *_details(evaluation),
    ]
    return html.page(evaluation.provenance.ann, parts)


def ranking_report(name: str, ranking: Ranking) -> str:
    """The report of a ranking of sites, an HTML page. name: of the network."""
    parts = [
        f"<h1>Which sites of {html.escape(name)} cost the accuracy</h1>",
        f"<p>{html.escape(_sentence(caption(ranking)))}</p>",
        html.table(*ranking_lines(ranking), text_columns=(1,)),
        f"<p>{RANKING_NOTE}</p>",
        f"<p>{html.escape(_sentence(advice(ranking)))}</p>",
    ]
    return html.page(name, parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _badness(row: Row) -> tuple[float, int]:
    top1, error = row.evaluation.snn.top1, main_error(row.evaluation)
    return (-top1 if top1 is not None else float("inf") if error is None else error), row.time_steps


def _details(evaluation: Evaluation) -> list[str]:
    left, notes = evaluation.conversion.left, evaluation.notes
    parts = [f"<p class=note>{html.escape(note)}.</p>" for note in notes]
    parts += ["<h2>Sites</h2>", _sites(evaluation), *(each.section() for each in pictures_of(evaluation))]
    parts += ["<h2>Energy</h2>", _energy(evaluation), "<h2>Operations</h2>", _operations(evaluation)]
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
    found = evaluation.operations
    rows = [
        (side, count(each.effective_macs), count(each.effective_acs), count(each.dense), joules(energy))
        for side, each, energy in (
            ("ANN", found.ann, evaluation.energy_ann),
            ("SNN", found.snn, evaluation.energy_snn),
        )
    ]
    table = html.table(("a sample", "MACs", "ACs", "if dense", "energy of these alone"), rows)
    layers = [(each.name, each.op, each.input, count(each.effective), count(each.dense)) for each in found.layers]
    header = ("layer of the SNN", "operator", "input", "operations", "if dense")
    note = f"<p>Counted on {counted(found.samples, 'sample')}. {OPERATIONS_NOTE}</p>"
    if found.uncounted:
        note += f"<p class=note>Not counted: {html.escape(', '.join(found.uncounted))}.</p>"
    return table + note + html.folded("Layer by layer", html.table(header, layers, text_columns=(1, 2)))


def _energy(evaluation: Evaluation) -> str:
    """Figure and table of what energy is spent on, with memory traffic."""
    found = evaluation.energy
    sides = ("ANN", f"quantised, {in_bits(found.bits)}", "SNN")
    networks = (found.ann, found.quantised, found.snn)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "y": sides,
            "x": [_nanojoules(getattr(each, part)) for each in networks],
            "marker": {"color": COLOURS[number]},
            "hovertemplate": "%{y}, " + part + ": %{x:,.1f} nJ<extra></extra>",
        }
        for number, part in enumerate(ENERGY_PARTS)
    ]
    layout = {
        "height": 230,
        "barmode": "stack",
        "margin": {"l": 120, "r": 10, "t": 10, "b": 50},
        "xaxis": {"title": {"text": "energy a sample (nJ)"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "ticksuffix": "  ", "type": "category"},
    }
    figure = html.figure("What the energy of a sample is spent on", traces, layout)
    title, prices = OPTIONS["energy_model"].names[found.model]
    note = f"<p><strong>{html.escape(found.verdict)}.</strong> Model {found.model} ({title}): {prices}</p>"
    return figure + html.table(*energy_lines(evaluation)) + note + f"<p class=note>{ENERGY_NOTE}</p>"


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
