"""The oldest onnxruntime that docs/runtimes.md promises runs what is written today, with the same outputs."""

import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from tests.forms.runtime_networks import INPUTS, relu_network, transformer_block
from tests.forms.test_curved_networks import X, network
from tests.models import run

pytestmark = pytest.mark.slow

OLDEST = {(3, 11): "1.19.2", (3, 12): "1.19.2", (3, 13): "1.20.0"}  # of those with a wheel for a Python
NETWORKS = {"relu": relu_network, "silu": lambda: network("silu"), "transformer": transformer_block}
FORMS = [("folded", "source"), ("unrolled", "source"), ("integer", "source"), ("folded", "float16")]
PROGRAM = """
import sys
import numpy as np, onnxruntime
version, *names = sys.argv[1:]
assert onnxruntime.__version__ == version
for name in names:
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    np.save(f"{name}.y.npy", session.run(None, {given.name: np.load(f"{name}.x.npy")})[0])
"""


@pytest.fixture(scope="module")
def oldest(tmp_path_factory):
    """The folder that the oldest onnxruntime is installed in, and its version."""
    folder, version = tmp_path_factory.mktemp("onnxruntime"), OLDEST[sys.version_info[:2]]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, f"onnxruntime=={version}"],
        check=True,
    )
    return folder, version


def test_written_files_run_in_the_oldest_onnxruntime(oldest, tmp_path):
    how = {"time_steps": 4, "coding": "phase", "options": CalibrationOptions(threads=1)}
    outputs = {}
    for kind, make in NETWORKS.items():
        source, x = tmp_path / "ann.onnx", INPUTS.get(kind, X)
        onnx.save(make(), source)
        for form, precision in FORMS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of layers without spikes
                done = convert(source, {"x": x}, form=form, precision=precision, **how)
            name = f"{kind}-{form}-{precision}"
            onnx.save(done.proto, tmp_path / f"{name}.onnx")
            np.save(tmp_path / f"{name}.x.npy", x)
            outputs[name] = run(done.proto, x, optimised=True)[0]
    folder, version = oldest
    command = [sys.executable, "-c", PROGRAM, version, *outputs]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(folder)}, check=True)
    for name, wanted in outputs.items():
        found = np.load(tmp_path / f"{name}.y.npy")
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        distance = np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted.astype(np.float64))
        assert distance < (0.02 if name.endswith("float16") else 1e-5), name  # float16 counts may move by one
