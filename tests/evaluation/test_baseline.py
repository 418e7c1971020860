"""graphpass.evaluation.baseline against rounding in numpy."""

import dataclasses

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.evaluation.baseline import quantise_sites, rounding
from graphpass.forms.registry import assemble
from graphpass.runtime.session import open_session, run
from tests import models


@pytest.mark.parametrize(("low", "high", "levels"), [(0.0, 6.0, 16), (-1.0, 3.0, 9), (0.0, 0.0, 4), (-2.0, -1.0, 5)])
def test_baseline_rounds_to_the_grid_of_min_max(low, high, levels):
    @dataclasses.dataclass(frozen=True)
    class Site:
        name: str = "site"
        output: str = "r"
        lowest: float = low
        highest: float = high

    lowest, highest = min(low, 0.0), max(high, 0.0)
    scale = (highest - lowest) / (levels - 1) or 1.0
    zero = round(-lowest / scale)
    # half-way points aside, where the neuron rounds up and numpy to even
    x = (np.arange(-20, 60) + 0.25).astype(np.float32) * np.float32(scale / 3)
    expected = (np.clip(np.rint(x / scale) + zero, 0, levels - 1) - zero) * scale
    neuron = rounding(Site(), levels).neuron
    assert neuron.fire(x) == pytest.approx(expected, rel=1e-5, abs=1e-6)  # float32 products
    assert neuron.fire(np.zeros(1, np.float32)) == 0.0

    proto = models.build(
        [models.node("Relu", "x", "r", "relu"), models.node("Neg", "r", "y", "neg")], {"x": ["N"]}, {"y": ["N"]}, {}
    )
    graph = quantise_sites(gs.import_onnx(proto), [Site()], {"site": levels}, 4, "rate")
    y = run(open_session(assemble(graph, "rate"), threads=1), {"x": x})["y"]
    assert (y == -neuron.fire(np.maximum(x, 0))).all()
