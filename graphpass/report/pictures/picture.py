"""A picture: what plotly draws, with the words around it.

Colours that depend on the ground are written as names, "--ink", "--soft", "--line" and "--ground"; whoever draws a
picture (graphpass/report/html.py, service/page/plots.js, files.py) puts in those of its ground. Texts are escaped:
plotly reads tags in them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphpass.report import html

# on white and black
COLOURS = ("#3987e5", "#d95926", "#199e70", "#c98500", "#9085e9", "#d55181", "#5f9e1f", "#8a8a8a")
BLUE, ORANGE, GREEN = COLOURS[:3]
# light to dark, each step as far from the last; told apart by people who see no red or no green, and in grey
ERRORS = ("#dbe9f9", "#a9cbf0", "#6ea6e2", "#3a7fc9", "#1d5a9e", "#0c3a6e")
RATES = ("#fbe6d4", "#f6c39c", "#ec9660", "#d96a2c", "#a94a14", "#713009")
OF_SITES = {"error": ERRORS, "firing_rate": RATES}  # what is measured of a site
WIDTH = 980  # pixels
LONGEST = 80  # characters of a name, where there is room


@dataclass(frozen=True)
class Picture:
    """title, note: plain text; the note says what was drawn, and what of it. summary: the figures, for screen readers.

    data, layout: what plotly takes, as JSON; both are as wide as the place, unless the layout has a width.
    """

    title: str
    note: str
    summary: str
    data: tuple[Mapping[str, Any], ...]
    layout: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plotly's {"data", "layout"} beside title, note and summary."""
        texts = {"title": self.title, "note": self.note, "summary": self.summary}
        return {**texts, "data": list(self.data), "layout": dict(self.layout)}

    def section(self) -> str:
        """A part of a page."""
        drawn = html.figure(f"{self.title}. {self.summary}", self.data, dict(self.layout))
        return f"<h2>{html.escape(self.title)}</h2>{drawn}<p class=caption>{html.escape(self.note)}</p>"

    def page(self) -> str:
        """A page of its own."""
        return html.page(self.title, [self.section()])


def scale(colours: tuple[str, ...]) -> list[list[Any]]:
    """Colours at even distances, as plotly takes them."""
    return [[number / (len(colours) - 1), colour] for number, colour in enumerate(colours)]


def cut(name: str, most: int = LONGEST) -> str:
    """A name of at most so many characters, escaped."""
    return html.escape(html.short(name, most))
