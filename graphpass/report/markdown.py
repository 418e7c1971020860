"""The parts of a document in Markdown. Texts are shown as they are: nothing in them becomes markup, a link or HTML."""

import re
import unicodedata
from collections.abc import Iterable

from graphpass.report.cells import Cells

LONGEST = 200  # characters of one text
MARKUP = re.compile(
    r"""[\\`*{}\[\]<>&#!|~$@"^]"""  # emphasis, code, links, images, HTML, tables, mathematics, mentions
    r"""|(?<![^\W_])_|_(?![^\W_])"""  # underscores, unless inside a word
    r"""|:(?=//)|(?<=www)\."""  # addresses that would become links
    r"""|^[-+=]|^\d+[.)](?= |$)""",  # lists and headings
    re.IGNORECASE,
)


def text(value: object) -> str:
    """A text of a file in one line: signs with a meaning as character references, control characters as �."""
    shown = " ".join(str(value).split())
    shown = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    clean = "".join("�" if unicodedata.category(sign)[0] == "C" else sign for sign in shown)
    return MARKUP.sub(lambda found: "".join(f"&#{ord(sign)};" for sign in found[0]), clean)


def table(header: Cells, rows: Iterable[Cells]) -> str:
    """A table; its cells are texts of files."""
    lines = [header, ["---"] * len(header), *([text(cell) or " " for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def section(title: str, *parts: str) -> str:
    """A heading and what belongs beneath it."""
    return "\n".join((f"## {title}\n", *(part if part.endswith("\n") else f"{part}\n" for part in parts)))
