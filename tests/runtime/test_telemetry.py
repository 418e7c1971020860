"""onnxruntime sends its maker nothing from a process that uses graphpass, and keeps no number of the machine."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.test_conversion import network

RUN = """
import sys
import graphpass
assert "onnxruntime" not in sys.modules
graphpass.convert("ann.onnx", synthetic=True, time_steps=2, output="snn.onnx")
"""


def run(code: str, folder: Path, **environment: str) -> None:
    """Python in a folder, with a home and a folder for temporary files of its own."""
    unset = ("CI", "ORT_", "XDG_", "GITHUB_", "TF_BUILD")  # of which some keep onnxruntime quiet
    known = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=known | own | environment, check=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    onnx.save(network(), tmp_path / "ann.onnx")
    return tmp_path


def test_nothing_is_kept_or_sent(folder: Path) -> None:
    """What it would send waits in files of the home, and its number of the session in a temporary one."""
    run(RUN, folder)
    assert [path for name in ("home", "tmp") for path in (folder / name).rglob("*")] == []


def test_who_wants_it_may_have_it(folder: Path) -> None:
    code = "import os, graphpass; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    run(code, folder, ORT_DISABLE_TELEMETRY="0")
