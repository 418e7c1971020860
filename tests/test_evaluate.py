"""graphpass.evaluate on small networks: counts against loops over spikes, and what it refuses."""

import dataclasses
import itertools
import json

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpass.data import from_arrays
from graphpass.errors import DataError, ModelError, OptionError
from graphpass.evaluate import Options, evaluate
from graphpass.graph import model
from graphpass.graph.baseline import quantise_sites, rounding
from graphpass.graph.counting import layer_fan_out, probe
from graphpass.graph.emit import assemble, emit, spiking_graph
from graphpass.graph.layers import weight_layers
from graphpass.graph.normalise import normalise
from graphpass.graph.plan import Plan, SitePlan
from graphpass.graph.sites import find_sites
from graphpass.graph.unrolled import unroll
from graphpass.maths.neuron import levels_of, spike_train
from graphpass.session import input_specs, open_session, run
from tests import models

FAST = {"rounds": 1, "threads": 1}


def small_network(generator, batch="N", classes=12):
    """Conv (pad, stride) → Relu → grouped Conv → Relu → Flatten → Gemm, with some weights zero."""

    def weights(*shape):
        values = generator.normal(size=shape).astype(np.float32)
        return np.where(generator.random(shape) < 0.3, np.float32(0), values)

    constants = {
        "w1": weights(4, 2, 3, 3), "b1": weights(4), "w2": weights(6, 2, 2, 2), "b2": weights(6),
        "w3": weights(classes, 24), "b3": weights(classes),
    }  # fmt: skip
    nodes = [
        models.node("Conv", "x w1 b1", "c1", "conv1", pads=[1, 0, 1, 2], strides=[2, 1]),
        models.node("Relu", "c1", "r1", "relu1"),
        models.node("Conv", "r1 w2 b2", "c2", "conv2", group=2, pads=[0, 0, 1, 0], strides=[2, 2]),
        models.node("Relu", "c2", "r2", "relu2"),
        models.node("Flatten", "r2", "f", "flatten"),
        models.node("Gemm", "f w3 b3", "y", "gemm", transB=1),
    ]
    return models.build(nodes, {"x": [batch, 2, 6, 4]}, {"y": [batch, classes]}, constants)


def converted(tmp_path, proto, *, time_steps=3, coding="rate", form="folded"):
    """Source and SNN with hand-made neurons and the metadata that convert writes."""
    path = tmp_path / "ann.onnx"
    onnx.save(proto, path)
    source = model.load(path)
    graph = source.graph()
    normalise(graph)
    levels = levels_of(time_steps, coding)
    sites = tuple(
        SitePlan(
            site.name, site.kind, site.input, site.output, site.layers, (1,), levels,
            *(np.float32([value]) for value in (0.7, 0.35, 0.7, 0.0)), lowest=0.0, highest=2.0,
        )
        for site in find_sites(graph).sites
    )  # fmt: skip
    plan = Plan(time_steps, coding, "optimal", sites)
    keys = ("name", "kind", "input", "output", "layers", "lowest", "highest")
    told = {
        "version": "0", "time_steps": str(time_steps), "coding": coding, "levels": str(levels), "method": "optimal",
        "form": form, "model_sha256": source.digest, "data_sha256": "d" * 64, "left": "[]",
        "sites": json.dumps([{key: getattr(site, key) for key in keys} for site in sites]),
    }  # fmt: skip
    return source, emit(graph, plan, form, {f"graphpass.{key}": value for key, value in told.items()})


def dataset_of(source, x, labels=None):
    specs = input_specs(open_session(source.proto, threads=1))
    return from_arrays({"x": x} if labels is None else {"x": x, "labels": labels}, specs)


