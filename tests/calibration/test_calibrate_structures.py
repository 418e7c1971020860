"""Calibration of networks with a structure of their own: fixed batches, shared weights, bodies, odd shapes, float16."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from graphpass.errors import CalibrationError
from graphpass.maths.methods import METHODS
from graphpass.runtime.session import open_session
from graphpass.runtime.session import run as run_session
from tests.calibration.networks import (
    PAD,
    PARTS,
    CalibrationCase,
    finite,
    image_net,
    images,
    plain,
    residual,
    vectors,
    weights,
)
from tests.models import build, node, run


@pytest.mark.parametrize("count", [12, 3])
def test_a_fixed_batch_with_a_short_last_one(count):
    """In batches of 5 the last is filled up with its last sample, which counts no more than once all the same."""
    fixed, free = CalibrationCase(plain(batch=5), images(count)), CalibrationCase(plain(), images(count))
    for method in ("max", "optimal"):
        plan, expected = (one.plan(method=method) for one in (fixed, free))
        assert plan.samples == count
        for got, wanted in zip(plan.sites, expected.sites, strict=True):
            # the runtime's kernels round differently for other batch sizes
            assert got.error == pytest.approx(wanted.error, rel=1e-4)
            assert all(np.allclose(getattr(got, part), getattr(wanted, part), rtol=1e-4, atol=1e-5) for part in PARTS)


@pytest.mark.parametrize("method", METHODS)
def test_an_activation_of_the_input_alone(method):
    """Then the ANN has nothing to compute that calibration asks for."""
    nodes = [node("Relu", "x", "a", "act"), node("MatMul", "a w", "y", "fc")]
    model = build(nodes, {"x": ["N", 3, 6, 6]}, {"y": ["N", 3, 6, 4]}, {"w": weights(6, 4)})
    (site,) = CalibrationCase(model, images()).plan(method=method).sites
    assert site.error < 0.1


def test_shared_weights_stay():
    model = image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Conv", "a1 c2", "h2", "conv2", **PAD), node("Relu", "h2", "a2", "act2"),
        node("Conv", "a2 c2", "h3", "conv3", **PAD), node("Relu", "h3", "last", "act3"),
    )  # fmt: skip
    plan = CalibrationCase(model, images()).plan()
    assert [layer.name for layer in plan.layers] == ["head"]


def test_a_graph_output_in_front_of_a_join_answers_for_itself():
    """conv3 must not make up for the other branch of the join where its own output is an output of the network."""
    model = residual()
    x = images()
    apart = residual()
    apart.graph.output.append(helper.make_tensor_value_info("h3", TensorProto.FLOAT, ["N", 6, 6, 6]))
    errors = []
    for one in (CalibrationCase(apart, x), CalibrationCase(model, x)):
        ann = run_session(open_session(apart, threads=1), {"x": x}, ["h3"])["h3"]
        snn = run_session(open_session(one.spiking(one.plan(time_steps=2), ["h3"]), threads=1), {"x": x}, ["h3"])["h3"]
        errors.append(np.square(ann - snn).sum())
    assert errors[0] < errors[1]


def test_a_site_without_a_channel_axis():
    """A product of two activations, and readers that see channels on different axes: one set of parameters."""
    model = build(
        [node("MatMul", "x x", "h", "mixing"), node("Relu", "h", "a", "act"),
         node("Conv", "a c", "u", "conv", **PAD),
         node("MatMul", "a w", "v", "fc"), node("Add", "u v", "y", "join")],
        {"x": ["N", 3, 6, 6]}, {"y": None}, {"c": weights(3, 3, 3, 3), "w": weights(6, 6)},
    )  # fmt: skip
    one = CalibrationCase(model, images())
    assert [site.axis for site in one.coverage().sites] == [None]
    for method in METHODS:
        plan = one.plan(method=method)
        assert plan.sites[0].shape == (1,)
        assert finite(plan)


def test_broken_activations_name_their_site():
    model = build(
        [node("Log", "x", "l", "log"), node("MatMul", "l w", "h", "fc"), node("Relu", "h", "a", "broken"),
         node("MatMul", "a w", "y", "fc2")],
        {"x": ["N", 8]}, {"y": None}, {"w": weights(8, 8)},
    )  # fmt: skip
    for method in METHODS:
        with pytest.raises(CalibrationError, match="'broken' has NaN or infinite values"):
            CalibrationCase(model, vectors()).plan(method=method)


def test_broken_values_without_a_site_name_their_layer():
    model = build(
        [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("Log", "a", "l", "log"),
         node("MatMul", "l v", "z", "broken"), node("MatMul", "a u", "y", "fc2")],
        {"x": ["N", 8]}, {"z": None, "y": None}, {name: weights(8, 8, seed=seed) for seed, name in enumerate("wuv")},
    )  # fmt: skip
    with pytest.raises(CalibrationError, match="'broken' has NaN or infinite values"):
        CalibrationCase(model, vectors()).plan()


def test_a_body_that_captures_the_output_of_a_site():
    """a is read inside the branches only by name; the SNN's side must hand on the neurons' output."""

    def body(name, *nodes):
        last = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        return helper.make_graph(list(nodes), name, [], [last])

    choice = helper.make_node(
        "If", ["flag"], ["c"], "choice", then_branch=body("then", node("Neg", "a", "p", "minus")),
        else_branch=body("else", node("Exp", "a", "q", "exp")),
    )  # fmt: skip
    model = build(
        [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("MatMul", "a v", "u", "fc2"), choice,
         node("Add", "u c", "s", "join"), node("Relu", "s", "b", "act2"), node("MatMul", "b w", "y", "fc3")],
        {"x": ["N", 8]}, {"y": None}, {"w": weights(8, 8), "v": weights(8, 8, seed=1), "flag": np.array(True)},
    )  # fmt: skip
    one = CalibrationCase(model, vectors())
    plan = one.plan(method="max")
    assert [site.name for site in plan.sites] == ["act", "act2"]
    first, second = (site.neuron for site in plan.sites)
    w, v = (next(each for each in one.graph().nodes if each.name == name).inputs[1].values for name in ("fc", "fc2"))
    a = first.fire(one.x @ w)
    y = run(one.spiking(plan), one.x)[0]
    # float32 products of 8 terms; a count would show as a difference of a tenth
    np.testing.assert_allclose(y, second.fire(a @ v - a) @ w, rtol=1e-4, atol=1e-4)


def test_a_body_that_uses_an_outer_weight():
    """Initializers of the outer graph are read by name inside a branch, too."""
    values = helper.make_tensor_value_info("p", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("MatMul", "a inner", "p", "product")], "branch", [], [values])
    choice = helper.make_node("If", ["flag"], ["c"], "choice", then_branch=branch, else_branch=branch)
    model = build(
        [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("MatMul", "a v", "u", "fc2"), choice,
         node("Add", "u c", "s", "join"), node("Relu", "s", "b", "act2"), node("MatMul", "b w", "y", "fc3")],
        {"x": ["N", 8]}, {"y": None},
        {"w": weights(8, 8), "v": weights(8, 8, seed=1), "inner": weights(8, 8, seed=2), "flag": np.array(True)},
    )  # fmt: skip
    one = CalibrationCase(model, vectors())
    plan = one.plan()
    assert len(plan.sites) == 2
    assert np.isfinite(run(one.spiking(plan), one.x)[0]).all()


def test_a_site_on_the_networks_input():
    model = build(
        [node("Relu", "x", "a", "act"), node("MatMul", "a w", "h", "fc"), node("Relu", "h", "b", "act2"),
         node("MatMul", "b w", "y", "fc2")],
        {"x": ["N", 8]}, {"y": None}, {"w": weights(8, 8)},
    )  # fmt: skip
    for method in METHODS:
        plan = CalibrationCase(model, vectors()).plan(method=method)
        assert [site.name for site in plan.sites] == ["act", "act2"]
        assert finite(plan)


def test_a_site_of_one_axis():
    """A score a sample, spread out again: its only axis is the batch."""
    model = build(
        [node("ReduceMean", "x", "m", "mean", axes=[1], keepdims=0), node("Relu", "m", "a", "act"),
         node("Unsqueeze", "a last", "u", "spread"), node("MatMul", "u w", "y", "fc")],
        {"x": ["N", 8]}, {"y": None}, {"last": np.array([1]), "w": weights(1, 8)},
    )  # fmt: skip
    one = CalibrationCase(model, vectors())
    for method in METHODS:
        plan = one.plan(method=method)
        assert finite(plan)
        assert plan.sites[0].shape == (1,)


def test_float16_networks():
    half = {name: value.astype(np.float16) for name, value in {"w": weights(8, 8), "v": weights(8, 4)}.items()}
    model = build(
        [node("MatMul", "x w", "h", "fc"), node("Relu", "h", "a", "act"), node("MatMul", "a v", "y", "fc2")],
        {"x": ["N", 8]}, {"y": None}, half, dtype=TensorProto.FLOAT16,
    )  # fmt: skip
    one = CalibrationCase(model, vectors().astype(np.float16))
    plan = one.plan(time_steps=32)
    assert plan.layers[0].weight.dtype == np.float16
    y, expected = run(one.spiking(plan), one.x)[0], run(model, one.x)[0]
    assert y.dtype == np.float16
    # 33 levels of activations up to 3: a few hundredths each
    assert np.abs(y - expected).max() < 0.2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("first", ["x a", "left x"])
def test_layers_of_one_vector(method, first):
    """Without a batch, x·W and W·x have no rows that a regression could see."""
    behind = ["r b", "s c"] if first == "x a" else ["b r", "c s"]
    shapes = (
        {"a": (8, 16), "b": (16, 6), "c": (6, 3)} if first == "x a" else {"left": (16, 8), "b": (6, 16), "c": (3, 6)}
    )
    model = build(
        [node("MatMul", first, "h", "one"), node("Relu", "h", "r", "act"),
         node("MatMul", behind[0], "i", "two"), node("Gelu", "i", "s", "curved"),
         node("MatMul", behind[1], "y", "head")],
        {"x": [8]}, {"y": None}, {name: weights(*shape) for name, shape in shapes.items()}, opset=20,
    )  # fmt: skip
    x = vectors(1)[0]
    one = CalibrationCase(model, x)
    plan = one.plan(method=method, coding="phase", time_steps=8)
    assert len(plan.sites) == 2 and finite(plan)
    before, after = run(model, x)[0], run(one.spiking(plan), x)[0]
    assert np.linalg.norm(after - before) < 0.03 * np.linalg.norm(before)  # 256 levels
