"""What reaches the neurons of a site, with their thresholds in it, and how many spikes come of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.evaluation.spikes import ChannelCurrents, SiteCurrents
from graphpass.report.pictures.picture import BLUE, GREEN, ORANGE, WIDTH, Picture
from graphpass.wording import counted

BINS = 120
TAIL = 0.001  # of the values on either side may lie outside the picture
TALL = 0.86  # of a row that the highest bin takes
FEW_LEVELS = 17  # whose thresholds have room for their numbers

Floats = NDArray[np.float32]


def thresholds(found: SiteCurrents) -> Picture:
    """A histogram of x for each channel, with a line for each threshold; beside them the shares of counts."""
    drawn = found.drawn
    low, high = _ends(drawn)
    data: list[dict[str, Any]] = []
    for row, each in enumerate(drawn):
        data.append(_histogram(each, len(drawn) - 1 - row, low, high))
    for name, side, colour, dash in (
        ("one count more from here up", "rising", ORANGE, "solid"),
        ("one count more below here", "falling", GREEN, "dot"),
    ):
        lines = [
            (value, len(drawn) - 1 - row) for row, each in enumerate(drawn) for value in _inside(each, side, low, high)
        ]
        if lines:
            data.append(_lines(name, lines, colour, dash))
    data.append(_shares(found.shares))
    return Picture(
        f"Thresholds of {found.site}",
        _note(found),
        "Shares of neurons by their count: "
        + ", ".join(f"{n} spikes {100 * share:.1f} %" for n, share in enumerate(found.shares[:33])),
        tuple(data),
        _layout(found, low, high),
    )


def _ends(drawn: Sequence[ChannelCurrents]) -> tuple[float, float]:
    """Of x: all but TAIL of the values of every channel, and thresholds near to them."""
    values = [each.values for each in drawn if each.values.size]
    if not values:
        return -1.0, 1.0
    low = min(float(np.quantile(each, TAIL)) for each in values)
    high = max(float(np.quantile(each, 1 - TAIL)) for each in values)
    width = max(high - low, 1e-6)
    borders = np.concatenate([np.concatenate([each.rising, each.falling]) for each in drawn])
    near = borders[(borders > low - width / 2) & (borders < high + width / 2)]
    low, high = min([low, *map(float, near)]), max([high, *map(float, near)])
    return low - 0.02 * width, high + 0.02 * width


def _inside(each: ChannelCurrents, side: str, low: float, high: float) -> Floats:
    borders: Floats = getattr(each, side)
    return borders[(borders >= low) & (borders <= high)]


def _histogram(each: ChannelCurrents, base: int, low: float, high: float) -> dict[str, Any]:
    counts, edges = np.histogram(each.values, BINS, (low, high))
    shares = 100 * counts / max(1, each.values.size)
    top = max(float(shares.max(initial=0)), 1e-9)
    middles = (edges[:-1] + edges[1:]) / 2
    x = [low, *map(float, middles), high]
    heights = [0.0, *(float(v) for v in TALL * shares / top), 0.0]
    texts = ["", *(f"{share:.3g} %" for share in shares), ""]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "" if each.channel is None else f"channel {each.channel}",
        "x": [round(v, 6) for v in x],
        "y": [round(base + v, 4) for v in heights],
        "text": texts,
        "hovertemplate": "x = %{x:.3g}: %{text}<extra>%{fullData.name}</extra>",
        "fill": "toself",
        "fillcolor": "rgba(57, 135, 229, 0.35)",
        "line": {"color": BLUE, "width": 1.2, "shape": "hvh"},
        "showlegend": False,
    }


def _lines(name: str, lines: Sequence[tuple[float, int]], colour: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [part for x, _ in lines for part in (round(float(x), 6), round(float(x), 6), None)],
        "y": [part for _, base in lines for part in (base, base + TALL + 0.06, None)],
        "line": {"color": colour, "width": 1.6 if len(lines) < 200 else 0.7, "dash": dash},
        "hovertemplate": "threshold at x = %{x:.4g}<extra></extra>",
    }


def _shares(shares: Sequence[float]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": "neurons",
        "x": [100 * share for share in shares],
        "y": list(range(len(shares))),
        "xaxis": "x2",
        "yaxis": "y2",
        "marker": {"color": BLUE},
        "hovertemplate": "%{y} spikes: %{x:.3g} % of the neurons<extra></extra>",
        "showlegend": False,
    }


def _layout(found: SiteCurrents, low: float, high: float) -> dict[str, Any]:
    drawn, most = found.drawn, len(found.shares) - 1
    names = ["" if each.channel is None else f"channel {each.channel}" for each in drawn]
    one = len(drawn) == 1
    layout: dict[str, Any] = {
        "height": 130 + (260 if one else max(260, 62 * len(drawn))),
        "width": WIDTH,
        "margin": {"l": 20, "r": 10, "t": 30, "b": 60},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "xaxis": {
            "title": {"text": "x, the current into a neuron (unit of the pre-activation)"},
            "domain": [0, 0.66],
            "range": [low, high],
        },
        "yaxis": {
            "range": [-0.04, len(drawn) + 0.08],
            "tickvals": list(range(len(drawn))),
            "ticktext": names[::-1],
            "ticksuffix": "  ",
            "showgrid": False,
            "zeroline": False,
        },
        "xaxis2": {
            "title": {"text": "neurons, all channels (%)"},
            "domain": [0.75, 1],
            "anchor": "y2",
            "rangemode": "tozero",
        },
        "yaxis2": {
            "title": {"text": "spikes n" if found.coding == "rate" else "count n"},
            "anchor": "x2",
            "range": [-0.6, most + 0.6],
            "dtick": max(1, -(-most // 16)),
            "showgrid": False,
            "zeroline": False,
        },
    }
    if one and len(found.shares) <= FEW_LEVELS:
        layout["annotations"] = [
            {
                "text": f"{k}",
                "x": float(x),
                "y": TALL + 0.07,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 11},
            }
            for k, x in enumerate(drawn[0].rising, 1)
            if low <= x <= high
        ]
    return layout


def _note(found: SiteCurrents) -> str:
    shown = len(found.drawn)
    if found.channels == 1:
        which = "One threshold for every count, shared by all channels"
    elif shown == 1:
        which = f"Channel {found.drawn[0].channel} of {found.channels}"
    else:
        which = (
            f"{shown} of {counted(found.channels, 'channel')}, evenly spread"
            if shown < found.channels
            else f"All {counted(shown, 'channel')}"
        )
    return (
        f"{which}; {counted(found.samples, 'sample')}; T = {found.time_steps}, {found.coding} code, "
        f"{counted(len(found.shares), 'level')}. "
        f"Each histogram is as high as its highest bin; the outermost {100 * TAIL:g} % of the values may lie outside."
    )
