"""Calibration of small networks: what is decided, and that it is what the emitted network then does."""

from collections import Counter

import numpy as np
import pytest
from onnx import helper

from graphpass.calibration import memory, observation
from graphpass.calibration.calibrate import CalibrationOptions, calibrate
from graphpass.datasets.sources import from_arrays
from graphpass.errors import OptionError
from graphpass.forms.folded import fold
from graphpass.graph.model import export
from graphpass.maths.methods import METHODS
from graphpass.maths.neuron import CODINGS, levels_of
from graphpass.runtime.session import open_session
from graphpass.runtime.session import run as run_session
from tests.calibration.networks import NETWORKS, PAD, CalibrationCase, case, finite, image_net, images, vectors, weights
from tests.models import build, node, ops, run, same


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_plan_twice_bit_for_bit(name, monkeypatch):
    """Whatever the memory: the second time every tensor is spilled to files."""
    one = case(name)
    first = one.plan()
    assert finite(first)
    assert [site.name for site in first.sites] == [site.name for site in one.coverage().sites]
    assert same(one.plan(), first)
    monkeypatch.setattr(memory, "STORE_SHARE", 0)
    assert same(one.plan(), first)


def test_positions_come_from_the_seed():
    one = case("plain")
    first, other = (one.plan(positions=24, seed=seed) for seed in (0, 1))
    assert not same(first.sites, other.sites)
    assert same(one.plan(positions=24, seed=1), other)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_coding(method, coding):
    one = case("residual")
    plan = one.plan(method=method, coding=coding, time_steps=3)
    assert finite(plan)
    assert {site.levels for site in plan.sites} == {levels_of(3, coding)}
    assert (plan.method, plan.coding, plan.samples) == (method, coding, len(one.x))
    assert bool(plan.layers) == (method == "optimal")
    assert np.isfinite(run(one.spiking(plan), one.x)[0]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_optimal_errs_no_more_than_max(name):
    """At every site, and the network's output comes nearer to the ANN's."""
    one = case(name)
    optimal, largest = (one.plan(method=method) for method in ("optimal", "max"))
    for good, bad in zip(optimal.sites, largest.sites, strict=True):
        assert good.error <= bad.error
    y = run(one.model, one.x)[0]
    errors = [np.square(run(one.spiking(plan), one.x)[0] - y).sum() for plan in (optimal, largest)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("method", ["optimal", "max"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_errors_of_the_plan_are_those_of_the_emitted_network(name, method):
    """Few positions, so that the sample is all of the data: recomputed from the folded network and the ANN."""
    one = case(name)
    plan = one.plan(method=method)
    ann_graph = one.graph()
    identities = {site.output: site.input for site in plan.sites if site.kind == "identity"}
    outputs = [identities.get(site.output, site.output) for site in plan.sites]
    ann_graph.outputs = [ann_graph.tensors()[output] for output in outputs]
    ann = run_session(open_session(export(ann_graph), threads=1), {"x": one.x})
    snn = run_session(open_session(one.spiking(plan, [site.output for site in plan.sites]), threads=1), {"x": one.x})
    for site, output in zip(plan.sites, outputs, strict=True):
        a, y = ann[output].astype(np.float64), snn[site.output].astype(np.float64)
        axis = a.ndim - len(site.shape) if len(site.threshold) > 1 else None
        rest = None if axis is None else tuple(k for k in range(a.ndim) if k != axis)
        expected = np.square(y - a).sum() / np.square(a - a.mean(rest, keepdims=True)).sum()
        # "optimal" predicts the corrected x_q as x_q + U·ΔM, off by an ulp, and lays borders on values of the sample:
        # of the 60 or so rows of a channel one may be counted differently
        assert site.error == pytest.approx(expected, rel=5e-2 if method == "optimal" else 1e-4)
        # optimised and plain kernels of Sigmoid differ by 1e-7
        assert (site.lowest, site.highest) == pytest.approx((a.min(), a.max()), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("method", ["max", "optimal"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_node_runs_once_a_side(name, method, monkeypatch):
    segments, batches = [], []
    segment, run = observation.Walk.segment, observation.Reduced.run

    def recorded(self, nodes, fetch, example, functions=()):
        segments.append([each.name for each in nodes])
        return segment(self, nodes, fetch, example, functions)

    def counted(self, inputs):
        batches.append(len(inputs["x"]))
        return run(self, inputs)

    monkeypatch.setattr(observation.Walk, "segment", recorded)
    monkeypatch.setattr(observation.Reduced, "run", counted)
    one = case(name)
    plan = one.plan(method=method)
    ran = Counter(each for segment in segments for each in segment)
    assert set(ran.values()) == {1}
    assert {f"{site.name}/neuron" for site in plan.sites} <= set(ran)
    first, *rest = batches  # one sample shows how large the tensors are
    assert (first, sum(rest)) == (1, len(one.x))


def test_what_is_stored_goes_when_nothing_needs_it(monkeypatch):
    held = []
    original = observation.Walk.finish

    def watched(self, nodes, *live):
        original(self, nodes, *live)
        held.append({name for name, _ in (*self.store._held, *self.store._spilled)})

    monkeypatch.setattr(observation.Walk, "finish", watched)
    case("residual").plan()
    assert held[0] == {"a1"}  # act1: x is gone
    assert held[1] == {"a1", "a2"}  # the join waits for a1
    assert held[2] == {"last"}
    assert held[-1] == set()


@pytest.mark.parametrize(
    ("name", "corrected"),
    [
        ("plain", ["conv2", "head"]),
        ("residual", ["conv2", "conv3", "head"]),
        ("projected", ["conv2", "conv3", "head"]),
        ("preactivated", ["conv2", "conv3", "head", "shortcut"]),
        ("overtaken", ["conv2", "conv3", "head", "side"]),
        ("grouped", ["depthwise", "grouped", "head"]),
        ("transformer", ["down", "k", "out", "q", "up", "v"]),
    ],
)
def test_layers_behind_neurons_are_corrected(name, corrected):
    """All but the first, whose input is the same on both sides."""
    one = case(name)
    plan = one.plan()
    assert sorted(layer.name for layer in plan.layers) == corrected
    shapes = {each.name: tuple(each.inputs[1].shape) for each in one.graph().nodes if each.name in corrected}
    assert {layer.name: layer.weight.shape for layer in plan.layers} == shapes


def test_a_matmul_without_bias_gets_one():
    one = case("plain")
    plan = one.plan()
    head = plan.layers[-1]
    assert np.any(head.bias_change)
    graph = fold(one.graph(), plan)
    assert ops(graph) == [
        "Conv",
        "ParallelNeuron",
        "Conv",
        "ParallelNeuron",
        "GlobalAveragePool",
        "Flatten",
        "MatMul",
        "Add",
    ]


@pytest.mark.parametrize(
    ("activation", "attributes", "steps", "free"),
    [
        ("Relu", PAD, 8, False),
        ("Relu", PAD, 2, True),  # few levels want it
        ("Relu", {}, 8, True),  # no padding
        ("Elu", PAD, 8, True),  # its zero is no level of its own
        ("Relu", PAD, 8, None),  # not asked for
    ],
)
def test_neurons_that_meet_padding_have_no_offset(activation, attributes, steps, free):
    nodes = [
        node("Conv", "x c1 b", "d1", "conv1", **PAD),
        node(activation, "d1", "a1", "act1"),
        node("Conv", "a1 c2 b", "h2", "conv2", **attributes),
        node("Relu", "h2", "last", "act2"),
    ]
    (site,) = (
        each
        for each in CalibrationCase(image_net(*nodes), images())
        .plan(time_steps=steps, exact_padding=free is not None)
        .sites
        if each.name == "act1"
    )
    assert bool(np.any(site.offset)) is (free is not False)


@pytest.mark.parametrize("name", ["preactivated", "transformer"])
def test_the_plan_has_the_ranges_of_analogue_tensors(name):
    model, data = NETWORKS[name]
    one = CalibrationCase(model(), data())
    found = one.plan().ranges
    assert found
    probed = export(one.graph())
    inside = [each for each in found if each != "x"]
    probed.graph.output.extend(helper.ValueInfoProto(name=each) for each in inside)
    values = run(probed, one.x)[-len(inside) :] if inside else []
    known = {"x": one.x, **dict(zip(inside, values, strict=True))}
    for tensor, limits in found.items():
        # batches of other sizes may sum in another order
        assert limits == pytest.approx((known[tensor].min(), known[tensor].max()), rel=1e-5)


def test_more_time_steps_come_nearer():
    one = case("residual")
    y = run(one.model, one.x)[0]
    errors = [np.square(run(one.spiking(one.plan(time_steps=steps)), one.x)[0] - y).sum() for steps in (2, 8, 64)]
    assert errors == sorted(errors, reverse=True)


def test_options_are_checked():
    for wrong in (
        {"method": "best"},
        {"time_steps": 0},
        {"coding": "burst"},
        {"positions": 0},
        {"batch": 0},
        {"memory": 5},
    ):
        with pytest.raises(OptionError):
            CalibrationOptions(**wrong)


def test_progress_is_told():
    one, reported = case("plain"), []
    dataset = from_arrays({"x": one.x}, one.specs)
    options = CalibrationOptions(time_steps=4, threads=1)
    calibrate(one.graph(), one.coverage(), dataset, options, progress=lambda *step: reported.append(step))
    assert reported[:3] == [("running the network", 0, 1), ("running the network", 1, 1), ("calibrating", 0, 3)]
    assert reported[-1] == ("calibrating", 3, 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_clip_that_begins_below_zero(method):
    net = build(
        [node("Gemm", "x w", "h", "in"), node("Clip", "h low high", "a", "clip"), node("Gemm", "a v", "y", "out")],
        {"x": ["N", 8]},
        {"y": None},
        {"w": weights(8, 16), "v": weights(16, 4, seed=1), "low": np.float32(-1), "high": np.float32(1)},
    )
    case = CalibrationCase(net, vectors())
    (site,) = case.plan(time_steps=32, method=method).sites
    # A step over −1 … 1 is 1/16, its rounding 1/55 in the root mean square; of a spread of about 1 that is 3e-4.
    assert site.error < 1e-2
    assert site.offset.min() < -0.5
