"""Outputs of a network keep their scale: rare large ones do not come out too small."""

import numpy as np
import pytest

import graphpass
from graphpass.calibration import calibrate
from graphpass.graph.layers import last_layers
from graphpass.graph.model import load
from graphpass.network import prepare
from tests.models import build, node
from tests.test_identity_sites import language_model

RANDOM = np.random.default_rng(0)
DEPTH, WIDTH = 4, 24


def chain():
    """Layers with ReLU, and two heads."""
    shapes = {f"w{k}": (WIDTH, WIDTH) for k in range(DEPTH)} | {"h0": (WIDTH, 3), "h1": (WIDTH, 3)}
    weights = {
        name: (RANDOM.normal(size=shape) / np.sqrt(WIDTH / 2)).astype(np.float32) for name, shape in shapes.items()
    }
    nodes = []
    for k in range(DEPTH):
        nodes += [node("MatMul", f"r{k} w{k}", f"x{k}", f"layer{k}"), node("Relu", f"x{k}", f"r{k + 1}", f"relu{k}")]
    nodes += [
        node("MatMul", f"r{DEPTH} h0", "boxes", "boxes"),
        node("MatMul", f"r{DEPTH} h1", "raw", "classes"),
        node("Sigmoid", "raw", "scores", "sigmoid"),
    ]
    return build(nodes, {"r0": ["N", WIDTH]}, {"boxes": None, "scores": None, "raw": None}, weights)


def samples(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"r0": (random.normal(size=(800, WIDTH)) * random.exponential(size=(800, 1))).astype(np.float32)}


def slopes(model, snn, data) -> np.ndarray:
    """Of each output on the ANN's."""
    found = []
    for a, y in zip(*(graphpass.open_session(each).run(["boxes", "raw"], data) for each in (model, snn)), strict=True):
        wanted = a - a.mean(0)
        found.append((wanted * (y - y.mean(0))).sum(0) / np.square(wanted).sum(0))
    return np.concatenate(found)


@pytest.mark.parametrize("steps", [2, 3])
def test_outputs_have_the_slope_1(steps, monkeypatch):
    """On the data that it was measured on; on others it is nearer to 1 than without."""
    model = chain()
    snn = graphpass.convert(model, samples(0), time_steps=steps, coding="phase")
    np.testing.assert_allclose(slopes(model, snn, samples(0)), 1, atol=0.02)
    monkeypatch.setattr(calibrate, "scale_back", lambda x, y: (np.ones(len(y[0]), np.float32), 0 * y[0]))
    flat = graphpass.convert(model, samples(0), time_steps=steps, coding="phase")
    with_scale, without = (slopes(model, each, samples(1)).mean() for each in (snn, flat))
    assert without + 0.02 < with_scale < 1.05


def test_the_last_layers_are_those_that_no_other_layer_or_product_follows():
    assert last_layers(prepare(load(chain())).graph) == {"boxes", "classes"}
    assert last_layers(prepare(load(language_model())).graph) == {"head"}
