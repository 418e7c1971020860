"""Names that a conversion makes up may be names of the network: the outputs are the same, and every tool works."""

import warnings

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

import graphpass.evaluation.evaluate as evaluation
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from graphpass.datasets.sources import from_arrays
from graphpass.forms.registry import FORMS
from graphpass.graph.model import load
from graphpass.network import prepare
from graphpass.runtime.samples import run_padded
from graphpass.runtime.session import input_specs, open_session
from graphpass.sites.sites import Selection
from graphpass.verification.forms import verify
from graphpass.verification.integer import flips
from tests.fuzz.networks import network

warnings.filterwarnings("ignore", category=UserWarning)
SELECTION = Selection(identity_sites=True)


def converted(path, inputs, form, coding, plan=None):
    options = CalibrationOptions(threads=1)
    return convert(
        load(path), None if plan else inputs, form=form, coding=coding, time_steps=3, method="max", selection=SELECTION,
        options=options, plan=plan,
    )  # fmt: skip


def names_in(model: onnx.ModelProto) -> set[str]:
    graph = gs.import_onnx(model)
    return {*graph.tensors(), *(node.name for node in graph.nodes)}


def renamed(model: onnx.ModelProto, kept: set[str], made_up: list[str], seed: int) -> onnx.ModelProto:
    """The network with made-up names for its own nodes and tensors, but for those that are kept."""
    random = np.random.default_rng(seed)
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    fixed = {value.name for value in (*graph.input, *graph.output)} | kept
    tensors = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    drawn = iter(random.permutation(made_up).tolist() * 2)
    new = {}
    for name in sorted(tensors - fixed):
        fresh = next(drawn)
        if fresh not in new.values() and fresh not in fixed:
            new[name] = fresh
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for tensor in (*graph.initializer, *graph.value_info):
        tensor.name = new.get(tensor.name, tensor.name)
    free = iter(random.permutation(made_up).tolist())
    for node in graph.node:
        if node.name not in kept:
            node.name = next(free, node.name)
    return model


def outputs(proto, inputs, batch):
    return run_padded(open_session(proto, threads=1), inputs, batch, {})


@pytest.mark.parametrize(("seed", "coding"), [(12, "rate"), (16, "phase")])
@pytest.mark.parametrize("form", FORMS)
def test_names_that_meet(tmp_path, seed, form, coding, monkeypatch):
    monkeypatch.setattr(evaluation, "SHORTEST_TIMING", 0.0)
    drawn = network(seed, samples=8)
    inputs = {"x": drawn.inputs}
    onnx.save(drawn.model, tmp_path / "plain.onnx")
    plain = converted(tmp_path / "plain.onnx", inputs, form, coding)
    sites = plain.plan.sites
    kept = {name for site in sites if site.kind != "identity" for name in (site.name, site.output)}
    kept |= {site.input for site in sites if site.kind == "identity"}  # the names of identity sites come from them
    made_up = sorted(names_in(plain.proto) - names_in(prepare(load(tmp_path / "plain.onnx")).source.proto))
    assert any(name.endswith("/neuron") for name in made_up) or form == "integer"
    onnx.save(renamed(drawn.model, kept, made_up, seed), tmp_path / "odd.onnx")
    odd = converted(tmp_path / "odd.onnx", inputs, form, coding)
    batch = drawn.batch
    few = {"x": drawn.inputs[: batch or 4]}
    for name, values in outputs(odd.proto, few, batch).items():
        np.testing.assert_array_equal(values, outputs(plain.proto, few, batch)[name])
    again = converted(tmp_path / "odd.onnx", inputs, form, coding, odd.plan)
    assert again.proto.SerializeToString(deterministic=True) == odd.proto.SerializeToString(deterministic=True)
    source = odd.network.source
    data = from_arrays(few, input_specs(open_session(source.proto)))
    if form == "integer":
        folded = converted(tmp_path / "odd.onnx", inputs, "folded", coding, odd.plan).proto
        counted = flips(odd.proto, folded, data)
        twin = converted(tmp_path / "plain.onnx", inputs, "folded", coding, plain.plan).proto
        assert [site.flips for site in counted.sites] == [site.flips for site in flips(plain.proto, twin, data).sites]
    else:
        found, twin = verify(odd.proto, data), verify(plain.proto, data)
        assert found.agrees
        assert [site.neurons for site in found.sites] == [site.neurons for site in twin.sites]
        assert len(found.means) == len(twin.means)
    figures = evaluation.EvaluationSettings(limit=4, operation_samples=2, rounds=1, threads=1)
    one, two = (evaluation.evaluate(each.network.source, each.proto, data, figures).to_json() for each in (plain, odd))
    assert [site["firing_rate"] for site in one["sites"]] == [site["firing_rate"] for site in two["sites"]]
    for key in ("effective_acs", "effective_macs", "dense"):
        assert one["synaptic_operations"][key] == two["synaptic_operations"][key]
