"""Reports and figures as files."""

import json
from pathlib import Path
from typing import Any

from graphpass.errors import OptionError


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
