"""Products and sums with constants as BatchNormalization, in the folded form alone."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.api import convert, verify
from graphpass.forms.batch_norms import join_products_and_sums
from graphpass.forms.registry import spiking_graph
from graphpass.forms.unrolled import spike_inputs, unroll
from graphpass.graph.model import export
from tests.models import HALF, build, node, ops, run
from tests.passes.checking import norm, norm_constants, normal

SCALE, SHIFT = np.float32([0.5, -1.5, 3, 1e-3]), np.float32([0.1, 7, -2, 0])


def network(scale=(4, 1, 1), shift=(1, 4, 1, 1), x=("N", 4, 5, 5), first="Mul", swapped=False, **more):
    """z = |x|·c + d."""
    kind = np.float16 if more.get("dtype") == HALF else np.float32
    constants = {"c": np.resize(SCALE, scale).astype(kind), "d": np.resize(SHIFT, shift).astype(kind)}
    nodes = [node("Abs", "x", "a"), node(first, "c a" if swapped else "a c", "p"), node("Add", "p d", "n")]
    nodes += [node("Identity", "n", "z"), *more.pop("nodes", [])]
    return build(nodes, {"x": x}, {"z": x, **more.pop("outputs", {})}, constants, **more)


def joined(model):
    graph = gs.import_onnx(model)
    join_products_and_sums(graph)
    return graph


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("scale", "shift", "x"),
    [((4, 1, 1), (1, 4, 1, 1), ("N", 4, 5, 5)), ((1,), (4, 1, 1), ("N", 4, 5, 5)), ((4, 1), (), ("N", 4, 6))],
)
def test_one_node_gives_the_same_numbers(scale, shift, x, swapped):
    model = network(scale, shift, x, swapped=swapped)
    graph = joined(model)
    assert ops(graph) == ["Abs", "BatchNormalization", "Identity"]
    values = np.random.default_rng(0).normal(size=(3, *x[1:])).astype(np.float32)
    np.testing.assert_allclose(run(export(graph), values)[0], run(model, values)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        network(first="Div"),
        network(scale=(5,)),
        network(shift=(5, 5)),
        network(scale=(), shift=(1,)),
        network(scale=(4,), shift=(4,), x=("N", 4)),
        network(x=("N", "C", 5, 5)),
        network(nodes=[node("Relu", "p", "r")], outputs={"r": ("N", 4, 5, 5)}),
        network(outputs={"p": ("N", 4, 5, 5)}),
        network(dtype=HALF),
    ],
    ids=[
        "quotient",
        "last axis",
        "two axes",
        "single numbers",
        "rank 2",
        "channels",
        "read elsewhere",
        "output",
        "float16",
    ],
)
def test_others_stay(model):
    graph = joined(model)
    assert "BatchNormalization" not in ops(graph)
    assert ops(graph) == [each.op_type for each in model.graph.node]


def test_the_folded_form_alone_has_them_again():
    nodes = [node("Conv", "x w", "h", pads=[1] * 4), node("AveragePool", "h", "a", kernel_shape=[2, 2])]
    nodes += [norm("a", "n"), node("Relu", "n", "r"), node("Conv", "r v", "y")]
    constants = {"w": normal(6, 3, 3, 3), "v": normal(4, 6, 1, 1), **norm_constants(6)}
    model = build(nodes, {"x": ["N", 3, 6, 6]}, {"y": ["N", 4, 5, 5]}, constants)
    x, found = {"x": normal(8, 3, 6, 6)}, {}
    for form in ("folded", "unrolled", "integer"):
        made = convert(model, x, time_steps=4, form=form, allow_partial=True)
        found[form] = [each.op_type for each in made.proto.graph.node].count("BatchNormalization")
        if form != "integer":
            assert verify(made.proto, x).agrees
    assert found == {"folded": 1, "unrolled": 0, "integer": 0}


def test_spikes_pass_them():
    """A product and a sum with constants are part of the spikes' scale and offset, in one node as in two."""
    nodes = [node("Conv", "x w", "h"), node("Relu", "h", "r"), node("Mul", "r c", "p"), node("Add", "p d", "n")]
    nodes += [node("Conv", "n v", "y", name="behind", pads=[1] * 4)]
    constants = {"w": normal(6, 3, 1, 1), "v": normal(4, 6, 3, 3), "c": normal(6, 1, 1), "d": normal(6, 1, 1)}
    model = build(nodes, {"x": ["N", 3, 6, 6]}, {"y": ["N", 4, 6, 6]}, constants)
    folded = convert(model, {"x": normal(8, 3, 6, 6)}, time_steps=4).proto
    assert "BatchNormalization" in [each.op_type for each in folded.graph.node]
    assert spike_inputs(unroll(spiking_graph(folded)))["behind"]
