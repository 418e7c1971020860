"""An ANN compared with the SNN converted from it: accuracy, agreement, spikes, operations, energy, latency, a baseline.

    compare     every sample through the ANN, the SNN and the quantised ANN
    time        both sessions alternately on one batch
    count       some samples through probed graphs: the normalised ANN and the folded SNN, then the unrolled SNN

No more than three networks are open at a time: each holds its weights.

The baseline shows the effect of quantisation alone: the ANN with each site's activation quantised to as many levels as
the SNN has, channel by channel with the least error, without new weights (evaluation/baseline.py).
"""

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.datasets.dataset import Batch, Dataset, whole_batches
from graphpass.errors import DataError, ModelError, OptionError
from graphpass.evaluation.baseline import quantised
from graphpass.evaluation.comparison import Comparison, middles_of
from graphpass.evaluation.drawn import Drawn
from graphpass.evaluation.metrics.registry import Metrics
from graphpass.evaluation.metrics.training import fitted, of_training, training_stride
from graphpass.evaluation.probing import CountedBatches, tally_of
from graphpass.evaluation.remembering import Remembered
from graphpass.evaluation.results import ConversionFacts, Evaluation, Latency, Provenance, Timing, conversion_of
from graphpass.evaluation.sessions import Sessions
from graphpass.evaluation.shards import EvaluationShard, Measured, merge
from graphpass.evaluation.spikes import drawn
from graphpass.forms import operators
from graphpass.forms.registry import FORMS, assemble, form_of, spiking_graph
from graphpass.graph.model import Source
from graphpass.graph.names import site_of
from graphpass.options.providers import runtime_providers
from graphpass.options.table import OPTIONS
from graphpass.passes.normalise import normalise
from graphpass.progress import Progress, silent
from graphpass.records import json_of
from graphpass.runtime.providers import Providers, runtimes
from graphpass.runtime.samples import Axes, run_padded, sample_axes
from graphpass.runtime.session import Session, fixed_batch, input_specs, open_session, pad_inputs, run
from graphpass.sites.identities import place_identities
from graphpass.sites.sites import unsteady

SHORTEST_TIMING = 0.5  # seconds that a network is timed for, if the least number of rounds takes less
MOST_ROUNDS = 50
FEW = 4  # samples that are swapped to find where samples are in the outputs
NOT_COUNTED = (
    "spikes, operations and site errors of the integer form are not counted: evaluate the folded form for them"
)
SYNTHETIC = "the network was calibrated on synthetic data, which costs accuracy"
ROUNDED = "float32 products were rounded to TF32, as use_tf32=1 asks for; that changes some counts"
UNKNOWN = Timing(math.nan, math.nan, math.nan)
DEFAULT_PROVIDERS = runtime_providers(OPTIONS["provider"].default)


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    limit: samples, None for all. batch: samples per run, if the model leaves it free. threads: 0 for all cores.
    operation_samples: samples that operations are counted on, None for max(8, min(64, 512 / T)). output: name of the
    output with the class scores, None to find it. metrics: what metrics_of returned. rounds: least number of timed runs
    of latency_batch samples. providers: where the three networks run; operations are always counted on the CPU.
    energy_model: the name of one in maths.energy.MODELS.
    others: what is compared with the ANN; without the baseline, its figures are None.
    extras: latency, without which times are NaN, and pictures, which reports draw. every: of so many batches, one is
    compared, and samples are counted of these alone.
    """

    limit: int | None = None
    batch: int = 32
    threads: int = OPTIONS["threads"].default
    operation_samples: int | None = None
    output: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    rounds: int = 5
    latency_batch: int = 1
    providers: Providers | None = DEFAULT_PROVIDERS
    energy_model: str = OPTIONS["energy_model"].default
    others: tuple[str, ...] = ("snn", "baseline")
    extras: tuple[str, ...] = ("latency", "pictures")
    every: int = 1

    def __post_init__(self) -> None:
        least = min(self.batch, self.rounds, self.latency_batch, self.every)
        if least < 1 or (self.operation_samples is not None and self.operation_samples < 1):
            raise OptionError("batches, rounds and operation samples must be at least 1", "choose 1 or more")


@dataclass(frozen=True)
class Pair:
    """A model, the SNN converted from it, and the baseline, in sessions. fixed: their batch size, None if free.

    sessions: closed by `measure`, and open again where they are asked for.

    remembered: outputs on the data that other pairs are compared on, too; of networks that have a digest.
    normalised: gives a copy of the normalised ANN, whose tensors sites name.
    """

    source: Source
    normalised: Callable[[], gs.Graph]
    snn: onnx.ModelProto
    conversion: ConversionFacts
    levels: Mapping[str, int]
    sessions: Sessions
    fixed: int | None
    options: EvaluationSettings
    remembered: Remembered | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def outputs(self, first: int, batch: Batch, axes: Axes) -> dict[str, dict[str, Any]]:
        """What the networks make of a batch that begins with sample `first`, by network and output."""
        return {network: self._output(network, first, batch, axes) for network in self.sessions}

    def ann_outputs(self, first: int, batch: Batch, rows: NDArray[np.bool_], axes: Axes) -> dict[str, Any]:
        """What the original network makes of some samples of a batch that begins with sample `first`."""
        if self.remembered is None:
            inputs = {name: each[rows] for name, each in batch.inputs.items()}
            return run_padded(self.sessions["ann"], inputs, self.fixed, axes)
        whole = self._output("ann", first, batch, axes)
        return {name: each.compress(rows, axes[name]) if name in axes else each for name, each in whole.items()}

    def _output(self, network: str, first: int, batch: Batch, axes: Axes) -> dict[str, Any]:
        work = partial(run_padded, self.sessions[network], batch.inputs, self.fixed, axes)
        if self.remembered is None or network not in self.digests:
            return work()
        return self.remembered.get(network, self.digests[network], first, work)


def evaluate(
    source: Source,
    snn: onnx.ModelProto,
    dataset: Dataset,
    options: EvaluationSettings | None = None,
    snn_digest: str = "",
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate a converted model against the model it came from, on samples with or without labels.

    dataset: opened for the ANN's inputs; labels, if any, one integer per sample. snn_digest: of the SNN's file.
    Raises ModelError when the SNN was not converted from this model, DataError for labels that do not fit.
    """
    return evaluate_pair(open_pair(source, snn, options), dataset, snn_digest, progress)


