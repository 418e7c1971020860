"""Deep networks of curved activations: no method loses the signal on its way."""

import numpy as np
import pytest

from graphpass import api
from graphpass.maths.methods import METHODS
from tests.models import build, node

LAYERS = 12


@pytest.fixture(scope="module")
def deep() -> tuple[object, np.ndarray]:
    """x → LAYERS times (MatMul, SiLU), variance kept, → scores."""
    random, width = np.random.default_rng(0), 24
    nodes, constants = [], {}
    for k in range(LAYERS):
        constants[f"w{k}"] = random.normal(0, 2.2 / np.sqrt(width), (width, width)).astype(np.float32)
        nodes += [node("MatMul", f"x{k} w{k}", f"h{k}"), node("Sigmoid", f"h{k}", f"s{k}")]
        nodes.append(node("Mul", f"h{k} s{k}", f"x{k + 1}"))
    constants["last"] = random.normal(0, 1 / np.sqrt(width), (width, 10)).astype(np.float32)
    nodes.append(node("MatMul", f"x{LAYERS} last", "y"))
    proto = build(nodes, {"x0": ["N", width]}, {"y": ["N", 10]}, constants)
    return proto, random.normal(size=(512, width)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [4, 8])
def test_the_scores_vary_as_much_as_the_networks(deep: tuple[object, np.ndarray], method: str, steps: int) -> None:
    """A gain that is a little too small at every site leaves a fraction of that, and a network at chance."""
    proto, rows = deep
    made = api.convert(proto, rows[:256], time_steps=steps, method=method, threads=1)
    a, y = (api.open_session(each).run(None, {"x0": rows[256:]})[0] for each in (proto, made))
    a, y = a - a.mean(0), y - y.mean(0)
    assert 0.9 < y.std() / a.std() < 1.5
    assert np.corrcoef(y.ravel(), a.ravel())[0, 1] > (0.4 if steps == 4 else 0.65)
