"""Casts to the type of another tensor."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.passes.normalise import normalise
from tests.models import FLOAT, HALF, build, mended_in, node, ops
from tests.passes.checking import check, normal, reasons

CAST = mended_in(31, "puts a cast of another type into float16 networks")


@pytest.mark.parametrize("dtype", [FLOAT, pytest.param(HALF, marks=CAST)])
def test_a_constant_in_the_type_of_the_input_is_a_constant(dtype):
    nodes = [
        node("CastLike", "half x", "a"),
        node("Mul", "x a", "b"),
        node("CastLike", "b x", "c"),
        node("Abs", "c", "y"),
    ]
    model = build(nodes, {"x": [3]}, {"y": [3]}, {"half": 0.5}, dtype=dtype, opset=21)
    check(model, ["Mul", "Abs"], normal(3, dtype=np.float32 if dtype == FLOAT else np.float16), resolve_types=2)


def test_a_type_that_is_not_known_stays_open():
    graph = gs.import_onnx(build([node("CastLike", "half x", "y")], {"x": [3]}, {"y": []}, {"half": 0.5}, opset=21))
    graph.inputs[0].dtype = None
    reports = {report.rule: report for report in normalise(graph)}
    assert ops(graph) == ["CastLike"]
    assert reasons(reports, "resolve_types") == ["the type of its second input is not known"]
