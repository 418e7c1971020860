"""Networks in any opset: inspect, convert, evaluate and verify agree with one another and with onnxruntime.

A seed that failed is added to SEEDS.
"""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphpass
import graphpass.evaluation.evaluate as evaluation
from graphpass.errors import CalibrationError, FormError
from graphpass.forms.registry import FORMS
from graphpass.maths.methods import METHODS
from tests.fuzz.opsets import NEWEST, OLDEST, STEPS, network
from tests.models import run
from tests.properties import examples

SEEDS = (0, 1, 2, 3, 4, 5)
FORM, CODING, METHOD = list(FORMS), ["rate", "phase"], list(METHODS)


def check(seed: int, form: str, coding: str, method: str) -> None:
    drawn = network(seed)
    fixed = drawn.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = graphpass.load(drawn.model)
        found = graphpass.inspect(source)
        try:
            done = graphpass.convert(
                source, drawn.inputs, time_steps=4, coding=coding, method=method, form=form, threads=1,
                allow_partial=True,
            )  # fmt: skip
        except (FormError, CalibrationError):  # another function in integers; numbers beyond float16
            return
        evaluated = graphpass.evaluate(source, done, drawn.inputs, threads=1)
    assert done.plan.model_digest == source.digest
    assert (found.weight_layers, found.spiking_layers) == (
        done.network.coverage.weight_layers, done.network.coverage.spiking_layers,
    )  # fmt: skip
    few = drawn.inputs[: fixed or 4]
    (given_y,), (y,) = run(drawn.model, few), graphpass.open_session(done.proto, threads=1).run(None, {"x": few})
    assert y.shape == given_y.shape and y.dtype == given_y.dtype
    whole = [run(drawn.model, drawn.inputs[k : k + len(few)])[0] for k in range(0, len(drawn.inputs), len(few))]
    ours = graphpass.open_session(done.proto, threads=1)
    made = [ours.run(None, {"x": drawn.inputs[k : k + len(few)]})[0] for k in range(0, len(drawn.inputs), len(few))]
    error = np.linalg.norm(np.float64(made) - np.float64(whole)) / (np.linalg.norm(np.float64(whole)) or 1.0)
    assert (evaluated.outputs[0].relative_error or 0.0) == pytest.approx(error, rel=1e-2, abs=1e-4)
    if form == "integer":
        return
    kinds = [layer.input for layer in evaluated.operations.layers]
    assert (kinds.count("spikes"), len(kinds)) == (found.spiking_layers, found.weight_layers)
    assert graphpass.verify(done, drawn.inputs, limit=4, threads=1).agrees


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(evaluation, "SHORTEST_TIMING", 0.0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", FORM)
def test_networks_of_any_opset(seed, form):
    check(seed, form, CODING[seed % 2], METHOD[seed % len(METHOD)])


@examples(15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORM), st.sampled_from(CODING), st.sampled_from(METHOD))
def test_networks_of_any_opset_at_random(seed, form, coding, method):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SHORTEST_TIMING", 0.0)
        check(seed, form, coding, method)


def test_every_opset_and_operator_is_drawn_and_runs():
    opsets, ops = set(), set()
    for seed in range(150):
        drawn = network(seed, samples=4)
        run(drawn.model, drawn.inputs)
        opsets.add(drawn.opset)
        ops |= {each.op_type for each in drawn.model.graph.node}
    assert opsets == set(range(OLDEST, NEWEST + 1)) and len(ops) > len(set(STEPS))
