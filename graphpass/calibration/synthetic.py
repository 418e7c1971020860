"""Calibration without data: on inputs that are made up, and matched to what BatchNormalization knows of the real ones.

    make up      images of no thing, smooth noise, random words            (datasets.synthetic)
    measure      mean and variance that the source's normalisations meet on them
    match        the network that normalises by these instead              (calibration.statistics)
    calibrate    the matched network, whose activations are spread as the given one's are on its own data
    carry over   thresholds as they are, changes of weights by the ratio of the weights

A network whose exporter folded its normalisations has nothing to match; its own weights and biases are all there is.
Where it clips, as ReLU6 does, the limits of the clip are the range, and the inputs are not trusted with more than
means: deep channels wait for things that made-up inputs do not show (docs/calibration.md).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.calibration.calibrate import CalibrationOptions, calibrate
from graphpass.calibration.sampling import limits_reached
from graphpass.calibration.statistics import (
    Moments,
    batch_norms,
    carried_over,
    lookup_rows,
    match,
    use_batch_statistics,
)
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.synthetic import LENGTH, synthetic_dataset
from graphpass.errors import CalibrationError, OptionError, SessionError
from graphpass.graph.model import Source, export
from graphpass.graph.plan import Plan
from graphpass.graph.weights import floats_of
from graphpass.options.table import MADE_UP
from graphpass.passes.normalise import normalise
from graphpass.progress import Progress
from graphpass.runtime.session import MORE_MEMORY, fixed_batch, input_specs, open_session, pad_inputs, run
from graphpass.sites.sites import Coverage
from graphpass.wording import counted

BATCH = 32  # samples that normalisations are measured on at a time


@dataclass(frozen=True)
class Synthetic:
    """Calibration data to make up: how many samples."""

    samples: int = MADE_UP

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise OptionError(counted(self.samples, "synthetic sample"), "give at least 1")


def made_up(source: Source, synthetic: Synthetic, images: ImageOptions | None, options: CalibrationOptions) -> Dataset:
    """Inputs for a model, the same for the same seed of the options. images: as for a folder of images."""
    specs = input_specs(source)
    rows = lookup_rows(source.graph())
    return synthetic_dataset(specs, images or ImageOptions(), synthetic.samples, options.seed, rows)


@contextmanager
def on_made_up() -> Iterator[None]:
    """Where a network meets made-up inputs first: their sizes may be why it does not run. Raises SessionError."""
    try:
        yield
    except SessionError as error:
        if error.remedy == MORE_MEMORY:
            raise
        raise SessionError(
            f"the network does not run on made-up inputs: {error.what}",
            f"give data instead; made-up inputs have {LENGTH} positions where the network leaves a size open",
        ) from error


def for_made_up(coverage: Coverage, options: CalibrationOptions) -> CalibrationOptions:
    """The options for inputs that are made up: a network of clips knows its ranges without them."""
    return replace(options, clip_limits=any(site.limits for site in coverage.sites))


def synthetic_plan(
    source: Source,
    graph: gs.Graph,
    coverage: Coverage,
    dataset: Dataset,
    options: CalibrationOptions,
    progress: Progress,
) -> Plan:
    """The plan for a normalised graph of a model, from a made-up dataset. notes: what it was made from."""
    matched = source.graph()
    norms = batch_norms(matched)
    fixed = fixed_batch(input_specs(source))
    require_numbers(source, norms)
    if norms:
        match(matched, measure(source, dataset, options, fixed, progress))
        normalise(matched)
    plan = calibrate(matched if norms else graph, coverage, dataset, options, fixed, progress)
    what = f"{counted(len(norms), 'normalisation')} matched" if norms else "no normalisation to match"
    spans = {site.name: (site.lowest, site.highest) for site in plan.sites}
    clips = [limits_reached(site, *spans[site.name]) for site in coverage.sites if site.limits and site.name in spans]
    far = clips.count(None)
    what += f", {len(clips) - far} clips by their own limits" if len(clips) > far else ""
    what += f", {far} clips by the made-up inputs, which come nowhere near their limits" if far else ""
    notes = {**plan.notes, "data": "synthetic", "synthetic": what}
    return replace(carried_over(plan, matched, graph) if norms else plan, notes=notes)


def require_numbers(source: Source, norms: Sequence[gs.Node]) -> None:
    """Raises CalibrationError for a normalisation whose own statistics give no number: the matched network, which has
    others, would not show it.
    """
    for norm in norms:
        mean, variance = (floats_of(tensor) for tensor in norm.inputs[3:5])
        with np.errstate(all="ignore"):
            given = [mean, 1 / np.sqrt(np.asarray(variance, np.float64) + norm.attrs.get("epsilon", 1e-5))]
        if not all(np.isfinite(each).all() for each in given):
            raise CalibrationError(
                f"{source.path}: node {norm.name!r} (BatchNormalization) has a mean or variance that no number can be "
                "normalised by",
                "check the model, and export it again",
            )


def measure(
    source: Source, dataset: Dataset, options: CalibrationOptions, fixed: int | None, progress: Progress
) -> dict[str, Moments]:
    """Mean and variance that each normalisation meets, over batches that those before it have normalised.

    mean = E[m], variance = E[v] + Var[m] over batches of mean m and variance v.
    """
    graph = source.graph()
    names = use_batch_statistics(graph)
    session = open_session(export(graph.cleanup(remove_unused_graph_inputs=False).toposort()), threads=options.threads)
    found: dict[str, list[np.ndarray]] = {name: [] for pair in names.values() for name in pair}
    wanted, total = list(found), min(dataset.samples or 0, options.limit or dataset.samples or 0)
    for number, batch in enumerate(dataset.batches(fixed or BATCH, options.limit)):
        progress("measuring statistics", min(number * (fixed or BATCH), total), total)
        for name, values in run(session, pad_inputs(batch.inputs, fixed), wanted).items():
            found[name].append(values.astype(np.float64).ravel())
    progress("measuring statistics", total, total)
    moments = {}
    for made, (mean, variance) in names.items():
        means, variances = np.stack(found[mean]), np.stack(found[variance])
        moments[made] = Moments(means.mean(0), variances.mean(0) + means.var(0))
    return moments