def conv_operations(x, weight, *, groups, strides, pads):
    """Loop over every output and tap: both counts, by definition. x: [N, C, H, W]."""
    effective = dense = 0
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    height = (x.shape[2] + pads[0] + pads[2] - weight.shape[2]) // strides[0] + 1
    width = (x.shape[3] + pads[1] + pads[3] - weight.shape[3]) // strides[1] + 1
    for n, o, i, oy, ox, ky, kx in itertools.product(
        *map(range, (len(x), weight.shape[0], inputs, height, width, *weight.shape[2:]))
    ):
        y, column = oy * strides[0] + ky - pads[0], ox * strides[1] + kx - pads[1]
        if 0 <= y < x.shape[2] and 0 <= column < x.shape[3]:
            dense += 1
            channel = (o // outputs) * inputs + i
            effective += bool(x[n, channel, y, column]) and bool(weight[o, i, ky, kx])
    return effective, dense


@pytest.mark.parametrize("coding", ["rate", "phase"])
@pytest.mark.parametrize("form", ["folded", "unrolled"])
def test_operations_and_rates_are_those_of_loops_over_spikes(tmp_path, coding, form):
    generator = np.random.default_rng(1)
    proto = small_network(generator)
    source, snn = converted(tmp_path, proto, coding=coding, form=form)
    x = generator.normal(size=(5, 2, 6, 4)).astype(np.float32)
    x[:, 0, 0] = 0
    found = evaluate(source, snn, dataset_of(source, x), Options(batch=2, **FAST))

    w1, w2, w3 = (onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name[0] == "w")
    _, folded = converted(tmp_path, proto, coding=coding)
    graph = spiking_graph(folded)
    tensors = graph.tensors()
    graph.outputs += [tensors["r1"], tensors["r2"]]
    spiking = run(open_session(assemble(graph, coding), threads=1), {"x": x})
    trains = [spike_train(np.rint(spiking[name] / 0.7).astype(int), 3, coding) for name in ("r1", "r2")]
    first = conv_operations(x, w1, groups=1, strides=(2, 1), pads=(1, 0, 1, 2))
    second = conv_operations(trains[0].reshape(15, 4, 3, 4), w2, groups=2, strides=(2, 2), pads=(0, 0, 1, 0))
    flat = trains[1].reshape(15, -1)
    third = int((flat @ (w3 != 0).sum(0)).sum()), 15 * w3.size

    operations = found.operations
    assert operations.samples == 5
    assert [(layer.name, layer.input) for layer in operations.layers] == [
        ("conv1", "analogue"), ("conv2", "spikes"), ("gemm", "spikes"),
    ]  # fmt: skip
    counts = [(round(layer.effective * 5), round(layer.dense * 5)) for layer in operations.layers]
    assert counts == [first, second, third]
    assert operations.snn.effective_macs * 5 == pytest.approx(first[0], rel=1e-12)  # one division
    assert operations.snn.effective_acs * 5 == pytest.approx(second[0] + third[0], rel=1e-12)
    energy = 4.6 * first[0] + 0.9 * (second[0] + third[0])
    assert found.energy_snn * 5 == pytest.approx(energy, rel=1e-12)

    rates = [train.mean() for train in trains]
    assert [site.firing_rate for site in found.sites] == pytest.approx(rates, rel=1e-12)
    assert [site.neurons for site in found.sites] == [48, 24]
    assert found.firing_rate == pytest.approx((rates[0] * 48 + rates[1] * 24) / 72, rel=1e-12)

    ann = models.run(proto, x)
    graph = source.graph()
    graph.outputs += [graph.tensors()[name] for name in ("r1", "r2")]
    _, r1, r2 = models.run(model.export(graph), x)
    second = conv_operations(r1, w2, groups=2, strides=(2, 2), pads=(0, 0, 1, 0))
    third = int(((r2.reshape(5, -1) != 0) @ (w3 != 0).sum(0)).sum()), 5 * w3.size
    both = [sum(each) for each in zip(first, second, third, strict=True)]
    assert operations.ann.effective_macs * 5 == pytest.approx(both[0], rel=1e-12)
    assert operations.ann.dense * 5 == pytest.approx(both[1], rel=1e-12)
    assert operations.ann.effective_acs == 0
    assert found.agreement == np.mean(ann[0].argmax(1) == spiking["y"].argmax(1))
    if form == "folded":
        spread = np.square(r1.astype(np.float64) - r1.mean(dtype=np.float64)).sum()
        expected = np.square(spiking["r1"].astype(np.float64) - r1).sum() / spread
        # Σ a² − n·ā² against Σ (a − ā)² in float64, float32 inputs
        assert found.sites[0].error == pytest.approx(expected, rel=1e-6)
    else:
        assert [site.error for site in found.sites] == [None, None]


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


@settings(max_examples=40, deadline=None)
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


def test_a_product_that_is_not_counted_is_named():
    proto = models.build(
        [models.node("Einsum", "a b", "y", "sum_of_products", equation="ij,jk->ik")],
        {"a": [2, 2], "b": [2, 2]}, {"y": [2, 2]}, {},
    )  # fmt: skip
    assert probe(gs.import_onnx(proto)).uncounted == ("sum_of_products",)


def test_the_response_to_an_offset_is_bias_and_not_counted(tmp_path):
    generator = np.random.default_rng(0)
    source, snn = converted(tmp_path, small_network(generator))
    graph = spiking_graph(snn)
    for node in graph.nodes:
        if node.op == "ParallelNeuron":
            node.inputs[4] = gs.Constant(f"{node.name}/o", np.float32([0.25]))
    unrolled = unroll(graph)
    extra = {layer.node.name for layer in weight_layers(unrolled)} - {"conv1", "conv2", "gemm"}
    assert extra == {"conv2/offset"}
    assert set(probe(unrolled).layers) == {"conv1", "conv2", "gemm"}


@pytest.mark.parametrize(("low", "high", "levels"), [(0.0, 6.0, 16), (-1.0, 3.0, 9), (0.0, 0.0, 4), (-2.0, -1.0, 5)])
def test_baseline_rounds_to_the_grid_of_min_max(low, high, levels):
    @dataclasses.dataclass(frozen=True)
    class Site:
        name: str = "site"
        output: str = "r"
        lowest: float = low
        highest: float = high

    lowest, highest = min(low, 0.0), max(high, 0.0)
    scale = (highest - lowest) / (levels - 1) or 1.0
    zero = round(-lowest / scale)
    # half-way points aside, where the neuron rounds up and numpy to even
    x = (np.arange(-20, 60) + 0.25).astype(np.float32) * np.float32(scale / 3)
    expected = (np.clip(np.rint(x / scale) + zero, 0, levels - 1) - zero) * scale
    neuron = rounding(Site(), levels).neuron
    assert neuron.fire(x) == pytest.approx(expected, rel=1e-5, abs=1e-6)  # float32 products
    assert neuron.fire(np.zeros(1, np.float32)) == 0.0

    proto = models.build(
        [models.node("Relu", "x", "r", "relu"), models.node("Neg", "r", "y", "neg")], {"x": ["N"]}, {"y": ["N"]}, {}
    )
    graph = quantise_sites(gs.import_onnx(proto), [Site()], {"site": levels}, 4, "rate")
    y = run(open_session(assemble(graph, "rate"), threads=1), {"x": x})["y"]
    assert (y == -neuron.fire(np.maximum(x, 0))).all()


def test_accuracy_with_labels_and_the_baseline(tmp_path):
    generator = np.random.default_rng(3)
    source, snn = converted(tmp_path, small_network(generator))
    x = generator.normal(size=(20, 2, 6, 4)).astype(np.float32)
    (scores,) = models.run(source.proto, x)
    labels = scores.argmax(1)
    labels[:5] = np.argsort(scores[:5], axis=1)[:, -3]  # third: a miss for top-1, a hit for top-5
    found = evaluate(source, snn, dataset_of(source, x, labels), Options(**FAST))
    assert (found.ann.top1, found.ann.top5) == (0.75, 1.0)
    assert found.class_output == "y"
    (snn_scores,) = run(open_session(snn, threads=1), {"x": x}).values()
    assert found.snn.top1 == np.mean(snn_scores.argmax(1) == labels)
    expected = np.linalg.norm(snn_scores - scores) / np.linalg.norm(scores)
    assert found.outputs[0].relative_error == pytest.approx(expected, rel=1e-4)  # float32 norms here
    assert found.baseline.levels == 4
    assert found.baseline.accuracy.top1 is not None
    assert found.baseline.agreement >= 0.5  # four levels between 0 and 2 keep most of a one-layer-deep decision


def test_few_classes_have_no_top5_and_no_labels_no_accuracy(tmp_path):
    generator = np.random.default_rng(4)
    source, snn = converted(tmp_path, small_network(generator, classes=9))
    x = generator.normal(size=(4, 2, 6, 4)).astype(np.float32)
    labelled = evaluate(source, snn, dataset_of(source, x, np.zeros(4, np.int64)), Options(**FAST))
    assert labelled.ann.top1 is not None
    assert labelled.ann.top5 is None
    bare = evaluate(source, snn, dataset_of(source, x), Options(**FAST))
    assert (bare.ann.top1, bare.snn.top1, bare.baseline.accuracy.top1) == (None, None, None)
    assert bare.agreement is not None


@pytest.mark.parametrize("samples", [2, 3, 7])
def test_a_fixed_batch_is_filled_up(tmp_path, samples):
    generator = np.random.default_rng(5)
    source, snn = converted(tmp_path, small_network(generator, batch=3))
    x = generator.normal(size=(samples, 2, 6, 4)).astype(np.float32)
    found = evaluate(source, snn, dataset_of(source, x), Options(**FAST))
    assert found.samples == samples
    assert found.operations.samples == (3 if samples < 6 else 6)
    free = small_network(np.random.default_rng(5))
    free_source, free_snn = converted(tmp_path, free)
    counted = np.concatenate([x, x[-1:]])[:3] if samples == 2 else x[: found.operations.samples]
    same = evaluate(free_source, free_snn, dataset_of(free_source, counted), Options(**FAST))
    assert found.operations.snn == same.operations.snn
    assert found.latency.batch == 3


def test_one_probability_is_cut_at_a_half(tmp_path):
    nodes = [
        models.node("Gemm", "x w", "h", "first"), models.node("Relu", "h", "r", "relu"),
        models.node("Gemm", "r v", "z", "second"), models.node("Sigmoid", "z", "y", "sigmoid"),
    ]  # fmt: skip
    proto = models.build(nodes, {"x": ["N", 2]}, {"y": ["N", 1]}, {"w": [[1, -1], [1, 1]], "v": [[1], [-1]]})
    source, snn = converted(tmp_path, proto)
    x = np.float32([[2, 0], [-2, 0], [1, 2]])
    (probabilities,) = models.run(proto, x)
    labels = (probabilities[:, 0] >= 0.5).astype(np.int64)
    found = evaluate(source, snn, dataset_of(source, x, labels), Options(**FAST))
    assert set(labels) == {0, 1}
    assert found.ann.top1 == 1.0
    with pytest.raises(DataError, match="label 2 is not one of the 2 classes"):
        evaluate(source, snn, dataset_of(source, x, labels + 1), Options(**FAST))


def test_what_it_refuses(tmp_path):
    generator = np.random.default_rng(6)
    source, snn = converted(tmp_path, small_network(generator))
    x = generator.normal(size=(2, 2, 6, 4)).astype(np.float32)
    data = dataset_of(source, x)
    with pytest.raises(DataError, match="label 12 is not one of the 12 classes"):
        evaluate(source, snn, dataset_of(source, x, np.array([0, 12])), Options(**FAST))
    with pytest.raises(DataError, match="name no classes"):
        evaluate(source, snn, dataset_of(source, x, np.zeros((2, 3), np.int64)), Options(**FAST))
    with pytest.raises(OptionError, match="no output 'z'"):
        evaluate(source, snn, data, Options(output="z", **FAST))
    with pytest.raises(OptionError, match="at least 1"):
        Options(rounds=0)
    with pytest.raises(ModelError, match="was not converted from"):
        evaluate(dataclasses.replace(source, digest="0" * 64), snn, data)
    for key, value, what in (
        ("levels", "7", "damaged"), ("sites", "[{}]", "damaged"), ("form", "round", "not known"),
        ("time_steps", "many", "damaged"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=what):
            evaluate(source, _with_metadata(snn, key, value), data)
    bare = _with_metadata(snn, "left", None)
    with pytest.raises(ModelError, match=r"lacks the metadata graphpass\.left; convert it with graphpass"):
        evaluate(source, bare, data)


def _with_metadata(snn, key, value):
    changed = onnx.ModelProto()
    changed.CopyFrom(snn)
    del changed.metadata_props[:]
    for entry in snn.metadata_props:
        new = value if entry.key == f"graphpass.{key}" else entry.value
        if new is not None:
            changed.metadata_props.add(key=entry.key, value=new)
    return changed
