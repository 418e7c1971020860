"""Reports and figures as files."""

import json
from pathlib import Path
from typing import Any

from graphpass.errors import OptionError
from graphpass.files import write_text


def write_json(document: Any, path: str | Path) -> None:
    """Write a JSON document. Raises OptionError where that is not possible."""
    write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", path, OptionError)


def write_report(page: str, path: str | Path) -> None:
    """Write a report. Raises OptionError where that is not possible."""
    write_text(page, path, OptionError)
