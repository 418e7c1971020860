"""Networks that were trained with QCFS: their chains are read, whatever the method."""

import numpy as np
import pytest

from graphpass.calibration import calibrate as calibrate_module
from graphpass.calibration.fitting import qcfs_plan
from graphpass.maths.methods import METHODS
from tests.calibration.networks import PARTS, CalibrationCase, finite, vectors, weights
from tests.models import build, node, run, same


def quantised(steps, theta):
    """y = θ·floor(clip(x/θ, 0, 1)·T̃ + 1/2)/T̃, twice, in numbers that no operation rounds."""
    rng = np.random.default_rng(2)

    def chain(x, y, name):
        return [
            node("Div", f"{x} theta", f"{y}1", f"{name}_div"), node("Clip", f"{y}1 zero one", f"{y}2", f"{name}_clip"),
            node("Mul", f"{y}2 steps", f"{y}3", f"{name}_mul"), node("Add", f"{y}3 half", f"{y}4", f"{name}_add"),
            node("Floor", f"{y}4", f"{y}5", f"{name}_floor"), node("Div", f"{y}5 steps", f"{y}6", f"{name}_back"),
            node("Mul", f"{y}6 theta", y, f"{name}"),
        ]  # fmt: skip

    eighths = [rng.integers(-8, 8, (8, 8)).astype(np.float32) / 8 for _ in range(3)]
    return build(
        [node("MatMul", "x w0", "h0", "fc0"), *chain("h0", "a", "act0"), node("MatMul", "a w1", "h1", "fc1"),
         *chain("h1", "b", "act1"), node("MatMul", "b w2", "y", "fc2")],
        {"x": ["N", 8]}, {"y": None},
        {"zero": 0.0, "one": 1.0, "half": 0.5, "steps": float(steps), "theta": float(theta),
         **{f"w{k}": w for k, w in enumerate(eighths)}},
    )  # fmt: skip


def eighths(count=60):
    return np.random.default_rng(3).integers(-16, 16, (count, 8)).astype(np.float32) / 8


def read_plan(one, time_steps):
    sites = tuple(qcfs_plan(site, time_steps + 1) for site in one.coverage().sites)
    return calibrate_module.Plan(time_steps, "rate", "qcfs", sites)


@pytest.mark.parametrize(("steps", "theta"), [(4, 2.0), (8, 4.0), (2, 1.0)])
def test_a_qcfs_network_is_converted_without_loss_and_without_data(steps, theta):
    one = CalibrationCase(quantised(steps, theta), eighths())
    plan = read_plan(one, steps)
    assert [site.name for site in plan.sites] == ["act0", "act1"]
    np.testing.assert_array_equal(run(one.spiking(plan), one.x)[0], run(one.model, one.x)[0])


@pytest.mark.parametrize("method", METHODS)
def test_calibrating_a_qcfs_network_reads_its_chains(method):
    """All methods: the sites keep their own neurons, and nothing in front of them is corrected."""
    one = CalibrationCase(quantised(4, 2.0), eighths())
    plan, read = one.plan(method=method), read_plan(one, 4)
    for got, expected in zip(plan.sites, read.sites, strict=True):
        assert all(same(getattr(got, part), getattr(expected, part)) for part in PARTS)
        assert got.error == 0
    assert plan.layers == ()


def test_a_qcfs_chain_with_channels_that_no_layer_tells():
    """θ varies along an axis that a reshape has made."""
    theta = np.float32([1, 2, 4]).reshape(1, 3, 1)
    model = build(
        [node("Reshape", "x shape", "h", "cut"), node("Div", "h theta", "h1", "div"),
         node("Clip", "h1 zero one", "h2", "clip"),
         node("Mul", "h2 four", "h3", "mul"), node("Add", "h3 half", "h4", "add"), node("Floor", "h4", "h5", "floor"),
         node("Div", "h5 four", "h6", "back"), node("Mul", "h6 theta", "a", "act"),
         node("Flatten", "a", "f", "flat"), node("MatMul", "f w", "y", "fc")],
        {"x": ["N", 24]}, {"y": None},
        {"shape": np.array([0, 3, 8]), "theta": theta, "zero": 0.0, "one": 1.0, "four": 4.0, "half": 0.5,
         "w": weights(24, 8)},
    )  # fmt: skip
    one = CalibrationCase(model, vectors(20, 24))
    assert same(one.plan().sites[0].threshold, np.float32([0.25, 0.5, 1]))
    assert one.plan().sites[0].error == 0


@pytest.mark.parametrize("time_steps", [2, 8, 16])
def test_a_qcfs_network_in_other_levels(time_steps):
    """The range A·L stays, the shift stays half a threshold: no mean error, at most half a level of each at a site."""
    one = CalibrationCase(quantised(4, 2.0), eighths())
    for site in read_plan(one, time_steps).sites:
        np.testing.assert_array_equal(site.amplitude * time_steps, [2.0])
        np.testing.assert_array_equal(site.threshold * time_steps, [2.0])
        np.testing.assert_array_equal(site.shift, site.threshold / 2)
        x = np.linspace(-1, 3, 1001, dtype=np.float32)
        ann = 2 * np.floor(np.clip(x / 2, 0, 1) * 4 + 0.5) / 4
        # half a level of either quantiser; one part in 2^22 for float32
        assert np.abs(site.neuron.fire(x) - ann).max() <= (1 / 4 + 1 / time_steps) * (1 + 2.0**-22)
    assert finite(one.plan(time_steps=time_steps))
