"""Evaluations that are read back from their JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

import graphpass
from graphpass.evaluation.documents import evaluation_of
from graphpass.evaluation.results import Evaluation, Timing
from graphpass.records import RecordError
from tests.models import build, node


@pytest.fixture(scope="module")
def found() -> Evaluation:
    random = np.random.default_rng(0)
    weights = {"a": random.normal(size=(6, 8)).astype(np.float32), "b": random.normal(size=(8, 4)).astype(np.float32)}
    nodes = [node("MatMul", "x a", "h"), node("Relu", "h", "r"), node("MatMul", "r b", "scores")]
    model = build(nodes, {"x": ["N", 6]}, {"scores": ["N", 4]}, weights)
    data = {"x": random.normal(size=(32, 6)).astype(np.float32), "labels": random.integers(0, 4, 32)}
    made = graphpass.convert(model, {"x": data["x"]}, time_steps=4)
    return graphpass.evaluate(model, made, data, metric=["embedding"], threads=1)


def test_what_was_written_is_read(found: Evaluation) -> None:
    document = json.loads(json.dumps(found.to_json()))
    assert evaluation_of(document, found.conversion).to_json() == document


def test_numbers_that_were_not_finite_are_null_and_come_back(found: Evaluation) -> None:
    without = replace(found, agreement=None, firing_rate=None)
    operations = replace(without.operations, snn=replace(without.operations.snn, effective_acs=float("nan")))
    document = json.loads(json.dumps(replace(without, operations=operations).to_json()))
    assert document["synaptic_operations"]["effective_acs"] is None
    assert evaluation_of(document, found.conversion).to_json() == document
    assert isinstance(found.latency.ann, Timing)


@pytest.mark.parametrize(
    "key", ["samples", "ann", "metrics", "synaptic_operations", "latency_ms", "provenance", "left"]
)
def test_what_is_missing_is_named(found: Evaluation, key: str) -> None:
    document = json.loads(json.dumps(found.to_json()))
    del document[key]
    if key == "left":  # stated by the model
        assert evaluation_of(document, found.conversion).samples == found.samples
        return
    with pytest.raises(RecordError, match=key):
        evaluation_of(document, found.conversion)
