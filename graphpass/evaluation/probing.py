"""Run graphs with probes over some samples: operations of ANN and SNN, spikes, and errors of the sites.

Errors of sites compare tensors of the folded form with the ANN's. An unrolled model has none: its trains are spikes
without scale.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.datasets.dataset import Batch, Dataset
from graphpass.errors import ModelError
from graphpass.evaluation.counting import OperationCounts, Probes, probe
from graphpass.evaluation.energy import CountedLayer, CountedNetwork, CountedNeurons, estimate
from graphpass.evaluation.results import ConversionFacts, LayerResult, OperationCount, SiteResult
from graphpass.forms.neurons import within_float32
from graphpass.forms.registry import assemble, spiking_graph
from graphpass.forms.unrolled import spike_sources, unroll
from graphpass.graph.model import export_untyped
from graphpass.graph.names import site_of
from graphpass.maths.energy import EnergyEstimate
from graphpass.maths.metrics import Difference, Operations, SpikeCount
from graphpass.progress import Progress
from graphpass.runtime.session import open_session, pad_inputs, run

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class CountedBatches:
    """Batches that are counted on, as often as they are asked for. total: samples. size: of a batch, where it is free.

    A short last batch of a model of fixed batch is left out, unless it is the only one.
    """

    dataset: Dataset
    total: int
    size: int
    fixed: int | None

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.dataset.batches(self.fixed or self.size, max(self.total, self.fixed or 0))):
            if self.fixed and batch.size < self.fixed and number:
                break
            yield batch


@dataclass
class Tally:
    """Sums so far. fixed: the batch size that the models require, None where it is free.

    unrolled: None for the integer form, whose spikes and operations are not counted.
    """

    ann: "ProbedGraph"
    folded: "ProbedGraph | None"
    conversion: ConversionFacts
    levels: Mapping[str, int]
    fixed: int | None
    unrolled: "ProbedGraph | None" = None
    samples: int = 0
    errors: dict[str, Difference] = field(default_factory=dict)
    neurons: dict[str, int] = field(default_factory=dict)

    def update(self, batch: Batch) -> None:
        """Run a batch through the ANN and the folded SNN, and add what they count."""
        size = self.fixed or batch.size
        inputs = pad_inputs(batch.inputs, self.fixed)
        ann, folded = self.ann.run(inputs), self.folded.run(inputs) if self.folded else {}
        self.samples += size
        for site in self.conversion.sites:
            a = ann[site.output]
            self.neurons[site.name] = a.size // size
            if site.output in folded:
                known = self.errors.get(site.name, Difference())
                self.errors[site.name] = known.update(folded[site.output], a)

    @property
    def spikes(self) -> SpikeCount:
        """Spikes of all trains together."""
        return _merged(self._trains.values())

    @property
    def _trains(self) -> Mapping[str, SpikeCount]:
        return self.unrolled.spikes if self.unrolled else {}

    def sites(self) -> tuple[SiteResult, ...]:
        """Every site, in the order of the metadata."""
        results, names = [], [site.name for site in self.conversion.sites]
        trains: dict[str | None, list[SpikeCount]] = {}
        for name, count in self._trains.items():
            trains.setdefault(site_of(name, names), []).append(count)
        for site in self.conversion.sites:
            spikes = _merged(trains.get(site.name, ()))
            results.append(
                SiteResult(
                    site.name,
                    site.kind,
                    self.neurons[site.name],
                    self.levels[site.name],
                    self.conversion.time_steps,
                    spikes.rate,
                    spikes.sparsity,
                    self.errors.get(site.name, Difference()).centred_error,
                )
            )
        return tuple(results)

    def energy(self, model: str) -> EnergyEstimate:
        """Energy per sample by the model of this name; NaN where spikes are not counted."""
        levels = max(self.levels.values(), default=self.conversion.levels)
        snn = self.unrolled.network if self.unrolled else None
        return estimate(model, self.samples, self.conversion.time_steps, levels, self.ann.network, snn)

    def operations(self) -> OperationCount:
        """Operations per sample; NaN where they are not counted."""
        if self.unrolled is None:
            unknown = Operations(float("nan"), float("nan"), float("nan"))
            return OperationCount(self.ann.operations(self.samples), unknown, self.samples, (), ())
        spiking = self.unrolled.spiking
        layers = tuple(
            LayerResult(
                name,
                self.unrolled.ops[name],
                "spikes" if spiking.get(name) else "analogue",
                counts.effective / self.samples,
                counts.dense / self.samples,
            )
            for name, counts in self.unrolled.counts.items()
        )
        return OperationCount(
            self.ann.operations(self.samples),
            self.unrolled.operations(self.samples),
            self.samples,
            layers,
            tuple(dict.fromkeys([*self.ann.probes.uncounted, *self.unrolled.probes.uncounted])),
        )


class ProbedGraph:
    """A graph with probes in a session, and the sums of their counts.

    spiking: the most levels of the neurons that feed each layer whose input is spikes alone. neurons: levels of the
    neurons that send trains.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        probes: Probes,
        ops: Mapping[str, str],
        spiking: Mapping[str, int],
        neurons: Mapping[str, int],
        fetch: Sequence[str],
        threads: int,
    ):
        self.probes = probes
        self.ops = ops
        self.spiking = spiking
        self.neurons = neurons
        self.counts: dict[str, OperationCounts] = {}
        self.spikes: dict[str, SpikeCount] = {}
        self._fetch = list(dict.fromkeys([*probes.names, *fetch]))
        self._session: Any = open_session(proto, threads=threads)

    def close(self) -> None:
        """Close the session; the sums stay."""
        self._session = None

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs for one batch; the counts of the probes are added up."""
        values = run(self._session, inputs, self._fetch)
        for name, counts in self.probes.operations(values).items():
            self.counts[name] = self.counts.get(name, OperationCounts()).merge(counts)
        for name, spikes in self.probes.spikes(values).items():
            self.spikes[name] = self.spikes.get(name, SpikeCount()).merge(spikes)
        return values

    def operations(self, samples: int) -> Operations:
        """All layers together, per sample."""
        additions = sum(c.effective for name, c in self.counts.items() if self.spiking.get(name))
        effective = sum(c.effective for c in self.counts.values())
        dense = sum(c.dense for c in self.counts.values())
        return Operations(additions / samples, (effective - additions) / samples, dense / samples)

    @property
    def network(self) -> CountedNetwork:
        """All that was counted, layer by layer."""
        layers = (
            CountedLayer(counts, self.probes.layers[name].stored, self.spiking.get(name, 0))
            for name, counts in self.counts.items()
        )
        neurons = (CountedNeurons(spikes, self.neurons[name]) for name, spikes in self.spikes.items())
        return CountedNetwork(tuple(layers), tuple(neurons))


def tally_of(
    normalised: gs.Graph,
    snn: onnx.ModelProto,
    conversion: ConversionFacts,
    levels: Mapping[str, int],
    batches: CountedBatches,
    threads: int,
    progress: Progress,
) -> Tally:
    """Run the batches through the ANN (`normalised`, which is changed) and the folded SNN, which are compared, and then
    through the unrolled SNN.
    """
    ann, folded = probed_ann(normalised, conversion, threads), probed_folded(snn, conversion, threads)
    tally = Tally(ann, folded, conversion, levels, batches.fixed)
    passes = 1 if conversion.form == "integer" else 2
    total = batches.total * passes
    progress("counting", 0, total)
    for batch in batches:
        tally.update(batch)
        progress("counting", min(tally.samples, batches.total), total)
    for graph in filter(None, (ann, folded)):
        graph.close()
    tally.unrolled = probed_unrolled(snn, conversion, threads)
    if tally.unrolled:
        done = tally.samples
        for batch in batches:
            tally.unrolled.run(pad_inputs(batch.inputs, batches.fixed))
            done += batch.size
            progress("counting", min(done, total), total)
        tally.unrolled.close()
    return tally


def probed_ann(graph: gs.Graph, conversion: ConversionFacts, threads: int) -> ProbedGraph:
    """The normalised ANN: its operations and the outputs of its sites. Changes the graph."""
    return _probed(graph, conversion, {}, threads, operations=True, sites=True)


def probed_folded(snn: onnx.ModelProto, conversion: ConversionFacts, threads: int) -> ProbedGraph | None:
    """The folded SNN: the outputs of its sites; None in other forms, where amplitudes are part of the weights."""
    if conversion.form != "folded":
        return None
    return _probed(spiking_graph(snn), conversion, {}, threads, operations=False, sites=True)


def probed_unrolled(snn: onnx.ModelProto, conversion: ConversionFacts, threads: int) -> ProbedGraph | None:
    """The unrolled SNN: its operations and spikes; None for the integer form, which cannot be unrolled."""
    if conversion.form == "integer":
        return None
    graph = spiking_graph(snn)
    with within_float32(ModelError, "the spiking model"):
        unrolled = unroll(graph) if conversion.form == "folded" else graph
    spiking = {
        layer: max(int(node.attrs["levels"]) for node in neurons)
        for layer, neurons in spike_sources(unrolled).items()
        if neurons
    }
    return _probed(unrolled, conversion, spiking, threads, operations=True, sites=False)


def _probed(
    graph: gs.Graph,
    conversion: ConversionFacts,
    spiking: Mapping[str, int],
    threads: int,
    *,
    operations: bool,
    sites: bool,
) -> ProbedGraph:
    ops = {node.name: node.op for node in graph.nodes}
    fetch = [site.output for site in conversion.sites] if sites else []
    tensors = graph.tensors()
    missing = [name for name in fetch if name not in tensors]
    if missing:
        raise ModelError(
            f"tensor {missing[0]!r} of the metadata is not in the model", "convert it with graphpass again"
        )
    probes = probe(graph, spiking, conversion.time_steps) if operations else Probes({}, {}, (), ())
    neurons = {node.name: int(node.attrs["levels"]) for node in graph.nodes if node.name in probes.trains}
    held = {tensor.name for tensor in graph.outputs}
    for name in fetch:
        if name not in held:
            graph.outputs.append(tensors[name])
    proto = export_untyped(graph, lambda each: assemble(each, conversion.coding))
    return ProbedGraph(proto, probes, ops, spiking, neurons, fetch, threads)


def _merged(counts: Iterable[SpikeCount]) -> SpikeCount:
    total = SpikeCount()
    for count in counts:
        total = total.merge(count)
    return total
