"""Activations that onnxruntime does not compute finely enough for levels: they stay analogue, and all else converts."""

import numpy as np
import onnx
import pytest

from graphpass.calibration.resolution import ROUNDED
from graphpass.calibration.synthetic import Synthetic
from graphpass.conversion import Conversion, convert, dataset_for, observe, settings_of
from graphpass.errors import UnsupportedModelError
from graphpass.graph.model import load
from graphpass.network import prepare
from tests.models import build, node, run

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((96, 8)).astype(np.float32)
W = (RANDOM.standard_normal((4, 8, 8)) / 3).astype(np.float32)


def network(kind: str, size: float) -> onnx.ModelProto:
    """A ReLU, then f of about that size, whose values a layer makes large again, then a ReLU."""
    shift, scale = (np.log(size), 0.5) if kind == "Sigmoid" else (0.0, size)
    nodes = [
        node("Gemm", "x a", "c", "one"), node("Relu", "c", "r", "relu"),
        node("Gemm", "r b shift", "d", "two"), node(kind, "d", "s", "tiny"),
        node("Gemm", "s large", "e", "three"), node("Relu", "e", "q", "relu2"), node("Gemm", "q v", "y", "four"),
    ]  # fmt: skip
    constants = {
        "a": W[0], "b": W[1] * np.float32(scale), "shift": np.full(8, shift, np.float32),
        "large": W[2] / np.float32(size),
        "v": W[3],
    }  # fmt: skip
    return build(nodes, {"x": ["N", 8]}, {"y": ["N", 8]}, constants)


def test_what_onnxruntime_makes_of_a_sigmoid_near_0() -> None:
    """The reason for all of this: should it fail, a newer onnxruntime computes sigmoids as they are."""
    alone = build([node("Sigmoid", "x", "y", "s")], {"x": ["N", 1]}, {"y": ["N", 1]}, {})
    x = np.array([[-16.0], [-18.5]], np.float32)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert (np.abs(run(alone, x)[0] - exact) > 0.3 * exact).all()


@pytest.mark.parametrize("form", ["folded", "unrolled", "integer"])
@pytest.mark.parametrize("kind", ["Sigmoid", "Elu"])
def test_they_stay_analogue_in_every_form(tmp_path, kind: str, form: str) -> None:
    onnx.save(network(kind, 3e-8 if kind == "Sigmoid" else 1e-8), tmp_path / "ann.onnx")
    done: Conversion = convert(tmp_path / "ann.onnx", {"x": X}, form=form, time_steps=8)
    assert [site.name for site in done.plan.sites] == ["relu", "relu2"]
    assert [site.name for site in done.network.coverage.sites] == ["relu", "relu2"]
    reasons = {entry.node: (entry.reason, entry.expected) for entry in done.plan.left}
    assert reasons["tiny"] == (ROUNDED, True) and "three" in reasons  # no spikes reach it
    assert done.network.coverage.spiking_layers == 2
    assert np.isfinite(run(done.proto, X[:4])[0]).all()
    again = convert(tmp_path / "ann.onnx", plan=done.plan, form=form)
    assert again.proto.SerializeToString() == done.proto.SerializeToString()


@pytest.mark.parametrize("kind", ["Sigmoid", "Elu"])
def test_others_have_neurons(tmp_path, kind: str) -> None:
    onnx.save(network(kind, 1e-5), tmp_path / "ann.onnx")
    done = convert(tmp_path / "ann.onnx", {"x": X}, form="unrolled", time_steps=8)
    assert [site.name for site in done.plan.sites] == ["relu", "tiny", "relu2"]


def test_a_calibration_in_parts_and_one_without_data_leave_them_too(tmp_path) -> None:
    onnx.save(network("Sigmoid", 3e-8), tmp_path / "ann.onnx")
    prepared = prepare(load(tmp_path / "ann.onnx"))
    whole = convert(prepared, {"x": X}, time_steps=4)
    dataset = dataset_for(prepared.source, {"x": X})
    settings = settings_of(prepared, 4, "rate", "optimal", "folded")
    observe(prepared, dataset, settings, tmp_path / "part")
    parts = convert(prepared, dataset, time_steps=4, observed=[tmp_path / "part"])
    assert parts.proto.SerializeToString() == whole.proto.SerializeToString()
    with pytest.warns(UserWarning, match="SYNTHETIC"):
        made_up = convert(prepared, Synthetic(64), time_steps=4)
    assert "tiny" not in [site.name for site in made_up.plan.sites]


def test_a_network_of_nothing_else_says_why(tmp_path) -> None:
    nodes = [node("Gemm", "x w b", "c", "one"), node("Sigmoid", "c", "s", "tiny"), node("Gemm", "s v", "y", "two")]
    constants = {"w": W[0], "b": np.full(8, -17, np.float32), "v": W[1]}
    onnx.save(build(nodes, {"x": ["N", 8]}, {"y": ["N", 8]}, constants), tmp_path / "ann.onnx")
    with pytest.raises(UnsupportedModelError, match=rf"nothing to convert.*'tiny' \(sigmoid\): {ROUNDED[:60]}"):
        convert(tmp_path / "ann.onnx", {"x": X})
