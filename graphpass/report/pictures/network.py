"""A spiking network as a graph, its sites coloured by error and firing rate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from graphpass.evaluation.results import SiteResult
from graphpass.graph.outline import Outline, OutlineNode
from graphpass.report import html
from graphpass.report.pictures.layered import Drawing, drawing_of
from graphpass.report.pictures.picture import BLUE, OF_SITES, WIDTH, Picture, cut, scale
from graphpass.wording import counted

ROW, TALLEST = 21, 30  # pixels
HEIGHT = 340  # pixels that the scales of colours need; where rows are few they are taller
LANE = 26  # pixels, or less where there are many
LANES = 150  # pixels for all lanes of a column
SHORT = 26  # rows of a single column
FIGURES = 96  # pixels that error and firing rate take behind a name
SCALE = 260  # pixels of a scale of colours, where there is room
LETTER = 6.6  # pixels, of the font of labels
SQUARE = 12  # pixels
COLOUR_BARS = 120  # pixels
KINDS = {  # symbol, size and colour
    "input": ("triangle-down", 11, "--soft"),
    "layer": ("circle", 7, "--soft"),
    "meeting": ("circle-open", 8, "--ink"),
    "output": ("triangle-up", 11, "--soft"),
}
WORDS = {"layer": "weight layer", "meeting": "where branches join", "input": "input", "output": "output"}
TITLES = {"error": "error (% of the variance)", "firing_rate": "firing rate (%)"}

Point = tuple[float, float]
Placed = tuple[Point, SiteResult | None, OutlineNode]


@dataclass(frozen=True)
class _Column:
    """Rows from first on, before end; left: pixels."""

    first: int
    end: int
    left: float


@dataclass(frozen=True)
class _Page:
    """Rows in columns. wide: pixels of a column; lane: from one lane to the next; row: of a row."""

    columns: tuple[_Column, ...]
    wide: float
    lane: float
    lanes: float
    row: float

    @property
    def rows(self) -> int:
        return max(column.end - column.first for column in self.columns)

    @property
    def height(self) -> float:
        return max(HEIGHT, round(self.row * (self.rows + 1)))

    def column(self, row: float) -> _Column:
        return next((each for each in self.columns if row < each.end - 0.25), self.columns[-1])

    def at(self, point: Point) -> Point:
        column = self.column(point[1])
        return column.left + 16 + self.lane * point[0], self.row * (point[1] - column.first + 1)


def network(outline: Outline | None, sites: Sequence[SiteResult], title: str) -> Picture | None:
    """The picture of a network, None where it is too large. sites: of an evaluation; without it they are plain."""
    drawing = drawing_of(outline) if outline else None
    if outline is None or drawing is None:
        return None
    page = _page(drawing)
    known = {site.name: site for site in sites}
    placed = [(page.at(at), known.get(node.site), node) for at, node in zip(drawing.nodes, outline.nodes, strict=True)]
    data = [_edges(drawing, page)]
    data += [_marks(kind, placed) for kind in KINDS if any(node.kind == kind for _, _, node in placed)]
    drawn = [each for each in placed if each[2].kind == "site"]
    data += [_squares(drawn, value, page.height) for value in OF_SITES] if known else [_plain_squares(drawn)]
    data.append(_labels(outline, known, drawing, page))
    summary = (
        "; ".join(f"{html.short(site.name)}: {_values(site)}" for site in list(sites)[:30])
        or f"{counted(len(outline.nodes), 'node')}"
    )
    return Picture(
        title,
        _note(outline, bool(known)),
        summary,
        tuple(data),
        _layout(page),
    )


def _page(drawing: Drawing) -> _Page:
    rows = len(drawing.nodes)
    count = 1 if rows <= SHORT else 2
    wide = (WIDTH - COLOUR_BARS) / count
    lane = min(LANE, LANES / drawing.lanes)
    columns, first = [], 0
    for number in range(count):
        ideal = first + -(-(rows - first) // (count - number))
        end = rows if number == count - 1 else _cut(drawing, ideal)
        columns.append(_Column(first, end, number * wide))
        first = end
    tallest = max(column.end - column.first for column in columns)
    return _Page(tuple(columns), wide, lane, drawing.lanes, max(ROW, min(TALLEST, HEIGHT / (tallest + 1))))


def _cut(drawing: Drawing, ideal: int) -> int:
    """The row near the ideal one in front of which the fewest edges pass."""

    def passing(row: int) -> int:
        return sum(line[0][1] < row - 0.5 < line[-1][1] for line in drawing.edges)

    near = [row for row in range(ideal - 4, ideal + 5) if 0 < row < len(drawing.nodes)]
    return min(near, key=lambda row: (passing(row), abs(row - ideal)))


def _edges(drawing: Drawing, page: _Page) -> dict[str, Any]:
    x: list[float | None] = []
    y: list[float | None] = []
    for line in drawing.edges:
        for part in _parts(line, page):
            x += [*(round(point[0], 1) for point in part), None]
            y += [*(round(point[1], 1) for point in part), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": "--soft", "width": 1.2},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _parts(line: Sequence[Point], page: _Page) -> Iterable[list[Point]]:
    """The pieces of a line in each column; at the end of a column it goes out below, and comes in above the next."""
    part = [page.at(line[0])]
    for start, end in pairwise(line):
        here, there = page.column(start[1]), page.column(end[1])
        if here is not there:
            part.append((page.at(start)[0], page.row * (here.end - here.first + 0.6)))
            yield part
            part = [(there.left + 16 + page.lane * start[0], page.row * 0.35)]
        part.append(page.at(end))
    yield part


def _marks(kind: str, placed: Sequence[Placed]) -> dict[str, Any]:
    """The nodes of one kind."""
    symbol, size, colour = KINDS[kind]
    shown = [(place, node) for place, _, node in placed if node.kind == kind]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": WORDS.get(kind, kind),
        "x": [round(x, 1) for (x, _), _ in shown],
        "y": [round(y, 1) for (_, y), _ in shown],
        "marker": {"symbol": symbol, "size": size, "color": colour},
        "hovertext": [f"{cut(node.name)} {f'({cut(node.op)})' if node.op else ''}" for _, node in shown],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _squares(drawn: Sequence[Placed], value: str, height: float) -> dict[str, Any]:
    """One half of every site: error on the left, firing rate on the right; without colour where it is not known."""
    side, length = -1 if value == "error" else 1, min(SCALE, height / 2 - 10)
    found = [None if site is None else getattr(site, value) for _, site, _ in drawn]
    known = [100 * each for each in found if each is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"site, {'left' if side < 0 else 'right'}: {value.replace('_', ' ')}",
        "x": [round(x + side * SQUARE / 2, 1) for (x, _), _, _ in drawn],
        "y": [round(y, 1) for (_, y), _, _ in drawn],
        "marker": {
            "symbol": "square",
            "size": SQUARE,
            "color": [None if each is None else 100 * each for each in found],
            "colorscale": scale(OF_SITES[value]),
            "cmin": 0,
            "cmax": max(known, default=1) or 1,
            "line": {"color": "--soft", "width": 1},
            "showscale": True,
            "colorbar": {
                "title": {"text": TITLES[value], "side": "right", "font": {"size": 13}},
                "thickness": 12,
                "outlinewidth": 0,
                "len": length,
                "lenmode": "pixels",
                "y": 1 if value == "error" else 1 - (length + 20) / height,
                "yanchor": "top",
                "x": 1.01,
            },
        },
        "hovertext": [_hover(node, site) for _, site, node in drawn],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _plain_squares(drawn: Sequence[Placed]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "site",
        "x": [round(x, 1) for (x, _), _, _ in drawn],
        "y": [round(y, 1) for (_, y), _, _ in drawn],
        "marker": {"symbol": "square", "size": SQUARE, "color": BLUE, "line": {"color": "--soft", "width": 1}},
        "hovertext": [_hover(node, None) for _, _, node in drawn],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _hover(node: OutlineNode, site: SiteResult | None) -> str:
    about = f"<br>{site.levels} levels, {counted(site.neurons, 'neuron')}<br>{_values(site)}" if site else ""
    return f"{cut(node.site)}{about}"


def _values(site: SiteResult) -> str:
    return f"error {_percent(site.error)}, firing rate {_percent(site.firing_rate)}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2g} %" if value < 0.0995 else f"{100 * value:.0f} %"


def _labels(outline: Outline, known: Mapping[str, SiteResult], drawing: Drawing, page: _Page) -> dict[str, Any]:
    beside = 16 + page.lane * (page.lanes - 1) + SQUARE + 8
    most = max(8, int((page.wide - beside - (FIGURES if known else 10)) / LETTER))
    texts, x, y = [], [], []
    for node, point in zip(outline.nodes, drawing.nodes, strict=True):
        site = known.get(node.site)
        text = cut(node.site or node.name, most) if node.kind in ("site", "input", "output") else cut(node.op, most)
        if site is not None:
            text += f"   {_percent(site.error)} · {_percent(site.firing_rate)}"
        texts.append(f"<b>{text}</b>" if node.kind == "site" and not known else text)
        x.append(round(page.column(point[1]).left + beside, 1))
        y.append(round(page.at(point)[1], 1))
    colours = ["--ink" if node.kind == "site" else "--soft" for node in outline.nodes]
    return {
        "type": "scatter",
        "mode": "text",
        "x": x,
        "y": y,
        "text": texts,
        "textposition": "middle right",
        "textfont": {"size": 12, "color": colours},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _layout(page: _Page) -> dict[str, Any]:
    height, wide = page.height, page.wide * len(page.columns)
    hidden = {"visible": False, "fixedrange": True}
    return {
        "height": height + 50,
        "width": WIDTH,
        "margin": {"l": 0, "r": COLOUR_BARS, "t": 0, "b": 50, "autoexpand": False},
        "legend": {"orientation": "h", "y": 0, "yanchor": "top", "x": 0},
        "xaxis": {**hidden, "range": [0, wide]},
        "yaxis": {**hidden, "range": [height, 0]},
        "hovermode": "closest",
    }


def _note(outline: Outline, coloured: bool) -> str:
    layers = "" if outline.layers else " Weight layers are left out, since there are many."
    colours = (
        "Each site is two squares: on the left the error of its output against the original network's, on the right "
        "its firing rate; both are written behind its name. "
        if coloured
        else "Sites are squares. "
    )
    return f"{colours}Nodes that only pass on what one other node made are left out.{layers}"
