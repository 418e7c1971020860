"""Energy of small networks against what loops over their spikes count."""

import json
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest

from graphpass.command_options import CommandOptions
from graphpass.errors import OptionError
from graphpass.evaluation.counting import LayerStorage, OperationCounts
from graphpass.evaluation.energy import CountedLayer, CountedNetwork, CountedNeurons, estimate
from graphpass.evaluation.evaluate import evaluate, open_pair, whole_part
from graphpass.evaluation.shards import from_text, merge
from graphpass.forms.registry import assemble, spiking_graph
from graphpass.maths.energy import MODELS, Energy, LayerWork, firing, numbers, quantising, spikes
from graphpass.maths.metrics import SpikeCount
from graphpass.maths.neuron import spike_train
from graphpass.runtime.session import open_session, run
from tests import models
from tests.evaluation.test_probing import FAST, conv_operations, converted, dataset_of, small_network

STEPS, SAMPLES = 3, 5


def of(layers):
    return sum(layers, Energy())


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("coding", ["rate", "phase"])
@pytest.mark.parametrize("form", ["folded", "unrolled"])
def test_the_energy_is_that_of_loops_over_spikes(tmp_path, form, coding, name):
    """Conv 2→4 (analogue) → neurons → grouped Conv 4→6 → neurons → Gemm 24→12."""
    generator, model = np.random.default_rng(1), MODELS[name]
    proto = small_network(generator)
    source, snn = converted(tmp_path, proto, time_steps=STEPS, coding=coding, form=form)
    x = generator.normal(size=(SAMPLES, 2, 6, 4)).astype(np.float32)
    x[:, 0, 0] = 0
    found = evaluate(source, snn, dataset_of(source, x), replace(FAST, energy_model=name)).energy

    w1, w2, w3 = (onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name[0] == "w")
    _, folded = converted(tmp_path, proto, time_steps=STEPS, coding=coding)
    graph = spiking_graph(folded)
    graph.outputs += [graph.tensors()[tensor] for tensor in ("r1", "r2")]
    y = run(open_session(assemble(graph, coding), threads=1), {"x": x})
    counts = [np.rint(y[tensor] / 0.7).astype(int) for tensor in ("r1", "r2")]
    trains = [spike_train(each, STEPS, coding).reshape(-1, *each.shape[1:]) for each in counts]
    second = {"groups": 2, "strides": (2, 2), "pads": (0, 0, 1, 0)}

    def gemm(values):
        return int(((values.reshape(len(values), -1) != 0) @ (w3 != 0).sum(0)).sum())

    first = conv_operations(x, w1, groups=1, strides=(2, 1), pads=(1, 0, 1, 2))[0]
    by_spikes = conv_operations(trains[0], w2, **second)[0], gemm(trains[1])
    by_counts = conv_operations(counts[0], w2, **second)[0], gemm(counts[1])
    sizes = (
        {"inputs": 48, "outputs": 48, "weights": 72, "biases": 4, "convolves": True, "places": 36},
        {"inputs": 48, "outputs": 24, "weights": 48, "biases": 6, "convolves": True, "places": 24},
        {"inputs": 24, "outputs": 12, "weights": 288, "biases": 12},
    )
    levels = STEPS + 1 if coding == "rate" else 2**STEPS
    bits = (levels - 1).bit_length()
    fired = [int(train.sum()) / SAMPLES for train in trains]
    work = [
        LayerWork(pairs / SAMPLES, events=events, **size)
        for pairs, events, size in zip((first, *by_spikes), (0.0, *fired), sizes, strict=True)
    ]
    sent = [replace(each, pairs=pairs / SAMPLES) for each, pairs in zip(work[1:], by_counts, strict=True)]
    expected_snn = of([
        numbers(work[0], model), *(spikes(each, model, STEPS) for each in work[1:]),
        firing(48, fired[0], levels, model, STEPS), firing(24, fired[1], levels, model, STEPS),
    ])  # fmt: skip
    expected_quantised = of([
        numbers(work[0], model, written=bits), *(numbers(each, model, bits, bits) for each in sent),
        quantising(48, levels, model), quantising(24, levels, model),
    ])  # fmt: skip
    for energy, expected in ((found.snn, expected_snn), (found.quantised, expected_quantised)):
        for part in ("arithmetic", "weights", "state", "activations"):
            assert getattr(energy, part) == pytest.approx(getattr(expected, part), rel=1e-12), part

    graph = source.graph()
    _, r1, r2 = models.run(_with_outputs(source.proto, "r1", "r2"), x)
    pairs = first, conv_operations(r1, w2, **second)[0], gemm(r2)
    ann = of(numbers(replace(each, pairs=count / SAMPLES), model) for each, count in zip(work, pairs, strict=True))
    assert found.ann.total == pytest.approx(ann.total, rel=1e-12)
    assert (found.model, found.bits) == (name, bits)
    dense = conv_operations(np.ones_like(trains[0]), np.ones_like(w2), **second)[0] + STEPS * SAMPLES * w3.size
    assert found.spikes_per_synapse == pytest.approx(STEPS * sum(by_spikes) / dense, rel=1e-12)