def evaluate_pair(pair: Pair, dataset: Dataset, snn_digest: str = "", progress: Progress = silent) -> Evaluation:
    """`evaluate` for two networks that are open."""
    return merge([whole_part(pair, dataset, snn_digest, progress)])


def whole_part(pair: Pair, dataset: Dataset, snn_digest: str = "", progress: Progress = silent) -> EvaluationShard:
    """An evaluation as a single part, which compares all samples and measures."""
    compared = compare(pair, dataset, progress=progress)
    return replace(compared, measured=measure(pair, dataset, snn_digest, progress))


def open_pair(
    source: Source,
    snn: onnx.ModelProto,
    options: EvaluationSettings | None = None,
    remembered: Remembered | None = None,
    normalised: gs.Graph | None = None,
) -> Pair:
    """normalised: the ANN as `normalise` leaves it, if it is known; it is not changed.

    Raises ModelError when the SNN was not converted from this model.
    """
    options = options or EvaluationSettings()
    conversion = conversion_of(snn)
    if conversion.form not in FORMS:
        raise ModelError(f"form {conversion.form!r} is not known", f"convert it in one of {', '.join(FORMS)}")
    if conversion.model_digest != source.digest:
        raise ModelError(
            f"the spiking model was not converted from {source.path} (its sha256 is {source.digest[:12]}…, the "
            f"spiking model names {conversion.model_digest[:12]}…)",
            "give the two models that belong together",
        )
    outputs = {value.name for value in snn.graph.output}
    if missing := next((value.name for value in source.proto.graph.output if value.name not in outputs), None):
        raise ModelError(
            f"the spiking model lacks the output {missing!r} of {source.path}",
            "give the two models that belong together",
        )
    stated = {site.name: site.levels for site in conversion.sites}
    graph = spiking_graph(snn)
    if (form := form_of(graph)) != conversion.form:
        raise ModelError(
            f"the spiking model has the neurons of the {form} form, but its metadata names the {conversion.form} form",
            "convert it with graphpass again",
        )
    levels = stated if form == "integer" else _levels(graph, conversion)
    copied = _copies(source, normalised)
    opened = partial(open_session, providers=options.providers, threads=options.threads)
    openers: dict[str, Callable[[], Session]] = {"ann": partial(opened, source), "snn": partial(opened, snn)}
    digests = {"ann": source.digest}
    if "baseline" in options.others:
        openers["baseline"] = lambda: opened(assemble(quantised(copied(), conversion), conversion.coding))
        decided = json_of(list(conversion.sites))  # neither T nor code: only their levels matter
        digests["baseline"] = hashlib.sha256(json.dumps(decided).encode()).hexdigest()
    sessions = Sessions(openers)
    sessions.open()
    fixed = fixed_batch(input_specs(sessions["ann"]))
    return Pair(source, copied, snn, conversion, levels, sessions, fixed, options, remembered, digests)


