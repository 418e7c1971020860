"""Evaluations for people: tables for the terminal, one self-contained HTML file, and JSON.

The HTML needs nothing from outside: plotly's script is part of it, and its content security policy forbids fetching
anything. Names come from files that may be hostile; they are escaped as HTML, and figures are JSON without <, > and &.
"""

import html
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs
from rich.table import Table
from rich.text import Text

from graphpass.errors import OptionError
from graphpass.evaluation import Evaluation, MetricResult, Timing, ratio
from graphpass.maths.metrics import ENERGY_AC, ENERGY_MAC
from graphpass.sweep import Row

NONE = "–"
PROVENANCE = {"ann": "network", "ann_sha256": "network sha256", "snn_sha256": "spiking network sha256"}
COLOURS = ("#3987e5", "#d95926", "#199e70", "#c98500", "#9085e9", "#d55181", "#5f9e1f", "#8a8a8a")  # on white and black
LONGEST_LABEL = 32
OPERATION_NAMES = ("effective_macs", "effective_acs")
ENERGY_NOTE = (
    f"Energy is {ENERGY_MAC} pJ a MAC and {ENERGY_AC} pJ an AC (45 nm, 32-bit float; Horowitz, ISSCC 2014). "
    "Memory traffic is not included."
)

Cells = Sequence[str]


def write_json(document: Any, path: str | Path) -> None:
    """Write a JSON document. Raises OptionError where that is not possible."""
    _write(json.dumps(document, indent=1, allow_nan=False) + "\n", Path(path))


def write_report(page: str, path: str | Path) -> None:
    """Write a report. Raises OptionError where that is not possible."""
    _write(page, Path(path))


def _write(text: str, path: Path) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{path}: cannot be written ({error.strerror})", "choose another place") from error


def summary_table(evaluation: Evaluation) -> Table:
    """ANN, SNN and baseline side by side, for the terminal."""
    header, rows = _headline(evaluation)
    return _rich(header, rows, f"{evaluation.samples:,} samples, {_settings(evaluation)}")


def sweep_table(rows: Sequence[Row]) -> Table:
    """A line for each conversion, for the terminal."""
    header, cells = _lines(rows)
    samples = f"{rows[0].evaluation.samples:,} samples" if rows else "nothing converted"
    return _rich(header, cells, samples)


def _rich(header: Cells, rows: Iterable[Cells], title: str) -> Table:
    table = Table(title=Text(title))
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _headline(evaluation: Evaluation) -> tuple[Cells, list[Cells]]:
    ann, snn, baseline = evaluation.ann, evaluation.snn, evaluation.baseline
    operations, latency = evaluation.operations, evaluation.latency
    rows: list[Cells] = []
    for label, name in (("top-1 accuracy", "top1"), ("top-5 accuracy", "top5")):
        values = [getattr(each, name) for each in (ann, snn, baseline.accuracy)]
        if values[0] is not None:
            rows.append((label, *(_percent(value) for value in values)))
    if evaluation.agreement is not None:
        rows.append(("same class as the ANN", NONE, _percent(evaluation.agreement), _percent(baseline.agreement)))
    for each in evaluation.metrics:
        rows.append((_metric_name(each), *(_figure_text(v) for v in (each.ann, each.snn, each.baseline))))
    macs, acs = ([getattr(each, name) for each in (operations.ann, operations.snn)] for name in OPERATION_NAMES)
    energy = ratio(evaluation.energy_snn, evaluation.energy_ann)
    rows += [
        ("relative error of the output", NONE, _percent(_main_error(evaluation)), _percent(baseline.relative_error)),
        ("levels", NONE, str(evaluation.conversion.levels), str(baseline.levels)),
        ("firing rate", NONE, _percent(evaluation.firing_rate), NONE),
        ("MACs a sample", *(_count(value) for value in macs), NONE),
        ("ACs a sample", *(_count(value) for value in acs), NONE),
        ("energy a sample", _energy(evaluation.energy_ann), _energy(evaluation.energy_snn), NONE),
        ("energy, SNN / ANN", NONE, _times(energy), NONE),
        (f"latency, batch {latency.batch}", _time(latency.ann), _time(latency.snn), NONE),
    ]
    return ("", "ANN", "SNN", "quantised ANN"), rows


