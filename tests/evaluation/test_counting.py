"""graphpass.evaluation.counting against convolutions of masks by onnxruntime and products worked out by hand."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.evaluation.counting import layer_fan_out, probe
from graphpass.graph import model
from graphpass.graph.layers import weight_layers
from graphpass.runtime.session import open_session, run
from tests import models
from tests.properties import examples

CONVOLUTIONS = st.fixed_dictionaries(
    {
        "transposed": st.booleans(),
        "groups": st.sampled_from([1, 2]),
        "sizes": st.tuples(st.integers(3, 6), st.integers(3, 6)),
        "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "dilations": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "padding": st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "pads"]),
        "seed": st.integers(0, 99),
    }
)


@examples(40)
@given(CONVOLUTIONS)
def test_fan_out_is_what_the_runtime_convolves(case):
    """Σ over outputs of a convolution of masks by onnxruntime is Σ mask · fan-out."""
    generator = np.random.default_rng(case["seed"])
    transposed, groups = case["transposed"], case["groups"]
    shape = (4, 6 // groups) if transposed else (6, 4 // groups)
    weight = (generator.random((*shape, *case["kernel"])) < 0.5).astype(np.float32)
    attributes = {name: list(case[name]) for name in ("strides", "dilations")} | {"group": groups}
    if case["padding"] == "pads":
        attributes["pads"] = [0, 1, 1, 0] if min(case["kernel"]) > 1 else [0, 0, 0, 0]
    else:
        attributes["auto_pad"] = case["padding"]
    if case["padding"].startswith("SAME"):
        attributes["dilations"] = [1, 1]  # onnxruntime refuses them together
    reach = [(k - 1) * d + 1 for k, d in zip(case["kernel"], attributes["dilations"], strict=True)]
    if not transposed and any(r > s for r, s in zip(reach, case["sizes"], strict=True)):
        return
    op = "ConvTranspose" if transposed else "Conv"
    proto = models.build(
        [models.node(op, "x w", "y", "layer", **attributes)],
        {"x": ["N", 4, *case["sizes"]]}, {"y": ["N", "C", "H", "W"]}, {"w": weight},
    )  # fmt: skip
    mask = (generator.random((2, 4, *case["sizes"])) < 0.5).astype(np.float32)
    (y,) = models.run(proto, mask)
    (layer,) = weight_layers(gs.import_onnx(proto))
    met, dense = layer_fan_out(layer, mask.shape, y.shape)
    assert (mask.sum(0) * met).sum() == y.sum()
    (full,) = models.run(_with_ones(proto), np.ones_like(mask))
    assert dense.sum() * 2 == full.sum()


def _with_ones(proto):
    ones = onnx.ModelProto()
    ones.CopyFrom(proto)
    weight = onnx.numpy_helper.to_array(ones.graph.initializer[0])
    ones.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones_like(weight), "w"))
    return ones


@pytest.mark.parametrize(
    ("nodes", "inputs", "constants", "effective", "dense"),
    [
        # masks: a = [[1, 0], [1, 1]], b = [[0, 1], [1, 1]]; Σ_k (column sums of a)·(row sums of b)
        (["MatMul a b"], {"a": [2, 2], "b": [2, 2]}, {}, 2 * 1 + 1 * 2, 8),
        (["MatMul a w"], {"a": [2, 2]}, {"w": [[3, 0, 0], [1, 1, 0]]}, 2 * 1 + 1 * 2, 12),
        (["MatMul w a"], {"a": [2, 2]}, {"w": [[3, 0], [1, 1], [0, 1]]}, 2 * 1 + 2 * 2, 12),
        (["Gemm a w transA"], {"a": [2, 2]}, {"w": [[3, 0, 0], [1, 1, 0]]}, 1 * 1 + 2 * 2, 12),
        (["Gemm w a"], {"a": [2, 2]}, {"w": [[3, 0], [1, 1], [0, 1]]}, 2 * 1 + 2 * 2, 12),
    ],
)  # fmt: skip
def test_products_of_every_kind(nodes, inputs, constants, effective, dense):
    op, one, other, *flags = nodes[0].split()
    node = models.node(op, f"{one} {other}", "y", "product", **dict.fromkeys(flags, 1))
    proto = models.build([node], inputs, {"y": ["M", "N"]}, constants)
    values = {"a": np.float32([[5, 0], [-1, 2]]), "b": np.float32([[0, 7], [1, 1]])}
    graph = gs.import_onnx(proto)
    probes = probe(graph)
    found = run(open_session(model.export(graph), threads=1), {name: values[name] for name in inputs}, probes.names)
    counts = probes.operations(found)["product"]
    assert (counts.effective, counts.dense) == (effective, dense)
    assert probes.uncounted == ()


@pytest.mark.parametrize(
    ("line", "shape", "weight", "product"),
    [
        ("MatMul s w y", (4,), (4, 3), "nk,ko->n"),
        ("MatMul s w y", (5, 4), (4, 3), "nmk,ko->n"),
        ("MatMul w s y", (4, 5), (3, 4), "nkm,ok->n"),
        ("MatMul s w y", (2, 5, 4), (2, 4, 3), "nhmk,hko->n"),
        ("Conv s w y", (4, 6, 6), (3, 4, 1, 1), "nkyx,okab->n"),
    ],
)
def test_trains_are_counted_by_spikes_and_by_counts(line, shape, weight, product):
    """Operations are Σ of products of 0 and 1; a count is sent once where a neuron spikes at any of three steps."""
    generator, steps, samples = np.random.default_rng(2), 3, 2
    op, *inputs, output = line.split()
    spikes = (generator.random((steps * samples, *shape)) < 0.4).astype(np.float32)
    values = np.where(generator.random(weight) < 0.3, 0, 1).astype(np.float32)
    proto = models.build(
        [models.node(op, " ".join(inputs), output, "layer")],
        {"s": ["M", *shape]}, {"y": ["M", *"AB"[: len(shape) - 1], "C"]}, {"w": values},
    )  # fmt: skip
    graph = gs.import_onnx(proto)
    probes = probe(graph, {"layer"}, steps)
    found = probes.operations(run(open_session(model.export(graph), threads=1), {"s": spikes}, probes.names))["layer"]
    once = spikes.reshape(steps, samples, *shape).max(0)
    assert found.effective == np.einsum(product, spikes, values).sum()
    assert found.counts == np.einsum(product, once, values).sum() < found.effective
    assert (found.events, found.inputs) == (spikes.sum(), spikes.size)
    (y,) = models.run(proto, spikes)
    assert found.outputs == y.size and found.stored == 0
    assert found.dense == np.einsum(product, np.ones_like(spikes), np.ones_like(values)).sum()


@pytest.mark.parametrize(
    ("nodes", "constants", "weights", "biases"),
    [
        (["MatMul a w y"], {"w": (2, 3)}, 6, 0),
        (["MatMul a w m", "Add m b y"], {"w": (2, 3), "b": (3,)}, 6, 3),
        (["Gemm a w b y"], {"w": (2, 3), "b": (3,)}, 6, 3),
        (["Gemm a w y"], {"w": (2, 3)}, 6, 0),
        (["MatMul a w m", "Add m m y"], {"w": (2, 3)}, 6, 0),
    ],
)
def test_what_a_layer_has_stored(nodes, constants, weights, biases):
    made = []
    for number, line in enumerate(nodes):
        op, *inputs, output = line.split()
        made.append(models.node(op, " ".join(inputs), output, f"node{number}"))
    values = {name: np.ones(shape, np.float32) for name, shape in constants.items()}
    proto = models.build(made, {"a": [2, 2]}, {"y": ["M", "N"]}, values)
    stored = probe(gs.import_onnx(proto)).layers["node0"].stored
    assert (stored.weights, stored.biases, stored.convolves, stored.places) == (weights, biases, False, 0)


def test_a_product_that_is_not_counted_is_named():
    proto = models.build(
        [models.node("Einsum", "a b", "y", "sum_of_products", equation="ij,jk->ik")],
        {"a": [2, 2], "b": [2, 2]}, {"y": [2, 2]}, {},
    )  # fmt: skip
    assert probe(gs.import_onnx(proto)).uncounted == ("sum_of_products",)
