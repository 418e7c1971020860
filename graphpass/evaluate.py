"""An ANN beside the SNN that it became: accuracy, agreement, spikes, operations, energy, latency, and a baseline.

    compare     every sample through the ANN, the SNN and the quantised ANN
    count       some samples through probed graphs: the normalised ANN, the folded and the unrolled SNN
    time        both sessions alternately on one batch

The baseline is what quantisation alone would give: the ANN with each site's output rounded to as many levels as the SNN
has, between the least and the largest value that calibration saw (graph/baseline.py).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.comparison import Comparison
from graphpass.data import Dataset
from graphpass.errors import DataError, ModelError, OptionError
from graphpass.evaluation import (
    Baseline,
    Conversion,
    Evaluation,
    Latency,
    LayerResult,
    OperationCount,
    Provenance,
    SiteResult,
    Timing,
    conversion_of,
)
from graphpass.graph import operators
from graphpass.graph.baseline import quantise_sites
from graphpass.graph.counting import Counts, Probes, probe
from graphpass.graph.emit import assemble
from graphpass.graph.model import Source
from graphpass.graph.normalise import normalise
from graphpass.graph.sites import place_identities
from graphpass.graph.unrolled import fold_back, spike_inputs, unroll
from graphpass.maths.metrics import Difference, Operations, SpikeCount
from graphpass.session import fixed_batch, input_specs, open_session, pad_batch, run, run_padded

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[str, int, int], None]  # what, done, of how many

SHORTEST_TIMING = 0.5  # seconds a network is timed for where the least number of rounds takes less
MOST_ROUNDS = 50
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    limit: samples, None for all. batch: samples a run, where the model leaves it free. threads: 0 for all cores.
    operation_samples: how many the operations are counted on, None for max(8, min(64, 512 / T)). output: name of the
    output with the class scores, None to find it. rounds: least number of timed runs of latency_batch samples.
    """

    limit: int | None = None
    batch: int = 32
    threads: int = 0
    operation_samples: int | None = None
    output: str | None = None
    rounds: int = 5
    latency_batch: int = 1
    providers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        least = min(self.batch, self.rounds, self.latency_batch)
        if least < 1 or (self.operation_samples is not None and self.operation_samples < 1):
            raise OptionError("batches, rounds and operation samples must be at least 1", "choose 1 or more")


def evaluate(
    source: Source,
    snn: onnx.ModelProto,
    dataset: Dataset,
    options: Options | None = None,
    snn_digest: str = "",
    progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """Evaluate a converted model against the model it came from, on samples with or without labels.

    dataset: of the ANN's input specs; labels, where it has them, one integer a sample. snn_digest: of the SNN's file.
    Raises ModelError when the SNN was not converted from this model, DataError for labels that do not fit.
    """
    options = options or Options()
    conversion = conversion_of(snn)
    if conversion.model_digest != source.digest:
        raise ModelError(
            f"the spiking model was not converted from {source.path} (its sha256 is {source.digest[:12]}…, the "
            f"spiking model names {conversion.model_digest[:12]}…)",
            "give the two models that belong together",
        )
    folded = _folded(snn, conversion)
    levels = _levels(folded, conversion)
    protos = {"ann": source.proto, "snn": snn, "baseline": _baseline(source, conversion, levels)}
    sessions = {name: open_session(proto, options.providers, options.threads) for name, proto in protos.items()}
    fixed = fixed_batch(input_specs(sessions["ann"]))
    comparison = _compare(sessions, dataset, options, fixed, progress)
    ann_probed, snn_probed, sites_probed = _Probed.ann(source, conversion), _Probed.snn(folded, conversion), 0
    counted = _count(source, folded, conversion, dataset, options, fixed, progress)
    latency = _time(sessions["ann"], sessions["snn"], dataset, options, fixed, progress)
    return Evaluation(
        comparison.samples,
        conversion,
        comparison.class_output,
        comparison.accuracy("ann"),
        comparison.accuracy("snn"),
        comparison.agreement["snn"].fraction,
        comparison.outputs(),
        counted.firing_rate,
        counted.operations(),
        latency,
        counted.sites(),
        Baseline(
            max(graphs.levels.values(), default=conversion.levels),
            comparison.accuracy("baseline"),
            comparison.agreement["baseline"].fraction,
            comparison.main_error("baseline"),
        ),
        Provenance(
            str(source.path.name),
            source.digest,
            snn_digest,
            conversion.data_digest,
            dataset.description,
            dataset.digest if options.limit is None else "",
            conversion.version,
            ort.__version__,
            datetime.now(UTC).isoformat(timespec="seconds"),
        ),
        tuple(comparison.notes),
    )