def _lines(rows: Sequence[Row]) -> tuple[Cells, list[Cells]]:
    labelled = _labelled(rows)
    measured = (
        ("ANN top-1", "SNN top-1", "points lost", "quantised top-1", "agreement")
        if labelled
        else ("error", "quantised error", "agreement")
    )
    figures = [f"{side} {_metric_name(each)}" for each, side, _ in _sides(rows[0].evaluation)] if rows else []
    header = ("T", "coding", "levels", "method", *measured, *figures, "firing rate", "energy ratio")
    return header, [_line(row, labelled) for row in rows]


def _line(row: Row, labelled: bool) -> Cells:
    found = row.evaluation
    ann, snn, baseline = found.ann.top1, found.snn.top1, found.baseline
    measured = [_percent(_main_error(found)), _percent(baseline.relative_error)]
    if labelled:
        lost = NONE if ann is None or snn is None else f"{100 * (ann - snn):.2f}"
        measured = [_percent(ann), _percent(snn), lost, _percent(baseline.accuracy.top1)]
    energy = ratio(found.energy_snn, found.energy_ann)
    settings = (str(row.time_steps), row.coding, str(row.levels), row.method)
    figures = [_figure_text(value) for _, _, value in _sides(found)]
    rates = (_percent(found.firing_rate), _times(energy))
    return (*settings, *measured, _percent(found.agreement), *figures, *rates)


def _sides(evaluation: Evaluation) -> list[tuple[MetricResult, str, float | None]]:
    """The figures that a line of a sweep shows: the SNN's, and the ANN's where it has one."""
    return [
        (each, side, value)
        for each in evaluation.metrics
        for side, value in (("ANN", each.ann), ("SNN", each.snn))
        if side == "SNN" or value is not None
    ]


def _metric_name(result: MetricResult) -> str:
    """Without parameters and folders."""
    code = ".py:" in result.metric
    metric = Path(result.metric).name if code else result.metric.partition(":")[0]
    return f"{result.name.replace('_', ' ')} ({metric})"


def _figure_text(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:.4g}"


def _labelled(rows: Sequence[Row]) -> bool:
    return any(row.evaluation.ann.top1 is not None for row in rows)


def _main_error(evaluation: Evaluation) -> float | None:
    """Relative error of the class output, or of the first output."""
    errors = {output.name: output.relative_error for output in evaluation.outputs}
    return errors.get(evaluation.class_output or "", next(iter(errors.values()), None))


def _settings(evaluation: Evaluation) -> str:
    found = evaluation.conversion
    return f"T = {found.time_steps} ({found.coding}, {found.levels} levels), method {found.method}, {found.form} form"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def _times(value: float | None) -> str:
    return NONE if value is None or math.isnan(value) else f"{value:.3g} ×"


def _count(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:,.0f}"


def _energy(picojoules: float) -> str:
    if math.isnan(picojoules):
        return NONE
    for size, unit in ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
        if picojoules >= size:
            return f"{picojoules / size:.3g} {unit}"
    return f"{picojoules:.3g} pJ"


def _nanojoules(picojoules: float) -> float | None:
    """What a figure draws; nothing where operations were not counted."""
    return None if math.isnan(picojoules) else picojoules / 1e3


def _time(timing: Timing) -> str:
    return f"{timing.median:.2f} ms ({timing.lowest:.2f} … {timing.highest:.2f})"


def evaluation_report(evaluation: Evaluation) -> str:
    """The report of one conversion, an HTML page."""
    name = evaluation.provenance.ann
    parts = [
        f"<h1>{_escape(name)} as a spiking network</h1>",
        f"<p>{evaluation.samples:,} samples, {_escape(_settings(evaluation))}.</p>",
        _table(*_headline(evaluation)),
        *_details(evaluation),
    ]
    return _page(name, parts)


