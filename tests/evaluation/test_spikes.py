"""Recorded spikes are those of the unrolled form, train by train, and currents those that its neurons get."""

from typing import Any

import numpy as np
import pytest

import graphpass
from graphpass.datasets.sources import from_arrays
from graphpass.errors import DataError, ModelError, OptionError
from graphpass.evaluation import spikes
from graphpass.evaluation.spikes import NeuronRun, drawn, record_spikes, site_currents
from graphpass.forms import operators
from graphpass.forms.registry import reference, spiking_graph
from graphpass.forms.unrolled import unroll
from graphpass.graph.names import site_of
from graphpass.maths.neuron import spike_train
from graphpass.runtime.session import input_specs, open_session, run
from tests.forms.test_curved_networks import X, network
from tests.models import build, node

ALL = 1 << 20


def converted(kind: str = "leaky_relu", form: str = "folded", **options: Any) -> graphpass.Conversion:
    return graphpass.convert(network(kind), X[:16], form=form, method="max", threads=1, **options)


def dataset(snn: Any, x: np.ndarray = X[:4]) -> Any:
    return from_arrays({"x": x}, input_specs(snn))


def unrolled_trains(snn: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes [T, ...] of every node of the unrolled form, by running it."""
    graph = unroll(spiking_graph(snn))
    nodes = [each for each in graph.nodes if each.op in operators.TRAIN_NEURONS]
    proto = reference(graph, [each.outputs[0].name for each in nodes], nodes[0].attrs["coding"])
    found = run(open_session(proto, threads=1, use_native=False), {"x": x})
    steps = nodes[0].attrs["time_steps"]
    return {each.name: found[each.outputs[0].name].reshape(steps, len(x), -1) for each in nodes}


@pytest.mark.parametrize("kind", ["silu", "relu_squared", "leaky_relu", "absolute"])
@pytest.mark.parametrize(("coding", "time_steps"), [("rate", 5), ("phase", 3)])
def test_spikes_are_those_of_the_unrolled_form(kind: str, coding: str, time_steps: int) -> None:
    """Also with a threshold for every step. Neurons that only send counts again, behind poolings, are of no site."""
    done = converted(kind, time_steps=time_steps, coding=coding)
    ran = NeuronRun(done.proto, 1)
    record = record_spikes(ran, dataset(done.proto), sample=2, neurons=ALL)
    trains = unrolled_trains(done.proto, X[2:3])
    names = [site.name for site in done.plan.sites]
    assert sorted(ran.neurons) == sorted(name for name in trains if site_of(name, names))
    assert [site.name for site in record.sites] == names
    for site in record.sites:
        fired = np.concatenate([trains[name][:, 0] for name in ran.of_site(site.name)], axis=1)
        assert site.neurons == fired.shape[1] == len(site.counts)
        np.testing.assert_array_equal(record.trains(site).T, fired)
        np.testing.assert_array_equal(site.rates, fired.astype(np.uint8).mean(1))


def test_the_unrolled_form_gives_the_same_record() -> None:
    folded, unrolled = (converted("silu", form, time_steps=3) for form in ("folded", "unrolled"))
    records = [record_spikes(NeuronRun(done.proto, 1), dataset(done.proto)) for done in (folded, unrolled)]
    assert records[0] == records[1]


def test_rates_are_those_of_the_evaluation() -> None:
    done = converted(time_steps=4)
    found = graphpass.evaluate(network("leaky_relu"), done, X[:1], threads=1)
    assert found.drawn and found.drawn.spikes
    rates = {site.name: float(np.mean(site.rates)) for site in found.drawn.spikes.sites}
    assert rates == pytest.approx({site.name: site.firing_rate for site in found.sites}, rel=1e-12)


def test_neurons_are_drawn_at_random_and_evenly() -> None:
    record = record_spikes(NeuronRun(converted(time_steps=4).proto, 1), dataset(converted(time_steps=4).proto))
    assert {len(site.counts) for site in record.sites} == {spikes.MOST}
    few = record_spikes(NeuronRun(converted(time_steps=4).proto, 1), dataset(converted(time_steps=4).proto), neurons=3)
    assert {len(site.counts) for site in few.sites} == {3} and few.sites[0].rates == record.sites[0].rates


def test_a_fixed_batch_gives_what_a_free_one_gives() -> None:
    def net(batch: int | str) -> Any:
        random = np.random.default_rng(1)
        weights = {name: random.normal(size=size).astype(np.float32) for name, size in (("w", (3, 4)), ("v", (4, 2)))}
        nodes = [node("Gemm", "x w", "h", "a"), node("Relu", "h", "r", "relu"), node("Gemm", "r v", "y", "b")]
        return build(nodes, {"x": [batch, 3]}, {"y": [batch, 2]}, weights)

    x = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32)
    free = graphpass.convert(net("N"), x, time_steps=4, threads=1)
    fixed = graphpass.convert(net(3), x, time_steps=4, threads=1)
    records = [
        record_spikes(NeuronRun(each.proto, 1), from_arrays({"x": x}, input_specs(each.proto)), 4)
        for each in (free, fixed)
    ]
    assert records[0].sites == records[1].sites and records[0].sites[0].neurons == 4


def test_large_networks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    done = converted(time_steps=8)
    monkeypatch.setattr(spikes, "MOST_SITES", 1)
    monkeypatch.setattr(spikes, "CELLS", 16)
    record = record_spikes(NeuronRun(done.proto, 1), dataset(done.proto))
    assert (len(record.sites), record.all_sites) == (1, len(done.plan.sites))
    assert len(record.sites[0].counts) == 2  # of 8 steps each


@pytest.mark.parametrize("kind", ["silu", "leaky_relu"])
def test_currents_and_borders_give_the_counts(kind: str) -> None:
    """n = #{k : x ≥ b_k} + #{k : x < c_k} of the values of a channel, against the trains of the unrolled form."""
    done = converted(kind, time_steps=5)
    site = done.plan.sites[1].name
    found = site_currents(NeuronRun(done.proto, 1, site), dataset(done.proto), site, limit=4, channels=ALL)
    assert (found.samples, found.channels, [each.channel for each in found.drawn]) == (4, 8, list(range(8)))
    (train,) = (t for name, t in unrolled_trains(done.proto, X[:4]).items() if site_of(name, [site]))
    fired = train.reshape(5, 4, 8, -1).sum(0)
    for channel, each in enumerate(found.drawn):
        counts = (each.values >= each.rising[:, None]).sum(0) + (each.values < each.falling[:, None]).sum(0)
        np.testing.assert_array_equal(counts.reshape(4, -1), fired[:, channel])
    np.testing.assert_allclose(found.shares, np.bincount(fired.astype(int).reshape(-1), minlength=6) / fired.size)


def test_one_channel_or_evenly_spread_ones() -> None:
    done = converted(time_steps=2)
    site = done.plan.sites[0].name
    ran = NeuronRun(done.proto, 1, site)
    assert [each.channel for each in site_currents(ran, dataset(done.proto), site, 2, channels=3).drawn] == [0, 4, 7]
    assert [each.channel for each in site_currents(ran, dataset(done.proto), site, 2, channel=5).drawn] == [5]
    with pytest.raises(OptionError, match="has no channel 8; it has channels 0 to 7"):
        site_currents(ran, dataset(done.proto), site, 2, channel=8)


def test_what_is_refused_says_what_there_is() -> None:
    done = converted(time_steps=2)
    with pytest.raises(OptionError, match=f"no site 'nowhere'; choose one of '{done.plan.sites[0].name}', "):
        NeuronRun(done.proto, 1, "nowhere")
    with pytest.raises(DataError, match="there is no sample 4; count from 0"):
        record_spikes(NeuronRun(done.proto, 1), dataset(done.proto), sample=4)
    integer = graphpass.convert(network("leaky_relu"), X[:16], form="integer", time_steps=4, threads=1)
    with pytest.raises(ModelError, match=r"integer form .* give the folded form"):
        NeuronRun(integer.proto)
    assert drawn(integer.proto, dataset(integer.proto)).spikes is None
    with pytest.raises(ModelError, match="metadata"):
        NeuronRun(network("leaky_relu"))


def test_trains_follow_the_definition() -> None:
    record = record_spikes(
        NeuronRun(converted(time_steps=3, coding="phase").proto, 1), dataset(converted(time_steps=3).proto)
    )
    site = record.sites[0]
    np.testing.assert_array_equal(record.trains(site), spike_train(np.array(site.counts), 3, "phase").T)
