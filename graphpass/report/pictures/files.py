"""Pictures as files, by the ending of their names: pages, and images that kaleido makes with a Chromium or Chrome."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphpass.errors import OptionError
from graphpass.files import replacing, write_text
from graphpass.report import html
from graphpass.report.html import LIGHT
from graphpass.report.pictures.picture import WIDTH, Picture

IMAGES = ("svg", "pdf", "png")
SHARPNESS = 2  # pixels of a .png for one of the picture
TITLE = 42  # pixels above the picture


def write_picture(picture: Picture, path: str | Path) -> None:
    """Write a picture as .html, which a browser shows in light or dark, as .svg, .pdf or .png, or as plotly's .json.

    Raises OptionError for any other ending, where an image cannot be made here, and where the file cannot be written.
    """
    require_ending(path)
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending in IMAGES:
        image = _image(picture, ending)
        with replacing(path, OptionError) as staged:
            staged.write_bytes(image)
    else:
        write_text(TEXTS[ending](picture), path, OptionError)


def require_ending(path: str | Path) -> None:
    """Raises OptionError unless pictures can be written as files of this kind, and this one here."""
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in (*TEXTS, *IMAGES):
        raise OptionError(f"{path}: not a kind of picture", f"end its name in .{', .'.join((*TEXTS, *IMAGES))}")
    if ending in IMAGES:
        _kaleido(ending)


TEXTS: Mapping[str, Callable[[Picture], str]] = {
    "html": Picture.page,
    "json": lambda picture: json.dumps(picture.to_json(), allow_nan=False) + "\n",
}


def _kaleido(ending: str) -> Any:
    try:
        import kaleido
    except ImportError as error:
        raise OptionError(
            f"a picture as .{ending} needs kaleido", "pip install 'graphpass[images]', or write .html"
        ) from error
    return kaleido


def _image(picture: Picture, ending: str) -> bytes:
    """On white, with its title. No byte is fetched: plotly's script is that of the installed package."""
    kaleido = _kaleido(ending)
    layout = dict(picture.layout)
    size = {"width": layout.get("width", WIDTH), "height": layout["height"] + TITLE}
    margin = {**layout["margin"], "t": layout["margin"]["t"] + TITLE}
    words = {"text": f"<b>{html.escape(picture.title)}</b>", "font": {"size": 17}, "x": 0, "xref": "paper", "y": 1}
    title = {**words, "yref": "container", "yanchor": "top", "pad": {"t": 12, "l": 4}}
    font = {"family": "DejaVu Sans, Verdana, sans-serif", "size": 13, "color": LIGHT["--ink"]}
    axes = {
        name: {"gridcolor": LIGHT["--line"], "zerolinecolor": LIGHT["--line"], "automargin": True, **value}
        for name, value in layout.items()
        if name.startswith(("xaxis", "yaxis"))
    }
    grounds = {"paper_bgcolor": LIGHT["--ground"], "plot_bgcolor": LIGHT["--ground"]}
    layout = {**layout, **axes, **size, **grounds, "margin": margin, "title": title, "font": font, "template": None}
    figure = _coloured({"data": list(picture.data), "layout": layout})
    logging.getLogger("kaleido").setLevel(logging.ERROR)
    try:
        image: bytes = kaleido.calc_fig_sync(
            figure,
            opts={"format": ending, "scale": SHARPNESS if ending == "png" else 1, **size},
            kopts={"mathjax": False},
        )
    except Exception as error:  # of kaleido, of choreographer and of the browser, each with classes of its own
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise OptionError(
            f"the picture could not be made as .{ending} ({line})",
            "install Chromium or Chrome (Debian: apt-get install chromium), or write .html",
        ) from error
    return image


def _coloured(value: Any) -> Any:
    """The value with the colours of a light ground in place of their names."""
    if isinstance(value, Mapping):
        return {key: _coloured(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_coloured(inner) for inner in value]
    return LIGHT.get(value, value) if isinstance(value, str) else value
