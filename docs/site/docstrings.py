"""Docstrings of graphpass as Markdown: what they say of each argument or field becomes an item of a list.

A docstring says `model, calibration: as for convert.` at the beginning of a line, where these are names of the function
or class. On the site that is `* **model**, **calibration**: as for convert.`
"""

import re
from typing import Any

import griffe

NAMES = re.compile(r"^([a-z]\w*(?:, [a-z]\w*)*): ")


class Arguments(griffe.Extension):
    """Rewrites docstrings as they are read."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Arguments of a function."""
        if func.docstring:
            func.docstring.value = listed(func.docstring.value, {each.name for each in func.parameters})

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Fields of a class."""
        if cls.docstring:
            cls.docstring.value = listed(cls.docstring.value, set(cls.members))


def listed(text: str, names: set[str]) -> str:
    """The text with each line that begins with names and a colon as an item; other lines continue the item.

    >>> print(listed("What it does.\\n\\nx: a number,\\nnot 0. Raises.\\n\\nEnd.", {"x"}))
    What it does.
    <BLANKLINE>
    * **x**: a number,
      not 0. Raises.
    <BLANKLINE>
    End.
    """
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        found = NAMES.match(line)
        if found and set(found[1].split(", ")) <= names:
            if lines and lines[-1] and not inside:
                lines.append("")
            line = f"* **{found[1].replace(', ', '**, **')}**: {line[found.end() :]}"
            inside = True
        elif not line:
            inside = False
        elif inside:
            line = f"  {line}"
        lines.append(line)
    return "\n".join(lines)
