"""Prove on data that the forms of a spiking network agree, count by count.

    (a) definition   every neuron's y equals graphpass.maths.neuron on the runtime's own x, bit for bit (float16: on an
                     x within half a unit in the last place, since a runtime may pass it on unrounded); where the folded
                     form has f and even thresholds behind it, its y is that of thresholds on x but for f's rounding
    (b) trains       every train of the unrolled form is spike_train(count(x)), x the mean of its own currents
    (c) forms        every x, mean over time and output of the unrolled form differs from the folded form's by no more
                     than float rounding explains, given equal counts and means upstream

A count differs between the forms (a *flip*) only if an edge between two levels lies between two x that are so close.
All neurons have equal inputs upstream, so no flip causes another. verification.agreement says which graphs are run, and
derives the bound

    |x_folded − x_unrolled| ≤ 2·γ_k·m        m = Σ|w|·|u| + |b| through the linear nodes since the last neuron or mean

which holds for sums in any order and for fused multiply-adds, but not for Winograd or Fourier convolutions. In float16
networks, sums are assumed to be in float32 and rounded once per node, as runtimes do; float32 outputs behind float16
tensors have the bounds of these, and behind a node that is not linear the largest value counts for all. Neurons run
as the function bodies in the file; the native operators that may replace them are tested against the definition bit for
bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.datasets.dataset import Dataset
from graphpass.errors import ModelError
from graphpass.forms import operators
from graphpass.forms.neurons import neuron_of, within_float32
from graphpass.forms.preparation import place_thresholds, settle_pooling
from graphpass.forms.registry import coding_of, reference, spiking_graph
from graphpass.forms.unrolled import fold_back, unroll
from graphpass.graph.layers import draws
from graphpass.graph.refusals import QUANTISED
from graphpass.maths.neuron import count_of, spike_train
from graphpass.runtime.session import fixed_batch, input_specs, open_session, pad_inputs, run
from graphpass.verification.agreement import LEAST, SAME_NODE, Cut, Forced, Magnitudes, forced, magnitudes

ROUNDING = {np.dtype(np.float16): 2.0**-11}  # unit roundoff of what tensors are stored in; sums are in float32
SUM_ROUNDING = 2.0**-24
CURVE_ROUNDINGS = 32  # of f, in several operators, relative to the largest of |x|, |f(x)| and 1
SMALLEST = {np.dtype(np.float16): 2.0**-14}  # smallest normal number: below, errors are absolute

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class SiteAgreement:
    """x of one site's neurons in both forms, or a mean over time.

    neurons: number of values compared, over all samples. flips: of counts that differ. unexplained: of values that
    differ by more than their bound. largest_difference, bound: the largest of each, in the unit of x.
    """

    name: str
    neurons: int = 0
    flips: int = 0
    unexplained: int = 0
    largest_difference: float = 0.0
    bound: float = 0.0

    def update(self, one: Array, two: Array, bound: Array, flips: int = 0) -> "SiteAgreement":
        """Add more values of the folded (one) and the unrolled form (two)."""
        same = (one == two) | (np.isnan(one) & np.isnan(two))  # infinities agree too
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(one.astype(np.float64) - two.astype(np.float64)))
        return SiteAgreement(
            self.name,
            self.neurons + one.size,
            self.flips + flips,
            self.unexplained + int(np.count_nonzero(~(difference <= bound))),
            max(self.largest_difference, float(difference.max(initial=0.0))),
            max(self.bound, float(np.max(bound, initial=0.0))),
        )


@dataclass(frozen=True)
class Verification:
    """The result on `samples` samples.

    sites: in the order of the network. means: of trains that nonlinear nodes read. definition_mismatches: number of
    outputs that differ from the definition (a); train_mismatches: of neurons whose train does (b). output_difference,
    output_bound: the largest over the network's outputs.
    """

    samples: int
    time_steps: int
    coding: str
    sites: tuple[SiteAgreement, ...]
    means: tuple[SiteAgreement, ...]
    definition_mismatches: int
    train_mismatches: int
    output_difference: float
    output_bound: float
    output_unexplained: int

    @property
    def agrees(self) -> bool:
        """Whether rounding explains all differences."""
        differing = sum(found.unexplained for found in (*self.sites, *self.means))
        return not (differing + self.definition_mismatches + self.train_mismatches + self.output_unexplained)


def verify(
    proto: onnx.ModelProto,
    dataset: Dataset,
    limit: int = 64,
    batch: int = 8,
    memory: int = 2 << 30,
    threads: int = 0,
) -> Verification:
    """Verify a spiking network, in either form, on the first `limit` samples, in batches that fit `memory` bytes.

    Raises ModelError for a model without spiking neurons or with random numbers, and DataError and SessionError from
    reading the data and running the model.
    """
    check = _Check(proto, threads)
    size = check.fixed or max(1, min(batch, memory // max(check.bytes_per_sample(), 1)))
    samples = 0
    for part in dataset.batches(size, limit):
        check.take(pad_inputs(part.inputs, check.fixed))
        samples += part.size
    return check.result(samples)


class _Check:
    """The sessions and the results so far."""

    def __init__(self, proto: onnx.ModelProto, threads: int):
        graph = spiking_graph(proto)
        coding = coding_of(graph)
        if coding is None and any(node.op in {*QUANTISED, operators.COUNT_NEURON} for node in graph.nodes):
            raise ModelError("this is the integer form, which cannot be folded back", "give --reference FOLDED.onnx")
        if coding is None:
            raise ModelError("the model has no spiking neurons", "convert it first with `graphpass convert`")
        drawing = next((node for node in graph.nodes if draws(node)), None)
        if drawing is not None:
            raise ModelError(
                f"node {drawing.name!r} ({drawing.op}) draws other numbers at every run, so that no two runs agree",
                "replace it by a constant to verify the rest",
            )
        given = any(node.op in operators.TRAIN_NEURONS for node in graph.nodes)
        placed = graph if given else place_thresholds(graph.copy())
        self._curved = _Curved(graph, placed, coding, threads)
        with within_float32(ModelError, "the spiking model"):
            folded = fold_back(graph.copy()) if given else settle_pooling(placed.copy())
            unrolled = placed if given else unroll(placed)
        self._coding = coding
        self._neurons = {n.name: neuron_of(n) for n in folded.nodes if n.op in operators.FOLDED_NEURONS}
        self._steps = next(n.attrs["time_steps"] for n in unrolled.nodes if n.op in operators.TRAIN_NEURONS)
        self._forced: Forced = forced(unrolled, folded, coding)
        self._outputs = [tensor.name for tensor in folded.outputs if not isinstance(tensor, gs.Constant)]
        targets = [cut.x_folded for cut in self._forced.cuts] + [mean.tensor for mean in self._forced.means]
        self._magnitudes: Magnitudes = magnitudes(folded, targets + self._outputs, coding)
        ours = {tensor.name for tensor in folded.inputs}
        needed = [*targets, *self._outputs, *self._magnitudes.sources, *(cut.y_folded for cut in self._forced.cuts)]
        names = [name for name in dict.fromkeys(needed) if name not in ours]
        self._folded = open_session(reference(folded, names, coding), threads=threads, use_native=False)
        self._unrolled = open_session(self._forced.proto, threads=threads, use_native=False)
        absolute = self._magnitudes.proto
        self._absolute = open_session(absolute, threads=threads, use_native=False) if absolute else None
        self.fixed = fixed_batch(input_specs(proto))
        self._shapes = {name: tensor.shape for name, tensor in folded.tensors().items()}
        self._sites = {cut.name: SiteAgreement(cut.name) for cut in self._forced.cuts}
        self._means = {mean.tensor: SiteAgreement(mean.tensor) for mean in self._forced.means}
        self._output = SiteAgreement("outputs")
        self._definition = self._trains = 0

    def bytes_per_sample(self) -> int:
        """Rough size of the tensors of one sample: x, y, m, counts, and T steps of currents and spikes."""
        inner = [self._shapes.get(cut.x_folded) for cut in self._forced.cuts]
        values = sum(int(np.prod([s for s in shape[1:] if isinstance(s, int)])) for shape in inner if shape)
        return 4 * values * int(2 * self._steps + 10)

    def take(self, inputs: Arrays) -> None:
        """Run one batch through all three graphs."""
        folded = {**inputs, **run(self._folded, _wanted(self._folded, inputs))}
        counts = {cut.name: self._defined(cut, folded) for cut in self._forced.cuts}
        self._definition += self._curved.mismatches(inputs)
        bounds = self._bounds(folded, counts)
        feeds: dict[str, Array] = {**inputs, **{mean.fed: folded[mean.tensor] for mean in self._forced.means}}
        feeds.update({c.count: counts[c.name].astype(folded[c.x_folded].dtype) for c in self._forced.cuts})
        unrolled = run(self._unrolled, _wanted(self._unrolled, feeds))
        for cut in self._forced.cuts:
            self._take_site(cut, folded, unrolled, counts[cut.name], bounds[cut.x_folded])
        for mean in self._forced.means:
            name = mean.tensor
            self._means[name] = self._means[name].update(folded[name], unrolled[mean.computed], bounds[name])
        for name in self._outputs:
            if folded[name].shape != unrolled[name].shape:
                raise ModelError(
                    f"output {name!r} has the shape {list(unrolled[name].shape)} in the unrolled form, and "
                    f"{list(folded[name].shape)} in the folded form: it is a train of spikes, as inside a network",
                    "verify the network as `graphpass convert` wrote it",
                )
            self._output = self._output.update(folded[name], unrolled[name], bounds[name])

    def _defined(self, cut: Cut, folded: Arrays) -> Array:
        """(a) The counts of the folded form. A float16 x may reach the neuron before it is rounded to float16."""
        neuron, x, y = self._neurons[cut.name], folded[cut.x_folded], folded[cut.y_folded]
        count, right = neuron.count(x), _equal(neuron.fire(x), y)
        if x.dtype in ROUNDING and not right.all():
            near = np.abs(x.astype(np.float64)) * ROUNDING[x.dtype] + SMALLEST[x.dtype] * ROUNDING[x.dtype]
            least, most = neuron.counts_within(_shifted(x, -near), _shifted(x, near))
            least = least.astype(np.int64)
            for more in range(int((most - least).max(initial=0)) + 1):
                candidate = np.minimum(least + more, most).astype(np.uint8)
                other = ~right & _equal(neuron.decode(candidate).astype(x.dtype), y)
                count, right = np.where(other, candidate, count), right | other
        self._definition += int(np.count_nonzero(~right))
        return count

    def _take_site(self, cut: Cut, folded: Arrays, unrolled: Arrays, count: Array, bound: Array) -> None:
        neuron, x = self._neurons[cut.name], unrolled[cut.x]
        spikes = unrolled[cut.spikes].reshape(self._steps, *x.shape)
        fired = count_of(spikes != 0, self._coding)
        regular = _equal(spikes, spike_train(fired, self._steps, self._coding)).all(0)
        if not np.array_equal(fired, neuron.count(x)):
            # the mean over time inside the neuron may be rounded differently from the one that is fetched
            least, most = neuron.counts_within(_shifted(x, -bound), _shifted(x, bound))
            regular &= (fired >= least) & (fired <= most)
        self._trains += int(np.count_nonzero(~regular))
        flips = int(np.count_nonzero(fired != count))
        self._sites[cut.name] = self._sites[cut.name].update(folded[cut.x_folded], x, bound, flips)

    def _bounds(self, folded: Arrays, counts: Arrays) -> dict[str, Array]:
        """2·γ_k·m of every tensor that is compared, float64."""
        sources: dict[str, Array] = {}
        made = {cut.y_folded: cut.name for cut in self._forced.cuts}
        for name in self._magnitudes.sources:
            if name in made:
                neuron = self._neurons[made[name]]
                n = counts[made[name]].astype(np.float32)
                sources[name] = np.abs(neuron.amplitude) * n + np.abs(neuron.offset)
            else:
                values = folded[name]
                whole = values.dtype.kind != "f"
                sources[name] = _whole_sizes(values, name in self._magnitudes.measured) if whole else _sizes(values)
        sums = run(self._absolute, sources) if self._absolute else {}
        bounds: dict[str, Array] = {}
        compared = [*(c.x_folded for c in self._forced.cuts), *(m.tensor for m in self._forced.means), *self._outputs]
        for name in dict.fromkeys(compared):
            values = folded[name]
            if values.dtype.kind != "f":
                bounds[name] = np.zeros(values.shape)
                continue
            sizes = sums.get(name)
            if sizes is None:  # both forms run the same node on the same values, unless the runtime fuses it
                sizes = np.full(values.shape, _largest(values))
            roundings = self._magnitudes.roundings.get(name, SAME_NODE)
            stored = self._magnitudes.stored.get(name, 4)
            dtype = np.dtype(np.float16) if name in self._magnitudes.narrow else values.dtype
            bounds[name] = _bound(sizes.astype(np.float64), roundings, stored, dtype)
        return bounds

    def result(self, samples: int) -> Verification:
        """The result of all batches."""
        return Verification(
            samples,
            self._steps,
            self._coding,
            tuple(self._sites.values()),
            tuple(found for name, found in self._means.items() if name not in self._outputs),
            self._definition,
            self._trains,
            self._output.largest_difference,
            self._output.bound,
            self._output.unexplained,
        )


class _Curved:
    """Neurons of a folded form that stand behind f: whether thresholds on x give the counts that they have.

    n(f(x) − ε) ≤ #{k : x ≥ b_k} + #{k : x < c_k} ≤ n(f(x) + ε)         ε: what f, computed in its type, may be off
    """

    def __init__(self, graph: gs.Graph, placed: gs.Graph, coding: str, threads: int):
        even = {node.name: node for node in graph.nodes if node.op == operators.FOLDED_NEURON}
        self._pairs = [
            (node.inputs[0].name, neuron_of(node), even[node.name].inputs[0].name, neuron_of(even[node.name]))
            for node in placed.nodes
            if node.op == operators.THRESHOLD_NEURON and node.name in even
        ]
        names = [name for x, _, z, _ in self._pairs for name in (x, z)]
        inputs = {tensor.name for tensor in graph.inputs}
        proto = reference(graph, [name for name in names if name not in inputs], coding) if self._pairs else None
        self._session = open_session(proto, threads=threads, use_native=False) if proto else None

    def mismatches(self, inputs: Arrays) -> int:
        """Counts of one batch that differ by more than f's rounding explains."""
        if self._session is None:
            return 0
        found = {**inputs, **run(self._session, _wanted(self._session, inputs))}
        total = 0
        for x, every, z, even in self._pairs:
            current, value = found[x], found[z].astype(np.float64)
            unit = ROUNDING.get(current.dtype, SUM_ROUNDING)
            near = CURVE_ROUNDINGS * unit * np.maximum(np.abs(current.astype(np.float64)), np.maximum(np.abs(value), 1))
            count = every.count(current)
            total += int(np.count_nonzero((count < even.count(value - near)) | (count > even.count(value + near))))
        return total


