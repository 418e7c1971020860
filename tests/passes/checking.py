"""Networks before and after normalisation: operators, rewrites, outputs."""

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.spelling import respell
from graphpass.passes.normalise import RULES, normalise
from tests.models import export, node, ops, run

# Folding reorders at most a few hundred float32 products of size about 1: 2^-24 each, 100 times for the sum.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}
# float16 weights are rounded once more after folding: 2^-11 of values up to about 10.
FLOAT16 = {"rtol": 1e-2, "atol": 2e-2}


def rng():
    return np.random.default_rng(7)


def normal(*shape, dtype=np.float32):
    return rng().standard_normal(shape).astype(dtype)


def norm_constants(channels, dtype=np.float32):
    generator = np.random.default_rng(3)
    values = generator.uniform(0.5, 1.5, (4, channels)).astype(dtype)
    return {
        "gamma": values[0] * np.where(np.arange(channels) % 2, 1, -1).astype(dtype),
        "beta": values[1],
        "mean": values[2],
        "var": values[3],
    }


def norm(x, y, **attributes):
    return node("BatchNormalization", f"{x} gamma beta mean var", y, name="bn", **attributes)


def check(model, expected_ops, feed, tolerance=FLOAT32, **rewrites):
    """Normalises; checks ops, rewrites per rule and that outputs did not change. Returns (graph, reports)."""
    respell(Path("tiny.onnx"), model)
    graph = gs.import_onnx(model)
    reports = {report.rule: report for report in normalise(graph)}
    assert list(reports) == [rule.__name__ for rule in RULES]
    assert ops(graph) == expected_ops
    for rule, count in rewrites.items():
        assert reports[rule].rewrites == count, rule
    after = export(graph)
    assert [each.name for each in after.graph.output] == [each.name for each in model.graph.output]
    assert [each.name for each in after.graph.input] == [each.name for each in model.graph.input]
    for was, now in zip(run(model, feed), run(after, feed), strict=True):
        assert was.dtype == now.dtype and was.shape == now.shape
        np.testing.assert_allclose(now, was, **tolerance)
    return graph, reports


def reasons(reports, rule):
    return [miss.reason for miss in reports[rule].misses]