def compare(
    pair: Pair,
    dataset: Dataset,
    start: int = 0,
    stop: int | None = None,
    progress: Progress = silent,
) -> EvaluationShard:
    """Samples start … stop − 1, by default all, through the three networks.

    Both ends move up to the next whole batch, so that adjacent parts stay adjacent; a part may become empty. The class
    output is chosen by the very first batch. Raises DataError for a part of data of unknown length.
    """
    size, options = pair.fixed or pair.options.batch, pair.options
    if dataset.samples is None and (start, stop) != (0, None):
        raise DataError(f"{dataset.description}: the number of samples is not known", "save them as .npz")
    ends = (dataset.samples, options.limit, None if stop is None else whole_batches(stop, size))
    start, end = whole_batches(start, size), min((each for each in ends if each is not None), default=None)
    first = next(iter(dataset.batches(size, options.limit)), None)
    if first is None:
        raise DataError(f"{dataset.description}: no samples", "give at least one")
    ann = pair.sessions["ann"]
    few = {name: values[: pair.fixed or FEW] for name, values in first.inputs.items()}
    axes = sample_axes(ann, pad_inputs(few, pair.fixed))
    comparison = Comparison(tuple(name for name in pair.sessions if name != "ann"))
    outputs = run_padded(ann, first.inputs, pair.fixed, axes)
    comparison.settle(outputs, first, axes, options.output, options.metrics.classes)
    middles = middles_of(outputs, axes)
    every = training_stride(dataset, options.limit)
    outputs_of = partial(pair.ann_outputs, axes=axes)
    metrics = fitted(options.metrics, outputs_of, dataset, (size, options.limit), progress)
    expected, place = max((end or 0) - start, 0), start
    progress("comparing", 0, expected)
    for number, batch in enumerate(dataset.batches(size, end, start)):
        if number % options.every == 0:
            found, training = pair.outputs(place, batch, axes), of_training(place, batch.size, every)
            with _naming(dataset):
                comparison.update(place, batch, found, metrics, training, middles)
        place += batch.size
        progress("comparing", place - start, max(expected, place - start))
    if options.every > 1:  # the whole of what was asked for
        return EvaluationShard(0, comparison.samples, comparison.samples, comparison)
    total = comparison.samples if dataset.samples is None else min(dataset.samples, options.limit or dataset.samples)
    start = min(start, total)
    return EvaluationShard(start, start + comparison.samples, total, comparison)


