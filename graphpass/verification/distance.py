"""How far a form is from the folded form of the same plan, on some samples. Every conversion checks its result so.

    d = ‖form − folded‖₂ / ‖folded‖₂        e = ‖folded − ann‖₂ / ‖ann‖₂        of each output

Both are judged together: with few levels, a count that flips moves an output far in any form, and then e is large as
well. Above NOTABLE + e there is a warning; above LARGEST + e the form is refused. The limits are higher for made-up
inputs, which may be unlike those that the network was made for.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.memory import CHECKED_SAMPLES
from graphpass.calibration.synthetic import Synthetic, made_up
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.sources import from_arrays
from graphpass.errors import DataError, FormError
from graphpass.forms import operators
from graphpass.forms.neurons import neuron_of
from graphpass.forms.preparation import place_thresholds, settle_pooling
from graphpass.forms.registry import assemble, coding_of, spiking_graph
from graphpass.graph.model import Source, export_untyped
from graphpass.graph.names import site_of
from graphpass.graph.plan import Plan
from graphpass.maths.neuron import count_of
from graphpass.options.table import form_words
from graphpass.runtime.session import fixed_batch, input_specs, open_session, pad_inputs, run
from graphpass.runtime.store import TensorStore
from graphpass.verification.integer import flips
from graphpass.verification.source import runs
from graphpass.wording import counted

Arrays = Mapping[str, NDArray[Any]]

NOTABLE = 0.1
LARGEST = {"calibration": 0.25, "made-up": 0.9}  # by what the samples are
SAMPLES, UNROLLED_SAMPLES = 16, 4
OUTPUTS = 1 << 28  # bytes of outputs that are kept in memory, the others in a file
STEPS = 16  # time-steps times samples of one run of the unrolled form


@dataclass(frozen=True)
class Forms:
    """A form of a plan in a precision, and the folded form of the same plan in the network's own."""

    name: str
    proto: onnx.ModelProto
    folded: onnx.ModelProto
    precision: str = "source"


@dataclass(frozen=True)
class OutputDistance:
    """One output: d, and the e of the folded form. Of integers: the fraction of values that differ."""

    name: str
    form: float
    folded: float
    integers: bool = False


@dataclass(frozen=True)
class Distance:
    """Of a form in a precision from the folded form. data: what the samples are, "calibration" or "made-up"."""

    form: str
    samples: int
    data: str
    outputs: tuple[OutputDistance, ...]
    precision: str = "source"

    @property
    def worst(self) -> OutputDistance | None:
        """The output with the largest d − e; None where there is no output."""
        return max(self.outputs, key=lambda output: _order(output.form - output.folded), default=None)

    @property
    def notable(self) -> bool:
        return any(not output.form <= NOTABLE + output.folded for output in self.outputs)

    @property
    def too_far(self) -> bool:
        """Whether this is another function. Integers do not count: a small difference may change a class."""
        most = LARGEST[self.data]
        return any(not output.form <= most + output.folded for output in self.outputs if not output.integers)

    def __str__(self) -> str:
        figure = f"{100 * self.worst.form:.2g} % at output {self.worst.name!r}" if self.worst else "nothing"
        form = form_words(f"{self.form} form", self.precision)
        samples = counted(self.samples, f"{self.data} sample")
        return f"the {form} differs from the folded form by {figure} (measured on {samples})"

    @property
    def warning(self) -> str:
        """What a user should know of a distance that is notable."""
        if self.data == "calibration":
            return f"{self}; `graphpass verify` shows where"
        return f"{self}; your data may be unlike them: `graphpass verify` shows the difference on it, and where"


def measured(
    source: Source,
    plan: Plan,
    forms: Forms,
    dataset: Dataset | None,
    images: ImageOptions | None = None,
    threads: int = 0,
) -> Distance | None:
    """The distance on calibration samples (made-up ones of a plan without data), or without a dataset on made-up ones.

    images: options of made-up images. Raises FormError where the form is another function.
    """
    data = "made-up" if dataset is None or "synthetic" in plan.notes else "calibration"
    batches = sample_batches(source, plan, forms.name, dataset, images, threads)
    if not batches:
        return None
    found = distance(forms, source.proto, batches, data, threads)
    if found.too_far:
        neurons = first_neurons_apart(forms, batches[0], threads) or ""
        site = site_of(neurons, [site.name for site in plan.sites]) or neurons
        where = f", from site {site!r} on" if site else ""
        remedy = (
            "leave out --precision" if forms.precision != "source" else "convert it in the folded form (--form folded)"
        )
        raise FormError(f"{source.path}: {found}{where}", remedy)
    return found


