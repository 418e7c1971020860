"""How commands end that are ended from outside, or that have no room for what they keep: in one line, and tidily."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.test_conversion import data, network

STARTED = """
import resource, signal, sys
from graphpass.calibration import calibrate

{first}
from graphpass.cli.start import main
sys.argv = ["graphpass", *{arguments!r}]
main()
"""
ENDED = """
take = calibrate._Calibrator.take

def ended(self, number):
    take(self, number)
    signal.raise_signal(signal.{name})

calibrate._Calibrator.take = ended
"""
SHORT = "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))"
CONVERT = "convert ann.onnx snn.onnx --calibration data.npz --memory-budget 1MiB".split()
COMMANDS = {
    "convert": CONVERT,
    "search": [*CONVERT, *"--evaluation data.npz --max-drop 5".split()],
    "sweep": "sweep ann.onnx --calibration data.npz --data data.npz --time-steps 2,4".split(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    onnx.save(network(), tmp_path / "ann.onnx")
    np.savez(tmp_path / "data.npz", **data(2000))
    return tmp_path


def ended(folder: Path, first: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """A command after some code, with a folder of its own for temporary files."""
    code = STARTED.format(first=first, arguments=arguments)
    known = os.environ | {"TMPDIR": str(folder / "tmp")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=known, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_end_from_outside_leaves_no_temporary_files(name: str, command: str, folder: Path) -> None:
    """As batch systems, `timeout` and a closed terminal end commands: a search keeps gigabytes in temporary files."""
    found = ended(folder, ENDED.format(name=name), COMMANDS[command])
    assert found.returncode == 128 + signal.Signals[name], found.stderr
    assert found.stderr.splitlines()[-1] == f"graphpass: error: ended by {name}"
    assert "Traceback" not in found.stderr
    assert list((folder / "tmp").iterdir()) == []
    assert not (folder / "snn.onnx").exists()


def test_who_ignores_an_end_goes_on(folder: Path) -> None:
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)" + ENDED.format(name="SIGHUP")
    assert ended(folder, ignored, CONVERT).returncode == 0
    assert (folder / "snn.onnx").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_too_little_room_for_temporary_files_is_one_line_that_names_them(command: str, folder: Path) -> None:
    found = ended(folder, SHORT, COMMANDS[command])
    assert found.returncode == 2, found.stderr
    said = found.stderr.splitlines()[-1]
    assert said.startswith(f"graphpass: error: {folder / 'tmp'}/graphpass-")
    assert said.endswith(
        "cannot be written (File too large); make room there, or name another folder for temporary files with TMPDIR"
    )
    assert "Traceback" not in found.stderr
    assert list((folder / "tmp").iterdir()) == []