def _with_outputs(proto, *names):
    more = onnx.ModelProto()
    more.CopyFrom(proto)
    more.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    return more


def test_parts_hold_the_energy_bit_for_bit(tmp_path):
    generator = np.random.default_rng(4)
    source, snn = converted(tmp_path, small_network(generator))
    data = dataset_of(source, generator.normal(size=(6, 2, 6, 4)).astype(np.float32))
    part = whole_part(open_pair(source, snn, FAST), data)
    again = from_text(part.to_text())
    assert again.measured == part.measured
    assert merge([again]).energy == merge([part]).energy
    assert json.dumps(merge([again]).to_json()) == json.dumps(merge([part]).to_json())


def test_the_accessors_are_those_of_the_chosen_model(tmp_path):
    generator = np.random.default_rng(4)
    source, snn = converted(tmp_path, small_network(generator))
    data = dataset_of(source, generator.normal(size=(6, 2, 6, 4)).astype(np.float32))
    by = {name: evaluate(source, snn, data, replace(FAST, energy_model=name)) for name in MODELS}
    for name, found in by.items():
        assert found.total_energy_snn == found.energy.snn.total == found.to_json()["energy"]["snn"]["total_pj"]
        assert found.total_energy_ratio == found.energy.snn.total / found.energy.ann.total
        assert found.to_json()["energy"]["model"] == name
    first, second = by.values()
    assert first.energy_snn == second.energy_snn and first.total_energy_snn != second.total_energy_snn


@pytest.mark.parametrize("command", ["convert", "evaluate", "sweep"])
def test_a_model_that_is_not_known_is_refused_with_the_names_of_all(command):
    with pytest.raises(OptionError, match="energy_model is 'free'; give lemaire22 or horowitz45") as raised:
        CommandOptions(command, {"energy_model": "free", "evaluation": "data", "calibration": "data"})
    assert raised.value.option == "energy_model"


def test_a_conversion_that_is_not_evaluated_has_no_energy_model():
    with pytest.raises(OptionError, match="energy_model needs evaluation"):
        CommandOptions("convert", {"energy_model": "horowitz45", "calibration": "data"})


def test_without_spikes_counted_only_the_ann_is_known():
    layer = CountedLayer(OperationCounts(effective=6, dense=6, inputs=2, outputs=3), LayerStorage(weights=6))
    found = estimate("lemaire22", 1, 4, 5, CountedNetwork((layer,)), None)
    assert found.ann.total > 0 and math.isnan(found.snn.total) and math.isnan(found.quantised.total)
    assert found.spikes_per_synapse is None


def test_a_network_that_never_spikes_reads_no_weights_behind_neurons():
    counts = OperationCounts(effective=0, dense=4 * 6 * 2, inputs=4 * 2 * 2, outputs=4 * 3 * 2)
    layer = CountedLayer(counts, LayerStorage(weights=6), levels=5)
    silent = CountedNetwork((layer,), (CountedNeurons(SpikeCount(0, 4 * 2 * 2), 5),))
    found = estimate("lemaire22", 2, 4, 5, CountedNetwork(()), silent)
    assert found.snn.weights == found.snn.activations == 0
    assert found.snn.state > 0 and found.spikes_per_synapse == 0.0
