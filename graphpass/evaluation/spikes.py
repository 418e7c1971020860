"""Single samples in a spiking network: what reaches each neuron, and the spikes that it sends.

    n = count(x)                the definition (maths/neuron.py), on the currents x of the folded form
    s_1 … s_T = train(n)        its train

The neurons are those of the unrolled form: of a curved activation with a threshold on x for every step, and in the
phase code behind max poolings. The folded form with its neurons placed like that gives their currents in one pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graphpass.datasets.dataset import Batch, Dataset
from graphpass.errors import DataError, ModelError, OptionError
from graphpass.evaluation.drawn import Drawn, SiteSpikes, SpikeRecord
from graphpass.evaluation.results import ConversionFacts, conversion_of
from graphpass.forms import operators
from graphpass.forms.neurons import neuron_of, within_float32
from graphpass.forms.preparation import place_thresholds, settle_pooling
from graphpass.forms.registry import form_of, reference, spiking_graph
from graphpass.forms.unrolled import fold_back
from graphpass.graph.names import site_of
from graphpass.graph.outline import outline_of
from graphpass.maths.neuron import Firing, spike_train
from graphpass.runtime.session import fixed_batch, input_specs, open_session, pad_inputs, run

Array = NDArray[Any]
FEWEST, MOST = 6, 32  # neurons of a site, where their number is not given
SHOWN = 280  # neurons of all sites together, where FEWEST allows it
CELLS = 1 << 15  # steps of all neurons together, where one neuron of each site allows it
MOST_SITES = 256
NAMED = 40  # sites in an error
VALUES = 1 << 16  # currents of one channel


@dataclass(frozen=True)
class ChannelCurrents:
    """x of one channel, and b and c of its neurons (maths.neuron.Firing). channel: None if all share a threshold."""

    channel: int | None
    values: NDArray[np.float32]
    rising: NDArray[np.float32]
    falling: NDArray[np.float32]


@dataclass(frozen=True)
class SiteCurrents:
    """x of some channels of one site over some samples. shares: how often neurons of any channel have count 0 … L."""

    site: str
    time_steps: int
    coding: str
    samples: int
    channels: int
    drawn: tuple[ChannelCurrents, ...]
    shares: tuple[float, ...]


class NeuronRun:
    """A spiking network that is run for the currents of its neurons.

    proto: the network. neurons: by the names of their nodes. site: its neurons alone, None for all.
    Raises ModelError for a network that was not converted, and for the integer form, whose neurons stand on integers;
    OptionError for an unknown site.
    """

    def __init__(self, snn: onnx.ModelProto, threads: int = 0, site: str | None = None):
        self.proto = snn
        self.conversion: ConversionFacts = conversion_of(snn)
        graph = spiking_graph(snn)
        form = form_of(graph)
        if form == "integer":
            raise ModelError("the spikes of the integer form are not recorded", "give the folded form of the same plan")
        with within_float32(ModelError, "the spiking model"):
            graph = fold_back(graph) if form == "unrolled" else settle_pooling(place_thresholds(graph))
        wanted = [each.name for each in self.conversion.sites if site in (None, each.name)]
        nodes = [n for n in graph.nodes if n.op in operators.FOLDED_NEURONS and site_of(n.name, wanted)]
        if site is not None and not nodes:
            raise OptionError(f"the network has no site {site!r}", f"choose one of {_named(self.conversion)}", "site")
        self.neurons: Mapping[str, Firing] = {node.name: neuron_of(node) for node in nodes}
        self._x = {node.name: node.inputs[0].name for node in nodes}
        inputs = {tensor.name for tensor in graph.inputs}
        names = [name for name in dict.fromkeys(self._x.values()) if name not in inputs]
        proto = reference(graph, names, self.conversion.coding)
        self._session = open_session(proto, threads=threads, use_native=False) if names else None
        self.fixed = fixed_batch(input_specs(snn))

    def of_site(self, site: str) -> list[str]:
        """The nodes of a site's neurons."""
        return [name for name in self.neurons if site_of(name, (site,))]

    def currents(self, batch: Batch) -> Mapping[str, Array]:
        """x of every node of neurons; a model of fixed batch gets the last sample as often as it takes."""
        inputs = pad_inputs(batch.inputs, self.fixed)
        found: dict[str, Array] = dict(inputs)
        if self._session:
            wanted = {value.name: inputs[value.name] for value in self._session.get_inputs()}
            found.update(run(self._session, wanted))
        return {name: found[tensor] for name, tensor in self._x.items()}


def drawn(snn: onnx.ModelProto, dataset: Dataset, threads: int = 0) -> Drawn:
    """What a report draws of a network: the spikes of the first sample (none of the integer form), and its nodes."""
    graph = spiking_graph(snn)
    sites = {site.name for site in conversion_of(snn).sites}
    spikes = None if form_of(graph) == "integer" else record_spikes(NeuronRun(snn, threads), dataset)
    return Drawn(spikes, outline_of(graph, sites))


