"""The parts of a page: tables, figures, and the frame around them.

A page needs no other files: plotly's script is part of it, and its content security policy forbids fetching anything.
Names come from files that may be hostile; they are escaped as HTML, and figures are JSON without <, > and &.
"""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from graphpass.report.cells import Cells

LONGEST_LABEL = 32


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def short(name: str, most: int = LONGEST_LABEL) -> str:
    """A name of at most so many characters; what it ends with tells more than what it begins with."""
    return name if len(name) <= most else "…" + name[1 - most :]


def table(header: Cells, rows: Iterable[Cells], text_columns: Iterable[int] = ()) -> str:
    """An HTML table. All columns hold numbers, except the first and text_columns."""
    left = {0, *text_columns}

    def line(cells: Cells, tag: str) -> str:
        marked = (f"<{tag}{'' if n in left else ' class=number'}>{escape(c)}</{tag}>" for n, c in enumerate(cells))
        return f"<tr>{''.join(marked)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<div class=wide><table>{head}<tbody>{body}</tbody></table></div>"


def folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def figure(label: str, traces: Sequence[Any], layout: dict[str, Any]) -> str:
    text = json.dumps({"data": traces, "layout": layout}, allow_nan=False)
    for sign in "<>&":  # so that no name can end the script
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return (
        f'<div class=figure role=img aria-label="{escape(label)}"><script type=application/json>{text}</script></div>'
    )


def page(title: str, parts: Sequence[str]) -> str:
    from plotly.offline import get_plotlyjs  # which takes a while to load

    return (
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} – graphpass</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(parts)}</main><script>{get_plotlyjs()}</script><script>{DRAW}</script></body></html>\n"
    )


POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

LIGHT = {"--ink": "#1d1f23", "--soft": "#5c6068", "--line": "#d9dce1", "--ground": "#ffffff"}
DARK = {"--ink": "#e6e8eb", "--soft": "#a0a5ad", "--line": "#3a3e45", "--ground": "#17191c"}
ON_LIGHT, ON_DARK = ("; ".join(f"{name}: {colour}" for name, colour in each.items()) for each in (LIGHT, DARK))

STYLE = (
    f"""
:root {{ color-scheme: light dark; {ON_LIGHT}; }}
@media (prefers-color-scheme: dark) {{ :root {{ {ON_DARK}; }} }}
"""
    + """
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
.figure { overflow-x: auto; }
.caption { color: var(--soft); }
summary { cursor: pointer; color: var(--soft); }
"""
)

DRAW = (
    f"const NAMED = new Set({json.dumps(list(LIGHT))});"
    + """ // colours of figures that depend on the ground
const dark = matchMedia("(prefers-color-scheme: dark)");
const figures = [...document.querySelectorAll(".figure")].map(place => {
  const script = place.querySelector("script"), text = script.textContent;
  script.remove();
  return [place, text];
});
function draw() {
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const ink = colour("--ink"), line = colour("--line"), ground = colour("--ground");
  for (const [place, text] of figures) {
    const {data, layout} = JSON.parse(text, (_, value) => NAMED.has(value) ? colour(value) : value);
    const themed = {...layout, font: {color: ink, family: "system-ui, sans-serif", size: 13},
      paper_bgcolor: ground, plot_bgcolor: ground, hoverlabel: {bgcolor: ground, font: {color: ink}}};
    for (const name of Object.keys(layout).filter(each => /^[xy]axis/.test(each)))
      themed[name] = {gridcolor: line, zerolinecolor: line, automargin: true, ...layout[name]};
    Plotly.react(place, data, themed, {displaylogo: false, responsive: true, displayModeBar: false});
  }
}
draw();
dark.addEventListener("change", draw);
"""
)
