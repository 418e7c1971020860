"""A plugin of pytest: native operators come from the library that $GRAPHPASS_EMULATED names."""

import os
from pathlib import Path

from graphpass.runtime import native


def pytest_configure() -> None:
    path = Path(os.environ["GRAPHPASS_EMULATED"])
    native.library = lambda: path  # type: ignore[assignment]
    native.providers.cache_clear()