def record_spikes(
    network: NeuronRun, dataset: Dataset, sample: int = 0, neurons: int | None = None, seed: int = 0
) -> SpikeRecord:
    """The spikes of one sample, of at most MOST_SITES sites.

    neurons: how many of each site, None for as many as a picture of all sites has room for.
    Raises DataError where there is no such sample.
    """
    batch = next(iter(dataset.batches(1, sample + 1, sample)), None)
    if batch is None:
        last = "" if dataset.samples is None else f"; the last one is {dataset.samples - 1}"
        raise DataError(f"{dataset.description}: there is no sample {sample}", f"count from 0{last}")
    facts, currents, random = network.conversion, network.currents(batch), np.random.default_rng(seed)
    shown = facts.sites[:MOST_SITES]
    count = max(1, len(shown))
    most = neurons or min(MOST, max(FEWEST, SHOWN // count), max(1, CELLS // (count * facts.time_steps)))
    sites = []
    for site in shown:
        counts = [network.neurons[name].count(currents[name]).reshape(-1) for name in network.of_site(site.name)]
        if counts:
            sites.append(_spikes(site.name, counts, network, most, random))
    return SpikeRecord(facts.time_steps, facts.coding, sample, dataset.description, len(facts.sites), tuple(sites))


def _spikes(
    name: str, counts: Sequence[Array], network: NeuronRun, most: int, random: np.random.Generator
) -> SiteSpikes:
    """A fixed batch holds the sample several times: rates are those of all, neurons are drawn from the first part."""
    facts, everything = network.conversion, np.concatenate(counts)
    rates = spike_train(everything, facts.time_steps, facts.coding).mean(1)
    one = np.concatenate([each[: max(1, each.size // (network.fixed or 1))] for each in counts])
    drawn = one[np.sort(random.choice(one.size, min(most, one.size), replace=False))]
    return SiteSpikes(name, one.size, tuple(map(int, drawn)), tuple(map(float, rates)))


def site_currents(
    network: NeuronRun, dataset: Dataset, site: str, limit: int, channel: int | None = None, channels: int = 8
) -> SiteCurrents:
    """x of a site's (first) neurons over the first `limit` samples, of one channel or of `channels` of them.

    Raises OptionError, which names what there is, for an unknown channel.
    """
    facts, node = network.conversion, network.of_site(site)[0]
    neuron, size = network.neurons[node], network.fixed or 8
    collected: dict[int, list[Array]] = {}
    counts, samples, total = np.zeros(neuron.levels, np.int64), 0, 0
    for batch in dataset.batches(size, limit):
        x = network.currents(batch)[node]
        if batch.size < size and network.fixed:
            x = x[: batch.size]
        counts += np.bincount(neuron.count(x).reshape(-1), minlength=neuron.levels)
        values = _by_channel(x, neuron)
        samples, total = samples + batch.size, len(values)
        for each in _chosen(total, channel, channels, site):
            collected.setdefault(each, []).append(values[each])
    rising, falling = (part.reshape(len(part), -1) for part in neuron.borders)
    drawn = tuple(
        ChannelCurrents(
            None if total == 1 else each,
            _thinned(np.concatenate(values)),
            rising[:, _at(rising, each)],
            falling[:, _at(falling, each)],
        )
        for each, values in collected.items()
    )
    shares = tuple(map(float, counts / max(1, counts.sum())))
    return SiteCurrents(site, facts.time_steps, facts.coding, samples, total, drawn, shares)


def _named(conversion: ConversionFacts) -> str:
    names = [repr(each.name) for each in conversion.sites]
    more = f" and {len(names) - NAMED} more that `graphpass inspect` lists" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _by_channel(x: Array, neuron: Firing) -> Array:
    """x as [channels, values]; one row where all channels share a threshold."""
    shape = np.broadcast_shapes(neuron.amplitude.shape, neuron.borders[0].shape[1:])
    axis = next((k for k, length in enumerate(reversed(shape), 1) if length > 1), None)
    if axis is None:
        return x.astype(np.float32).reshape(1, -1)
    return np.moveaxis(x, -axis, 0).astype(np.float32).reshape(x.shape[-axis], -1)


def _chosen(total: int, channel: int | None, most: int, site: str) -> list[int]:
    if channel is None:
        return sorted({int(k) for k in np.linspace(0, total - 1, min(most, total)).round()})
    if channel >= total:
        held = f"channels 0 to {total - 1}" if total > 1 else "one threshold for all channels"
        raise OptionError(f"site {site!r} has no channel {channel}", f"it has {held}", "channel")
    return [channel]


def _thinned(values: Array) -> NDArray[np.float32]:
    """At most VALUES of them, evenly spread, finite ones."""
    kept = values[np.isfinite(values)]
    return np.asarray(kept[:: max(1, -(-len(kept) // VALUES))], np.float32)


def _at(borders: Array, channel: int) -> int:
    return channel if borders.shape[1] > 1 else 0