def sweep_report(rows: Sequence[Row]) -> str:
    """The report of a sweep, an HTML page. Raises OptionError when there are no rows."""
    if not rows:
        raise OptionError("a sweep without conversions has no report", "give at least one T, coding and method")
    best = min(rows, key=_badness)
    name = best.evaluation.provenance.ann
    parts = [
        f"<h1>{_escape(name)} as a spiking network: a sweep</h1>",
        f"<p>{len(rows)} conversions, {best.evaluation.samples:,} samples each.</p>",
        _over_steps(rows),
        _table(*_lines(rows), text_columns=(1, 3)),
        f"<h1>The closest one: {_escape(_settings(best.evaluation))}</h1>",
        _table(*_headline(best.evaluation)),
        *_details(best.evaluation),
    ]
    return _page(name, parts)


def _badness(row: Row) -> tuple[float, int]:
    top1, error = row.evaluation.snn.top1, _main_error(row.evaluation)
    return (-top1 if top1 is not None else float("inf") if error is None else error), row.time_steps


def _details(evaluation: Evaluation) -> list[str]:
    left, notes = evaluation.conversion.left, evaluation.notes
    parts = [f"<p class=note>{_escape(note)}.</p>" for note in notes]
    parts += ["<h2>Sites</h2>", _sites(evaluation), "<h2>Operations and energy</h2>", _operations(evaluation)]
    parts.append("<h2>Not converted</h2>")
    if left:
        rows = [(each.node, each.op, each.reason, "yes" if each.expected else "NO") for each in left]
        parts.append(_table(("node", "operator", "because", "as it should be"), rows, text_columns=range(4)))
    else:
        parts.append("<p>Everything that could spike does.</p>")
    parts += ["<h2>Outputs</h2>", _outputs(evaluation), "<h2>Provenance</h2>"]
    facts = [
        (PROVENANCE.get(each.name, each.name.replace("_", " ")), value or NONE)
        for each, value in zip(fields(evaluation.provenance), astuple(evaluation.provenance), strict=True)
    ]
    facts.insert(0, ("samples", f"{evaluation.samples:,}"))
    parts.append(_table(("", ""), facts, text_columns=(1,)))
    return parts


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
            "hovertext": [_escape(name) for name in names],
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
            "ticktext": [_escape(_short(name)) for name in names],
        },
    }
    rows = [
        (
            *(each.name, each.kind, _count(each.neurons), str(each.levels)),
            *(_percent(each.error), _percent(each.firing_rate), _percent(each.sparsity)),
        )
        for each in sites
    ]
    header = ("site", "activation", "neurons", "levels", "error", "firing rate", "sparsity")
    table = _table(header, rows, text_columns=(1,))
    return _figure("Error and firing rate of each site", traces, layout) + _folded("As a table", table)


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
        (side, _count(each.effective_macs), _count(each.effective_acs), _count(each.dense), _energy(energy))
        for side, each, energy in zip(sides, both, energies, strict=True)
    ]
    table = _table(("a sample", "MACs", "ACs", "if dense", "energy"), rows)
    layers = [(each.name, each.op, each.input, _count(each.effective), _count(each.dense)) for each in found.layers]
    header = ("layer of the SNN", "operator", "input", "operations", "if dense")
    note = f"<p>Counted on {found.samples:,} samples. {ENERGY_NOTE}</p>"
    if found.uncounted:
        note += f"<p class=note>Not counted: {_escape(', '.join(found.uncounted))}.</p>"
    figure = _figure("Energy of ANN and SNN", traces, layout)
    return figure + table + note + _folded("Layer by layer", _table(header, layers, text_columns=(1, 2)))


def _outputs(evaluation: Evaluation) -> str:
    rows = [
        (each.name, _percent(each.relative_error), _percent(each.cosine_similarity), _percent(each.equal))
        for each in evaluation.outputs
    ]
    return _table(("output", "relative error", "cosine similarity", "equal values"), rows)


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
        "yaxis": {"title": {"text": _escape(title)}},
    }
    return _figure(f"{title} over time-steps", traces, layout)


