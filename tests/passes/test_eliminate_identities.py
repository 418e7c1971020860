"""Operators that return their input."""

import numpy as np

from tests.models import FLOAT, build, node
from tests.passes.checking import check, normal, reasons


def test_identities_are_removed():
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a ratio", "b"),
        node("Cast", "b", "c", to=FLOAT),
        node("Abs", "c", "d"),
        node("Dropout", "d ratio false", "e"),
        node("Relu", "e", "f"),
        node("Identity", "f", "y"),
        node("Neg", "f", "z"),
    ]
    model = build(nodes, {"x": [3]}, {"y": [3], "z": [3]}, {"ratio": 0.5, "false": np.array(False)})
    graph, _ = check(model, ["Abs", "Relu", "Neg"], normal(3), eliminate_identities=5)
    assert graph.nodes[1].outputs[0] is graph.outputs[0]


def test_an_input_that_is_an_output_survives():
    nodes = [
        node("Identity", "x", "y", name="through"),
        node("Relu", "x", "a"),
        node("Identity", "a", "z"),
        node("Identity", "a", "w", name="second"),
    ]
    model = build(nodes, {"x": [3]}, {"y": [3], "z": [3], "w": [3]}, {})
    _, reports = check(model, ["Identity", "Relu", "Identity"], normal(3), eliminate_identities=1)
    assert [miss.node for miss in reports["eliminate_identities"].misses] == ["through", "second"]


def test_dropout_in_training_mode_or_with_its_mask_stays():
    nodes = [
        node("Dropout", "x ratio true", "a", name="training", seed=1),
        node("Dropout", "a", "y m", name="mask"),
        node("Cast", "m", "z", to=FLOAT),
    ]
    model = build(nodes, {"x": [3]}, {"y": [3], "z": [3]}, {"ratio": 0.0, "true": np.array(True)})
    _, reports = check(model, ["Dropout", "Dropout", "Cast"], normal(3), eliminate_identities=0)
    assert reasons(reports, "eliminate_identities") == ["it may run in training mode", "its mask is used"]
