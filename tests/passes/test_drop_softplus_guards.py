"""A softplus that is its input for large inputs, as PyTorch writes it."""

import numpy as np
import pytest

from tests.models import build, node
from tests.passes.checking import check, reasons

X = np.array([-30, -1, 0, 1, 7, 14.9, 15.1, 19.9, 20.1, 40], np.float32)
PLAIN = [node("Softplus", "x", "s"), node("Greater", "x t", "m"), node("Where", "m x s", "w"), node("Abs", "w", "y")]
SPELLED = [node("Exp", "x", "e"), node("Add", "e one", "f"), node("Log", "f", "s"), *PLAIN[1:]]
SCALED = [
    node("Mul", "x beta", "z"), node("Softplus", "z", "p"), node("Div", "p beta", "s"), node("Greater", "z t", "m"),
    *PLAIN[2:],
]  # fmt: skip


def model_of(nodes, held=False, **constants):
    used = {name for each in nodes for name in each.input}
    constants = {name: v for name, v in {"t": 20.0, "one": 1.0, "beta": 4.0, **constants}.items() if name in used}
    outputs = {"w": [10]} if held else {"y": [10]}
    return build(nodes, {"x": [10]}, outputs, constants)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        (PLAIN, ["Softplus", "Abs"]),
        (SPELLED, ["Exp", "Add", "Log", "Abs"]),
        (SCALED, ["Mul", "Softplus", "Div", "Abs"]),
    ],
    ids=["plain", "spelled", "scaled"],
)
def test_the_guard_goes(nodes, left):
    check(model_of(nodes), left, X, drop_softplus_guards=1)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (model_of(PLAIN, t=5.0), ["the softplus ends at 5, where it is not yet its input"]),
        (model_of(PLAIN[:-1], held=True), ["it is a graph output, or a subgraph captures it"]),
        (model_of([SCALED[0], node("Greater", "x t", "m"), *SCALED[1:3], *SCALED[4:]]), []),
        (model_of([SCALED[0], SCALED[3], SCALED[1], node("Div", "p one", "s"), *SCALED[4:]]), []),
    ],
    ids=["early", "held", "another condition", "another factor"],
)
def test_guards_that_stay(model, wanted):
    expected = [each.op_type for each in model.graph.node]
    _, reports = check(model, expected, X, drop_softplus_guards=0)
    assert reasons(reports, "drop_softplus_guards") == wanted