Triple = tuple[float | None, float | None, float | None]  # of ANN, SNN, baseline


def _drawn(rows: Sequence[Row]) -> tuple[str, str, Callable[[Evaluation], Triple]]:
    """What a sweep draws: its title, its unit, and the values: accuracy, else the first metric, else the error."""
    if _labelled(rows):
        return "top-1 accuracy (%)", " %", lambda e: (e.ann.top1, e.snn.top1, e.baseline.accuracy.top1)
    if rows[0].evaluation.metrics:
        first = rows[0].evaluation.metrics[0]
        return _metric_name(first), "", lambda e: (e.metrics[0].ann, e.metrics[0].snn, e.metrics[0].baseline)
    return "relative error of the output (%)", " %", lambda e: (None, _main_error(e), e.baseline.relative_error)


def _trace(
    name: str, steps: Sequence[int], values: Iterable[float | None], line: dict[str, str], unit: str
) -> dict[str, Any]:
    scale = 100 if unit else 1
    drawn = [None if value is None or not math.isfinite(value) else scale * value for value in values]
    mode = "lines" if "dash" in line else "lines+markers"
    hover = "T = %{x}: %{y:.4g}" + unit
    found = {"type": "scatter", "mode": mode, "name": _escape(name), "x": steps, "y": drawn}
    return {**found, "line": {"width": 2, **line}, "hovertemplate": hover}


def _escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else "…" + name[1 - LONGEST_LABEL :]


def _table(header: Cells, rows: Iterable[Cells], text_columns: Iterable[int] = ()) -> str:
    """An HTML table; columns are of numbers except the first and text_columns."""
    left = {0, *text_columns}

    def line(cells: Cells, tag: str) -> str:
        marked = (f"<{tag}{'' if n in left else ' class=number'}>{_escape(c)}</{tag}>" for n, c in enumerate(cells))
        return f"<tr>{''.join(marked)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<div class=wide><table>{head}<tbody>{body}</tbody></table></div>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{_escape(title)}</summary>{content}</details>"


def _figure(label: str, traces: Sequence[Any], layout: dict[str, Any]) -> str:
    text = json.dumps({"data": traces, "layout": layout}, allow_nan=False)
    for sign in "<>&":  # so that no name can end the script
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return (
        f'<div class=figure role=img aria-label="{_escape(label)}"><script type=application/json>{text}</script></div>'
    )


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{_escape(title)} – graphpass</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(parts)}</main><script>{get_plotlyjs()}</script><script>{DRAW}</script></body></html>\n"
    )


POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

STYLE = """
:root { color-scheme: light dark; --ink: #1d1f23; --soft: #5c6068; --line: #d9dce1; --ground: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a0a5ad; --line: #3a3e45; --ground: #17191c; } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 14px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.4rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 6.5rem; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; white-space: nowrap; overflow-wrap: normal; min-width: 0; }
.note { border-left: 3px solid #c98500; padding-left: .6rem; }
summary { cursor: pointer; color: var(--soft); }
"""

DRAW = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const figures = [...document.querySelectorAll(".figure")].map(place => {
  const script = place.querySelector("script"), figure = JSON.parse(script.textContent);
  script.remove();
  return [place, figure];
});
function draw() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
  const ground = style.getPropertyValue("--ground").trim();
  for (const [place, {data, layout}] of figures) {
    const themed = {...layout, font: {color: ink, family: "system-ui, sans-serif", size: 13},
      paper_bgcolor: ground, plot_bgcolor: ground, hoverlabel: {bgcolor: ground, font: {color: ink}}};
    for (const name of ["xaxis", "xaxis2", "yaxis"])
      if (layout[name]) themed[name] = {gridcolor: line, zerolinecolor: line, automargin: true, ...layout[name]};
    Plotly.react(place, data, themed, {displaylogo: false, responsive: true, displayModeBar: false});
  }
}
draw();
dark.addEventListener("change", draw);
"""
