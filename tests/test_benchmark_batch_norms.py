"""Normalisations that the benchmark of calibration without data puts back behind convolutions."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import batch_norms, datasets
from graphpass.graph.model import load
from graphpass.runtime.session import open_session, run
from tests.models import build, node

RANDOM = np.random.default_rng(0)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """CIFAR-10 as noise, in an empty cache."""
    monkeypatch.setenv("GRAPHPASS_CACHE", str(tmp_path / "cache"))
    train = RANDOM.integers(0, 256, (250, 32, 32, 3), np.uint8)
    datasets.save("cifar10.npz", train=train)
    return datasets.cifar10_images(train)


def test_normalisations_hold_the_moments_of_the_data_and_change_nothing(tmp_path: Path, images: np.ndarray) -> None:
    weights = {"w1": RANDOM.normal(size=(4, 3, 3, 3)), "b1": RANDOM.normal(size=4)}
    weights |= {"w2": RANDOM.normal(size=(2, 4, 3, 3)), "b2": RANDOM.normal(size=2)}
    nodes = [
        node("Conv", "image w1 b1", "c", "conv1"),
        node("Relu", "c", "r", "relu"),
        node("Conv", "r w2 b2", "y", "conv2"),
    ]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    onnx.save(build(nodes, {"image": ["N", 3, 32, 32]}, {"y": None}, constants), tmp_path / "ann.onnx")
    made = load(batch_norms.resnet20(tmp_path / "ann.onnx"))
    before, after = (run(open_session(proto), {"image": images})["y"] for proto in (tmp_path / "ann.onnx", made.proto))
    # float32: a normalisation and its inverse on values of about 5
    np.testing.assert_allclose(after, before, atol=1e-4)
    norms = [each for each in made.graph().nodes if each.op == "BatchNormalization"]
    assert [norm.inputs[0].inputs[0].name for norm in norms] == ["conv1", "conv2"]
    scale, shift, mean, variance = (tensor.values for tensor in norms[1].inputs[1:])
    np.testing.assert_allclose(mean, before.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)  # float32 sums
    np.testing.assert_allclose(variance, before.var((0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(scale**2, variance + batch_norms.EPSILON, rtol=1e-5)
    np.testing.assert_array_equal(shift, mean)
