"""Operations, rates and site errors of a small network against loops over its spikes."""

import itertools
import json

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from graphpass.conversion import convert, dataset_for
from graphpass.datasets.sources import from_arrays
from graphpass.evaluation.counting import probe
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.forms.registry import assemble, emit, spiking_graph
from graphpass.forms.unrolled import unroll
from graphpass.graph import model
from graphpass.graph.layers import weight_layers
from graphpass.graph.plan import Plan, SitePlan
from graphpass.maths.neuron import levels_of, spike_train
from graphpass.passes.normalise import normalise
from graphpass.runtime.session import input_specs, open_session, run
from graphpass.sites.sites import find_sites
from tests import models

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
FAST = EvaluationSettings(batch=2, rounds=1, threads=1)


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
    keys = ("name", "kind", "input", "output", "layers", "levels", "lowest", "highest")
    metadata = {
        "version": "0", "time_steps": str(time_steps), "coding": coding, "levels": str(levels), "method": "optimal",
        "form": form, "model_sha256": source.digest, "data_sha256": "d" * 64, "left": "[]",
        "sites": json.dumps([{key: getattr(site, key) for key in keys} for site in sites]),
    }  # fmt: skip
    return source, emit(graph, plan, form, {f"graphpass.{key}": value for key, value in metadata.items()})


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
    found = evaluate(source, snn, dataset_of(source, x), FAST)

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


def test_the_response_to_an_offset_is_bias_and_not_counted(tmp_path):
    generator = np.random.default_rng(0)
    _, snn = converted(tmp_path, small_network(generator))
    graph = spiking_graph(snn)
    for node in graph.nodes:
        if node.op == "ParallelNeuron":
            node.inputs[4] = gs.Constant(f"{node.name}/o", np.float32([0.25]))
    unrolled = unroll(graph)
    extra = {layer.node.name for layer in weight_layers(unrolled)} - {"conv1", "conv2", "gemm"}
    assert extra == {"conv2/offset"}
    layers = probe(unrolled).layers
    assert {name: layer.stored.biases for name, layer in layers.items()} == {"conv1": 4, "conv2": 6, "gemm": 12}


@pytest.mark.parametrize("samples", [2, 3, 7])
def test_a_fixed_batch_is_filled_up(tmp_path, samples):
    generator = np.random.default_rng(5)
    source, snn = converted(tmp_path, small_network(generator, batch=3))
    x = generator.normal(size=(samples, 2, 6, 4)).astype(np.float32)
    found = evaluate(source, snn, dataset_of(source, x), FAST)
    assert found.samples == samples
    assert found.operations.samples == (3 if samples < 6 else 6)
    free = small_network(np.random.default_rng(5))
    free_source, free_snn = converted(tmp_path, free)
    counted = np.concatenate([x, x[-1:]])[:3] if samples == 2 else x[: found.operations.samples]
    same = evaluate(free_source, free_snn, dataset_of(free_source, counted), FAST)
    assert found.operations.snn == same.operations.snn
    assert found.latency.batch == 3


def test_a_loop_that_carries_a_weight_under_its_own_name_is_evaluated(tmp_path):
    """Exporters name what a loop begins with as its body does; the graph is read and written more than once."""
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [make("Identity", ["go"], ["on"]), make("Mul", ["w3", "half"], ["next"])],
        "body",
        [
            info("step", INT64, []),
            info("go", BOOL, []),
            info("w3", FLOAT, [4, 4]),
        ],
        [info("on", BOOL, []), info("next", FLOAT, [4, 4])],
    )
    rng = np.random.default_rng(3)
    weights = {name: rng.normal(size=(4, 4)).astype(np.float32) for name in ("w1", "w2", "w3")}
    constants = {**weights, "half": np.float32(0.5), "times": np.int64(2)}
    graph = onnx.helper.make_graph(
        [make("MatMul", ["x", "w1"], ["h"], "fc1"), make("Relu", ["h"], ["r"], "relu"),
         make("MatMul", ["r", "w2"], ["z"], "fc2"), make("Loop", ["times", "", "w3"], ["last"], "loop", body=body),
         make("MatMul", ["z", "last"], ["y"], "fc3")],
        "net", [info("x", FLOAT, ["N", 4])], [info("y", FLOAT, ["N", 4])],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
    )  # fmt: skip
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(proto, tmp_path / "ann.onnx")
    data = {"x": rng.normal(size=(32, 4)).astype(np.float32)}
    source = model.load(tmp_path / "ann.onnx")
    done = convert(source, data, time_steps=8, coding="phase")
    found = evaluate(source, done.proto, dataset_for(source.proto, data), FAST)
    assert found.outputs[0].relative_error < 0.02