def _sizes(values: Array) -> Array:
    """|u| of a tensor that no linear node makes, float32; for float16 the largest of all: what made it may have read an
    input before that was rounded, and then u is off by what its own size does not tell.
    """
    largest = values.dtype in ROUNDING
    return np.full(values.shape, _largest(values), np.float32) if largest else np.abs(values.astype(np.float32))


def _whole_sizes(values: Array, measured: bool) -> Array:
    """|u| of whole numbers in their own type, whose least one has none and gets the largest; others as they are."""
    if not measured or values.dtype.kind != "i":
        return values
    return np.abs(np.maximum(values, -np.iinfo(values.dtype).max))


def _largest(values: Array) -> float:
    return float(np.abs(values[np.isfinite(values)].astype(np.float64)).max(initial=0.0))


def _bound(sizes: Array, roundings: int, stored: int, dtype: np.dtype[Any]) -> Array:
    """2·γ·m/(1 − γ): both forms round, and so did the float32 m; float16 adds the roundings of stored tensors."""
    sizes = np.maximum(sizes, LEAST)
    relative = _gamma(roundings, SUM_ROUNDING)
    absolute = 0.0
    if dtype in ROUNDING:
        relative += _gamma(stored, ROUNDING[dtype])
        absolute = stored * SMALLEST[dtype] * ROUNDING[dtype]
    return 2 * (relative * sizes / (1 - relative) + absolute) if relative < 1 else np.full(sizes.shape, np.inf)


def _gamma(roundings: int, unit: float) -> float:
    """γ_k = k·u/(1 − k·u)."""
    return roundings * unit / (1 - roundings * unit) if roundings * unit < 1 else np.inf


def _shifted(x: Array, by: Array) -> Array:
    return (x.astype(np.float64) + by).astype(np.float32)


def _equal(one: Array, two: Array) -> Array:
    """Where two arrays are equal, NaN to NaN."""
    return np.asarray((one == two) | ((one != one) & (two != two)))


def _wanted(session: Any, feeds: Arrays) -> dict[str, Array]:
    return {value.name: feeds[value.name] for value in session.get_inputs()}
