"""A few samples of the data through the original network: rows of every site at once, and errors of the outputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.sampling import Positions, StepSample, sample_of
from graphpass.calibration.steps import Step
from graphpass.datasets.dataset import Dataset
from graphpass.evaluation.counting import layer_fan_out
from graphpass.forms.folded import fold
from graphpass.forms.registry import assemble
from graphpass.graph.layers import WeightLayer, weight_layers
from graphpass.graph.model import export, export_untyped
from graphpass.graph.plan import Plan
from graphpass.maths.methods import METHODS
from graphpass.maths.metrics import Difference
from graphpass.runtime.samples import Axes, run_padded
from graphpass.runtime.session import open_session, pad_inputs, run
from graphpass.sites.identities import place_identities
from graphpass.sites.sites import Site

Array = NDArray[Any]
Arrays = dict[str, Array]

SAMPLES = 64  # of the data, evenly spread
ROWS = 4096  # of every site
BATCH = 8  # samples a run where the model leaves it free


def spread_batches(dataset: Dataset, limit: int | None, fixed: int | None, samples: int = SAMPLES) -> Iterator[Arrays]:
    """About so many samples, evenly spread over the data: they may be sorted by class."""
    known = [number for number in (dataset.samples, limit) if number is not None]
    if fixed:
        every = 1 if dataset.samples is None else max(1, min(known, default=0) // max(fixed, samples))
        for number, batch in enumerate(dataset.batches(fixed, limit)):
            if number % every == 0 and (batch.size == fixed or number == 0):
                yield pad_inputs(batch.inputs, fixed)
            if dataset.samples is None and (number + 1) * fixed >= samples:  # it may never end
                break
        return
    every = 1 if dataset.samples is None else max(1, min(known, default=0) // samples)
    held: list[Mapping[str, Array]] = []
    for number, batch in enumerate(dataset.batches(every, limit)):
        held.append({name: values[:1] for name, values in batch.inputs.items()})
        if len(held) == BATCH:
            yield _joined(held)
            held = []
        if number + 1 == samples:
            break
    if held:
        yield _joined(held)


def _joined(samples: Sequence[Mapping[str, Array]]) -> Arrays:
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}


@dataclass(frozen=True)
class SeenSites:
    """Of the ANN: samples, neurons and synapses of each site, and the network's outputs of each batch."""

    samples: list[StepSample]
    neurons: tuple[int, ...]
    synapses: tuple[float, ...]
    outputs: list[Arrays]


def observe_sites(
    graph: gs.Graph,
    sites: Sequence[Site],
    batches: Sequence[Arrays],
    options: CalibrationOptions,
    fixed: int | None,
    rows_each: int = ROWS,
) -> SeenSites:
    """Run the ANN: for its outputs, and for rows of all sites at once, a sample at a time where the batch is free.

    rows_each: of every site, about.
    """
    graph = graph.copy()
    plain = open_session(export(graph.copy()), threads=options.threads)
    place_identities(graph, sites)
    fed = {name for site in sites for name in site.layers}
    layers = {layer.node.name: layer for layer in weight_layers(graph) if layer.node.name in fed}
    ends = [tensor.name for layer in layers.values() for tensor in (layer.data, layer.output)]
    wanted = list(dict.fromkeys([*(name for site in sites for name in (site.input, site.output)), *ends]))
    session = open_session(_fetching(graph, wanted), threads=options.threads)
    count = sum(_size(batch) for batch in batches)
    ranges = METHODS[options.method].ranges
    steps = [Step(site.input, (), site) for site in sites]
    positions = [Positions(step, -(-rows_each // count), (options.seed, k), ranges) for k, step in enumerate(steps)]
    rows: list[list[list[Array]]] = [[] for _ in sites]
    shapes: dict[str, tuple[int, ...]] = {}
    for part in batches if fixed else _singly(batches):
        values = {**part, **run(session, part)}
        shapes = shapes or {name: values[name].shape for name in wanted}
        for site, places, taken in zip(sites, positions, rows, strict=True):
            taken.append(places.add_ann(fixed or 1, fixed or 1, values[site.input], values[site.output]))
    samples = []
    for places, taken in zip(positions, rows, strict=True):
        x, a = (np.concatenate(parts) for parts in zip(*taken, strict=True))
        samples.append(sample_of(places, x, a, x, clip_limits=options.clip_limits))
        samples[-1].require_finite()
    each = fixed or 1
    neurons = tuple(int(np.prod(shapes[site.output])) // each for site in sites)
    synapses = tuple(
        sum(_synapses(layers[name], shapes, each, count) for name in site.layers)
        for site, count in zip(sites, neurons, strict=True)
    )
    return SeenSites(samples, neurons, synapses, [run(plain, batch) for batch in batches])


def _fetching(graph: gs.Graph, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with these tensors among its outputs."""
    tensors, held = graph.tensors(), {tensor.name for tensor in (*graph.outputs, *graph.inputs)}
    for name in names:
        if name not in held:
            graph.outputs.append(tensors[name])
    return export_untyped(graph)


def _synapses(layer: WeightLayer, shapes: Mapping[str, tuple[int, ...]], batch: int, neurons: int) -> float:
    """Operations a sample of a layer if a site's neurons, which make its input, all spiked once.

    What else is concatenated into the input has synapses of its own.
    """
    shape = shapes[layer.data.name]
    met, _ = layer_fan_out(layer, shape, shapes[layer.output.name])
    inputs = int(np.prod(shape)) // batch
    return float(met.sum()) * (inputs / met.size) * min(1.0, neurons / inputs)


def _size(batch: Arrays) -> int:
    return len(next(iter(batch.values())))


def _singly(batches: Sequence[Arrays]) -> Iterator[Arrays]:
    for batch in batches:
        for k in range(_size(batch)):
            yield {name: values[k : k + 1] for name, values in batch.items()}


def output_error(
    graph: gs.Graph,
    plan: Plan,
    batches: Sequence[Arrays],
    outputs: Sequence[Arrays],
    threads: int,
    fixed: int | None,
    axes: Axes,
) -> float:
    """Mean over the outputs of Σ (y − a)² / Σ (a − ā)², y of the network that a plan makes."""
    session = open_session(assemble(fold(graph.copy(), plan), plan.coding), threads=threads, use_blocked=False)
    differences = {name: Difference() for name in outputs[0]}
    for batch, known in zip(batches, outputs, strict=True):
        for name, y in run_padded(session, batch, fixed, axes).items():
            differences[name] = differences[name].update(y, known[name])
    errors = [each.centred_error or 0.0 for each in differences.values()]
    return float(np.mean([error if np.isfinite(error) else 0.0 for error in errors]))