@contextmanager
def _naming(dataset: Dataset) -> Iterator[None]:
    """Inside, a DataError is one of labels that do not fit, and names the data."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{dataset.description}: {error.what}", error.remedy) from error


def measure(pair: Pair, dataset: Dataset, snn_digest: str = "", progress: Progress = silent) -> Measured:
    """Operations, spikes and site errors on some samples, and the time of both networks; the same for every part."""
    source, conversion, options = pair.source, pair.conversion, pair.options
    latency = Latency(UNKNOWN, UNKNOWN, pair.fixed or options.latency_batch, 0, options.threads)
    if "latency" in options.extras:
        latency = _time(pair.sessions["ann"], pair.sessions["snn"], dataset, options, pair.fixed, progress)
    rounded = pair.sessions["snn"].tf32
    pair.sessions.close()
    normalised = pair.normalised()
    place_identities(normalised, conversion.sites)
    unstable = [f"node {each.node!r} ({each.op}) is {each.reason}" for each in unsteady(normalised)]
    batches = _counted(dataset, options, pair.fixed, conversion.time_steps)
    tally = tally_of(normalised, pair.snn, conversion, pair.levels, batches, options.threads, progress)
    provenance = Provenance(
        source.path.name,
        source.digest,
        snn_digest,
        conversion.data_digest,
        dataset.description,
        dataset.digest if options.limit is None else "",
        conversion.version,
        runtime_version(),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Measured(
        conversion,
        tally.spikes.rate,
        tally.operations(),
        tally.energy(options.energy_model),
        latency,
        tally.sites(),
        max(pair.levels.values(), default=conversion.levels),
        provenance,
        (
            *([NOT_COUNTED] if conversion.form == "integer" else []),
            *([SYNTHETIC] if conversion.data == "synthetic" else []),
            *([ROUNDED] if rounded else []),
            *unstable,
        ),
        drawn(pair.snn, dataset, options.threads) if "pictures" in options.extras else Drawn(None, None),
    )


def runtime_version() -> str:
    """Name and version of the onnxruntime that runs the networks; empty where no package says."""
    return next((f"{name} {version}" for name, version in runtimes().items()), "")


def _copies(source: Source, normalised: gs.Graph | None) -> Callable[[], gs.Graph]:
    """A function that gives copies of the normalised ANN, which is made when the first of them is asked for."""

    @functools.cache
    def made() -> gs.Graph:
        if normalised is not None:
            return normalised
        graph = source.graph()
        normalise(graph)
        return graph

    return lambda: made().copy()


def _levels(graph: gs.Graph, conversion: ConversionFacts) -> dict[str, int]:
    """Levels of each site's neurons, in any form."""
    nodes = [node for node in graph.nodes if node.op in operators.NEURONS]
    stated = (conversion.time_steps, conversion.coding)
    if other := next((node for node in nodes if (node.attrs["time_steps"], node.attrs["coding"]) != stated), None):
        raise ModelError(
            f"neurons {other.name!r} have other time-steps, or another code, than the metadata says",
            "convert it with graphpass again",
        )
    names = [site.name for site in conversion.sites]
    levels: dict[str, int] = {}
    for node in nodes:
        owner = site_of(node.name, names)
        if (
            owner is None and node.op in operators.FOLDED_NEURONS
        ):  # neurons behind a max pooling belong to the same site
            raise ModelError(
                f"neurons {node.name!r} belong to no site of the metadata",
                "convert it with graphpass again",
            )
        levels.setdefault(owner or "", int(node.attrs["levels"]))
    for site in conversion.sites:
        if site.name not in levels:
            raise ModelError(
                f"the spiking model has no neurons at site {site.name!r} of its metadata",
                "convert it with graphpass again",
            )
        if levels[site.name] != site.levels:
            raise ModelError(
                f"the neurons of site {site.name!r} have {levels[site.name]} levels, the metadata says {site.levels}",
                "convert it with graphpass again",
            )
    return {name: levels[name] for name in names}


def _counted(dataset: Dataset, options: EvaluationSettings, fixed: int | None, time_steps: int) -> CountedBatches:
    """The batches that operations, spikes and site errors are counted on."""
    wanted = options.operation_samples or max(8, min(64, 512 // time_steps))
    known = [number for number in (dataset.samples, options.limit) if number is not None]
    # an unrolled batch is T times as large
    return CountedBatches(dataset, min([*known, wanted]), min(options.batch, max(1, 64 // time_steps)), fixed)


def _time(
    ann: Any, snn: Any, dataset: Dataset, options: EvaluationSettings, fixed: int | None, progress: Progress
) -> Latency:
    """Time both networks alternately on one batch, so that other work of the machine affects both alike."""
    batch = next(iter(dataset.batches(fixed or options.latency_batch, fixed or options.latency_batch)))
    size = fixed or batch.size
    inputs = pad_inputs(batch.inputs, fixed)
    taken: dict[str, list[float]] = {"ann": [], "snn": []}
    for session in (ann, snn):  # the first run allocates
        run(session, inputs)
    while len(taken["snn"]) < options.rounds or (
        min(sum(each) for each in taken.values()) < 1000 * SHORTEST_TIMING and len(taken["snn"]) < MOST_ROUNDS
    ):
        for name, session in (("ann", ann), ("snn", snn)):
            start = time.perf_counter()
            run(session, inputs)
            taken[name].append(1000 * (time.perf_counter() - start))
        progress("timing", len(taken["snn"]), max(options.rounds, len(taken["snn"])))
    timings = {name: Timing(float(np.median(each)), min(each), max(each)) for name, each in taken.items()}
    return Latency(timings["ann"], timings["snn"], size, len(taken["snn"]), options.threads)
