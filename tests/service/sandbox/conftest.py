"""A box for every test."""

from pathlib import Path

import pytest

from tests.service.sandbox.sandboxed import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (folder := tmp_path / "box" / "in").mkdir(parents=True)
    return Box(folder.parent)