def sample_batches(
    source: Source,
    plan: Plan,
    form: str,
    dataset: Dataset | None,
    images: ImageOptions | None = None,
    threads: int = 0,
) -> list[Arrays]:
    """A few samples, or without a dataset made-up ones, in batches for a form; none where none can be made up, as for a
    network that does not run on them.
    """
    count = UNROLLED_SAMPLES if form == "unrolled" else SAMPLES
    options = CalibrationOptions(seed=plan.seed, threads=threads)
    given, dataset = dataset, dataset or _made_up_within(source, options, plan, count, images)
    if dataset is None:
        return []
    fixed = fixed_batch(input_specs(source.proto))
    size = fixed or (max(1, min(count, STEPS // plan.time_steps)) if form == "unrolled" else CHECKED_SAMPLES)
    batches: list[Arrays] = [pad_inputs(part.inputs, fixed) for part in dataset.batches(size, max(size, count))]
    return batches if given or runs(open_session(source, threads=threads), batches[0]) else []


def _made_up_within(
    source: Source, options: CalibrationOptions, plan: Plan, count: int, images: ImageOptions | None
) -> Dataset | None:
    """Made-up inputs within the ranges that the plan knows; None where inputs cannot be made up."""
    try:
        inputs = next(iter(made_up(source, Synthetic(count), images, options).batches(count))).inputs
    except DataError:
        return None
    limited = {
        name: np.clip(values, *plan.ranges[name]).astype(values.dtype) if name in plan.ranges else values
        for name, values in inputs.items()
    }
    return from_arrays(limited, input_specs(source.proto))


def distance(forms: Forms, ann: onnx.ModelProto, batches: Sequence[Arrays], data: str, threads: int = 0) -> Distance:
    """Run a form, the folded form and their original network on batches that fit all three."""
    sums: dict[str, NDArray[np.float64]] = {}
    integers: dict[str, bool] = {}
    with TensorStore(OUTPUTS) as store:
        for network, model in (("form", forms.proto), ("folded", forms.folded), ("ann", ann)):
            session = open_session(model, threads=threads)  # one after the other: each holds its weights
            for number, inputs in enumerate(batches):
                for name, values in run(session, inputs).items():
                    store.put(f"{network}/{name}", number, values)
            names = [value.name for value in session.get_outputs()]
            del session
        for number in range(len(batches)):
            for name in names:
                ours, theirs, given = (store.get(f"{each}/{name}", number) for each in ("form", "folded", "ann"))
                integers[name] = theirs.dtype.kind != "f"
                compare = _unequal if integers[name] else _squares
                known = sums.setdefault(name, np.zeros((2, 2)))
                known += [compare(ours, theirs), compare(theirs, given)]
    samples = sum(len(next(iter(inputs.values()))) for inputs in batches)
    outputs = []
    for name, found in sums.items():
        of_form, of_folded = (_ratio(part, of, integers[name]) for part, of in found)
        outputs.append(OutputDistance(name, of_form, of_folded, integers[name]))
    return Distance(forms.name, samples, data, tuple(outputs), forms.precision)


def _squares(one: NDArray[Any], two: NDArray[Any]) -> tuple[float, float]:
    """Σ(one − two)² and Σtwo², where two is finite; infinite where one is not, or has another number of axes.

    An output whose sizes follow from values, as of a text that ends early, is 0 beyond its end.
    """
    if one.ndim != two.ndim:
        return math.inf, 1.0
    if one.shape != two.shape:
        sizes = np.maximum(one.shape, two.shape)
        one, two = (np.pad(part, [(0, more) for more in sizes - part.shape]) for part in (one, two))
    kept = np.isfinite(two)
    a, b = one[kept].astype(np.float64), two[kept].astype(np.float64)
    if not np.isfinite(a).all():
        return math.inf, 1.0
    return float(np.square(a - b).sum()), float(np.square(b).sum())


def _unequal(one: NDArray[Any], two: NDArray[Any]) -> tuple[float, float]:
    return (float((one != two).sum()), float(two.size)) if one.shape == two.shape else (1.0, 1.0)


def _ratio(part: float, of: float, integers: bool) -> float:
    """d or e; the distance itself where an output is 0 everywhere, because rounding then leaves no exact zeros."""
    ratio = part / of if of else part
    return ratio if integers else math.sqrt(ratio)


def _order(value: float) -> float:
    return math.inf if math.isnan(value) else value


def first_neurons_apart(forms: Forms, inputs: Arrays, threads: int = 0) -> str | None:
    """Name of the first neurons whose counts have at least half the largest distance to the folded form's, or None."""
    if forms.name == "integer":
        dataset = from_arrays(dict(inputs), input_specs(forms.folded))
        found = {site.name: site.distance for site in flips(forms.proto, forms.folded, dataset, threads=threads).sites}
    elif forms.name == "folded":
        found = _distances_of_counts(forms, inputs, threads)
    else:
        found = _distances_of_trains(forms, inputs, threads)
    largest = max(found.values(), default=0.0)
    return next((name for name, apart in found.items() if apart >= largest / 2), None) if largest else None


def _distances_of_trains(forms: Forms, inputs: Arrays, threads: int) -> dict[str, float]:
    """‖n_unrolled − n_folded‖₂ / ‖n_folded‖₂ by the name of neurons, in the order of the network."""
    ours, theirs = spiking_graph(forms.proto), settle_pooling(place_thresholds(spiking_graph(forms.folded)))
    coding = coding_of(theirs) or "rate"
    trains = {node.name: node for node in ours.nodes if node.op in operators.TRAIN_NEURONS}
    neurons = {node.name: node for node in theirs.nodes if node.op in operators.FOLDED_NEURONS and node.name in trains}
    spikes = _fetched(ours, [node.outputs[0] for node in trains.values()], coding, inputs, threads)
    currents = _fetched(theirs, [node.inputs[0] for node in neurons.values()], coding, inputs, threads)
    found = {}
    for name, node in neurons.items():
        x = {**inputs, **currents}[node.inputs[0].name]
        expected = neuron_of(node).count(x).astype(np.float64)
        train = spikes[trains[name].outputs[0].name].reshape(int(node.attrs["time_steps"]), *x.shape)
        apart = float(np.linalg.norm(count_of(train != 0, coding) - expected))
        found[name] = apart / max(float(np.linalg.norm(expected)), 1.0)
    return found


def _distances_of_counts(forms: Forms, inputs: Arrays, threads: int) -> dict[str, float]:
    """The same of two folded forms; infinite where x is finite in the second alone."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for proto in (forms.proto, forms.folded):
        graph = spiking_graph(proto)
        nodes = [node for node in graph.nodes if node.op in operators.FOLDED_NEURONS]
        values = {
            **inputs,
            **_fetched(graph, [node.inputs[0] for node in nodes], coding_of(graph) or "rate", inputs, threads),
        }
        for node in nodes:
            x = values[node.inputs[0].name]
            counts = np.where(np.isfinite(x), neuron_of(node).count(np.nan_to_num(x)), np.inf).astype(np.float64)
            found.setdefault(node.name, []).append(counts)
    apart = {}
    for name, (ours, theirs) in found.items():
        kept = np.isfinite(theirs)
        apart[name] = float(np.linalg.norm(ours[kept] - theirs[kept]) / max(float(np.linalg.norm(theirs[kept])), 1.0))
    return apart


def _fetched(graph: gs.Graph, tensors: Sequence[gs.Tensor], coding: str, inputs: Arrays, threads: int) -> Arrays:
    held = {tensor.name for tensor in (*graph.inputs, *graph.outputs)}
    graph.outputs += [tensor for tensor in {t.name: t for t in tensors}.values() if tensor.name not in held]
    return run(open_session(export_untyped(graph, lambda each: assemble(each, coding)), threads=threads), inputs)
