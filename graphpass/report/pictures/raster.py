"""The raster of one sample: spikes of some neurons of every site, and how many of all neurons spike at each step."""

from typing import Any

from graphpass.evaluation.drawn import SiteSpikes, SpikeRecord
from graphpass.report import html
from graphpass.report.pictures.picture import RATES, WIDTH, Picture, cut, scale
from graphpass.wording import counted

GAP = 2  # empty rows between sites
TALLEST, FLATTEST = 16.0, 2.2  # pixels of a row
HEIGHT = 700  # of all rows, where they can be as tall
LABELLED = 13  # pixels of a band that has room for its share as text
SCALE = 400  # pixels of the scale of colours, where there is room
ABOVE = {"xanchor": "center", "yanchor": "bottom", "showarrow": False}
MOST_STEPS = 10  # that have room for texts


def raster(record: SpikeRecord) -> Picture:
    """Bands of spikes, a row for each neuron; beside them the share of all neurons that spike."""
    bands: list[tuple[SiteSpikes, int, int]] = []  # first row, and the one behind the last
    rows: list[list[int | None]] = []
    for site in record.sites:
        first = len(rows)
        rows += [[int(spike) or None for spike in train] for train in record.trains(site)]
        bands.append((site, first, len(rows)))
        rows += [[None] * record.time_steps] * GAP
    rows = rows[:-GAP]
    steps = list(range(1, record.time_steps + 1))
    row = min(TALLEST, max(FLATTEST, HEIGHT / max(1, len(rows))))
    data = (_spikes(rows, steps, row), _rates(bands, steps, row))
    return Picture(
        f"Spikes of sample {record.sample}",
        _note(record),
        "; ".join(f"{html.short(site.name)}: {_percents(site)}" for site in record.sites[:30]),
        data,
        _layout(bands, len(rows), steps, row),
    )


def _spikes(rows: list[list[int | None]], steps: list[int], row: float) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "x": steps,
        "y": list(range(len(rows))),
        "z": rows,
        "colorscale": [[0, "--ink"], [1, "--ink"]],
        "showscale": False,
        "hoverinfo": "skip",
        "xgap": 3 if len(steps) <= 32 else 0,
        "ygap": row / 4,
    }


def _rates(bands: list[tuple[SiteSpikes, int, int]], steps: list[int], row: float) -> dict[str, Any]:
    edges, names = [-0.5], []
    values: list[list[float | None]] = []
    for site, first, end in bands:
        if first:
            edges.append(first - 0.5)
            values.append([None] * len(steps))
            names.append([""] * len(steps))
        edges.append(end - 0.5)
        values.append([round(100 * rate, 3) for rate in site.rates])
        names.append([cut(site.name)] * len(steps))
    found = {
        "type": "heatmap",
        "x": steps,
        "y": edges,
        "z": values,
        "xaxis": "x2",
        "text": names,
        "hovertemplate": "%{text}<br>step %{x}: %{z:.3g} % of the neurons spike<extra></extra>",
        "colorscale": scale(RATES),
        "zmin": 0,
        "zmax": max([rate for site, _, _ in bands for rate in site.rates], default=1) * 100 or 1,
        "colorbar": {
            "title": {"text": "neurons that spike (%)", "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
            "lenmode": "pixels",
            "len": min(SCALE, row * bands[-1][2]) if bands else SCALE,
            "y": 1,
            "yanchor": "top",
        },
        "xgap": 1 if len(steps) <= 32 else 0,
    }
    least = min([(end - first) * row for _, first, end in bands], default=0)
    if least >= LABELLED and len(steps) <= MOST_STEPS:
        found |= {"texttemplate": "%{z:.3~g}", "textfont": {"size": 11}}
    return found


def _layout(bands: list[tuple[SiteSpikes, int, int]], rows: int, steps: list[int], row: float) -> dict[str, Any]:
    longest = 34
    tick = {"dtick": max(1, -(-len(steps) // 16)), "tick0": 1, "showgrid": False, "zeroline": False, "ticks": "outside"}
    title = {"text": "time-step t"}
    return {
        "height": round(rows * row) + 90,
        "width": WIDTH,
        "showlegend": False,
        "margin": {"l": 20, "r": 10, "t": 34, "b": 52},
        "xaxis": {**tick, "title": title, "domain": [0, 0.56], "range": [0.5, len(steps) + 0.5]},
        "xaxis2": {**tick, "title": title, "domain": [0.6, 1], "range": [0.5, len(steps) + 0.5]},
        "yaxis": {
            "range": [rows - 0.5, -0.5],
            "tickvals": [(first + end - 1) / 2 for _, first, end in bands],
            "ticktext": [cut(site.name, longest) for site, _, _ in bands],
            "tickfont": {"size": 11},
            "ticksuffix": "  ",
            "showgrid": False,
            "zeroline": False,
        },
        "shapes": [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 0.56,
                "y0": y,
                "y1": y,
                "line": {"color": "--line", "width": 1},
            }
            for y in [first - (GAP + 1) / 2 for _, first, _ in bands[1:]]
        ],
        "annotations": [
            {"text": text, "xref": f"{axis} domain", "yref": "paper", "x": 0.5, "y": 1, **ABOVE}
            for text, axis in (("spikes of some neurons", "x"), ("neurons that spike (%)", "x2"))
        ],
    }


def _note(record: SpikeRecord) -> str:
    drawn = sorted({len(site.counts) for site in record.sites})
    sizes = sorted({site.neurons for site in record.sites})
    neurons = f"{_range(sizes)} {'neuron' if sizes == [1] else 'neurons'}"
    few = _range(drawn) if drawn != sizes else "all"
    return (
        f"Sample {record.sample} of {record.described}; T = {record.time_steps}, {record.coding} code. "
        f"Each row is a neuron: {few} of the {neurons} of each site, drawn at random. "
        "Percentages are of all neurons."
        + (
            f" The first {len(record.sites)} of {counted(record.all_sites, 'site')}."
            if len(record.sites) < record.all_sites
            else ""
        )
    )


def _range(numbers: list[int]) -> str:
    if not numbers:
        return "no"
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def _percents(site: SiteSpikes) -> str:
    return ", ".join(f"{100 * rate:.1f} %" for rate in site.rates)
