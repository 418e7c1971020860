"""Calibration: layer by layer, from a normalised network and data to a plan.

The ANN runs once, and rows of x and a = f(x) of every step are kept (observation.py). The network converted so far
(the *SNN side*) runs once, segment by segment, whatever the depth. A step is a site, a weight layer that no site
follows, or both: the layers whose outputs sum to the site's pre-activation.

    run      the SNN's segment to the layers' inputs u and to what else the pre-activation is a sum of
    correct  the layer's weights by regression of x − x_q on rows of u              (method "optimal")
    run      the corrected layer, and take rows of its x_q, at positions where rows of x and a were taken
    fit      threshold, shift, amplitude and offset to a given x_q
    go on    the SNN's segment through the neuron

Positions are drawn by a generator seeded with (seed, step, batch), so the same data gives the same plan, bit for bit.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration import observation
from graphpass.calibration.fitting import error_of, fit_quantiser, fit_site
from graphpass.calibration.im2col import Geometry, bias_of, from_matrix, to_matrix
from graphpass.calibration.observation import Observation, Subject, regression_rows, sizes_of
from graphpass.calibration.resolution import ROUNDED, is_rounding
from graphpass.calibration.sampling import Positions, SpikingSide, StepSample, sample_of
from graphpass.calibration.segments import StepSegments, cut, needs
from graphpass.calibration.steps import Step
from graphpass.datasets.dataset import Dataset
from graphpass.errors import DataError, OptionError
from graphpass.forms import operators
from graphpass.forms.folded import neuron_nodes, replace_weight, value_of
from graphpass.graph.layers import WeightLayer, is_padded, last_layers, weight_layers
from graphpass.graph.plan import LayerPlan, Left, Plan, SitePlan
from graphpass.graph.weights import values_of
from graphpass.maths.corrections import ROUNDS, scale_back
from graphpass.maths.methods import COARSE_LEVELS, METHODS, correct_bias
from graphpass.maths.neuron import levels_of
from graphpass.maths.outliers import split
from graphpass.maths.thresholds import by_channel
from graphpass.options.table import OPTIONS, STEPS
from graphpass.progress import Progress, silent
from graphpass.sites.identities import feeds_layers_alone
from graphpass.sites.sites import Coverage, Site

Array = NDArray[Any]

REFINEMENT_WORK = 25 * 10**10  # multiply-adds of refining all steps, up to which a network is refined at any T
FEW_LEVELS = 4  # up to so many, offsets are worth it that the integer form rescales counts in front of padding
CURVED_LEVELS = 64  # the same for curved activations, whose least value is rarely a whole number of levels below 0


@dataclass(frozen=True)
class CalibrationOptions(observation.ObservationOptions):
    """How to calibrate.

    exact_padding: no offsets that padding would cut off, for the integer form.
    clip_limits: levels of a clip span the clip, whatever the data reaches, and layers get new biases alone: for data
    that is not to be trusted with more (graphpass/calibration/synthetic.py).
    levels: of single sites, by name; all others have as many as T allows. refinement: whether corrected weights are
    refined where that pays; without it they lose more at few levels, and calibration takes a part of the time.
    baseline: whether levels for the ANN itself are chosen, too (evaluation/baseline.py).
    """

    time_steps: int = STEPS
    coding: str = OPTIONS["coding"].default
    exact_padding: bool = False
    clip_limits: bool = False
    refinement: bool = True
    baseline: bool = True
    levels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        most = levels_of(self.time_steps, self.coding)
        for name, count in self.levels.items():
            if not 2 <= count <= most:
                raise OptionError(
                    f"{count} levels at site {name!r}",
                    f"choose 2 to {most}, the most for T = {self.time_steps} in the {self.coding} code",
                )
        super().__post_init__()

    def levels_at(self, site: str) -> int:
        """Levels of a site's neurons."""
        return self.levels.get(site, levels_of(self.time_steps, self.coding))


def calibrate(
    graph: gs.Graph,
    coverage: Coverage,
    dataset: Dataset,
    options: CalibrationOptions,
    fixed_batch: int | None = None,
    progress: Progress = silent,
    observed: Sequence[str | Path] = (),
) -> Plan:
    """The plan for a normalised graph (not changed).

    observed: the ANN's side, as the parts that `observe_part` wrote of all samples, in order; the plan is the same.
    Raises CalibrationError when a site's values are not finite, DataError for bad data.
    """
    _require_sites(coverage, options)
    with observation.opened(graph, coverage.sites, dataset, options, fixed_batch) as subject:
        if observed:
            seen = observation.join([observation.load(path, subject) for path in observed])
            if tuple(subject.store_inputs(seen.batch)) != seen.sizes:
                raise DataError(f"{dataset.description}: not the data that was observed", observation.REMEDY)
        else:
            seen = observation.observe(subject, progress)
        calibrator = _Calibrator(subject, seen, options)
        for number in range(len(subject.steps)):
            progress("calibrating", number, len(subject.steps))
            calibrator.take(number)
        progress("calibrating", len(subject.steps), len(subject.steps))
    names = [site.name for site in coverage.sites]
    return Plan(
        options.time_steps,
        options.coding,
        options.method,
        tuple(sorted(calibrator.sites, key=lambda site: names.index(site.name))),
        tuple(calibrator.layers),
        (*coverage.left, *calibrator.left),
        samples=seen.total,
        seed=options.seed,
        ranges=seen.extremes.ranges,
    )


def observe_part(
    graph: gs.Graph,
    coverage: Coverage,
    dataset: Dataset,
    options: CalibrationOptions,
    path: str | Path,
    start: int = 0,
    stop: int | None = None,
    fixed_batch: int | None = None,
    progress: Progress = silent,
) -> int:
    """Write what the ANN shows of samples start … stop − 1, for `calibrate`; how many they are.

    Both ends move up to the next whole batch, so that parts which meet still do; one may thereby be empty.
    Raises as `calibrate`.
    """
    _require_sites(coverage, options)
    with observation.opened(graph, coverage.sites, dataset, options, fixed_batch) as subject:
        seen = observation.observe(subject, progress, start, stop)
        observation.save(seen, path)
    return sum(seen.sizes)


def _require_sites(coverage: Coverage, options: CalibrationOptions) -> None:
    unknown = sorted(options.levels.keys() - {site.name for site in coverage.sites})
    if unknown:
        raise OptionError(f"levels for {unknown[0]!r}, which is not a site", "name sites as `graphpass inspect` does")


def _may_have_offset(site: Site | None, padded: Set[str], options: CalibrationOptions) -> bool:
    """Whether y = A·n + o may have any o, not only one at which a count stands for 0.

    Padding adds 0, not o, so that the integer form rescales counts in front of it. From some levels on, o matters
    little (docs/decisions/0049). A clip that does not begin at 0 is not reached from 0 up.
    """
    if not (options.exact_padding and site and padded & set(site.layers)):
        return True
    if site.kind == "clip" and site.parameters["low"] != 0:
        return True
    return options.levels_at(site.name) <= (FEW_LEVELS if site.curve is None else CURVED_LEVELS)


def _is_small(steps: Sequence[Step], options: CalibrationOptions) -> bool:
    """Whether refining every step costs seconds."""
    work = 0
    for step in steps:
        if step.layers:
            width, channels = sizes_of(step)
            work += 2 * ROUNDS * regression_rows(step, options, len(steps)) * width * channels
    return work <= REFINEMENT_WORK


@dataclass(frozen=True, eq=False)
class _Regressed:
    """What regressions see: rows, and the inputs u of the step's layers in these, float32 [G, P, K] each."""

    sample: StepSample
    inputs: Sequence[Array]
    geometries: Sequence[Geometry]


class _Calibrator:
    """The SNN's side of the walk so far, and what was decided on it."""

    def __init__(self, subject: Subject, seen: Observation, options: CalibrationOptions):
        self._subject, self._seen, self._options = subject, seen, options
        self._walk = subject.walk
        self._method = METHODS[options.method]
        self._functions = operators.functions(options.coding, self._walk.graph.opset)
        self._small = _is_small(subject.steps, options)
        self._padded = {layer.node.name for layer in weight_layers(self._walk.graph) if is_padded(layer.node.attrs)}
        self._last = last_layers(self._walk.graph)
        self._spiking: set[str] = set()  # tensors that a neuron has a part in: only there the two sides differ
        self.sites: list[SitePlan] = []
        self.layers: list[LayerPlan] = []
        self.left: list[Left] = []

    def take(self, number: int) -> None:
        """One step: run, correct, sample, fit, go on."""
        walk, step = self._walk, self._subject.steps[number]
        segments = cut(walk, step)
        self._mark(segments)
        positions, rows = self._positions(number), list(self._seen.take(number))
        changes = self._correct(step, self._before(positions, rows, segments))
        downstream: Sequence[gs.Node] = segments.downstream
        for layer, change in changes:
            downstream = _with_added(downstream, layer.node, replace_weight(walk.graph, walk.names, layer, change))
        neurons = self._fit(step.site, self._behind(positions, rows, segments, downstream)) if step.site else None
        if step.site and neurons and is_rounding(step.site, neurons, walk, self._through(step, step.site, downstream)):
            self.left.append(Left(step.site.name, step.site.kind, ROUNDED, True))
            neurons = None
        elif neurons:
            self.sites.append(neurons)
        self._go_on(step, segments, downstream, neurons)
        walk.finish(segments.nodes, segments.frontier, segments.boundary)
        self.layers.extend(change for _, change in changes)

    def _mark(self, segments: StepSegments) -> None:
        """Note which tensors in front of the step's neurons a neuron has a part in."""
        for node in (*segments.upstream, *segments.downstream):
            if any(tensor.name in self._spiking for tensor in needs(node)):
                self._spiking.update(tensor.name for tensor in node.outputs)

    def _run(
        self, nodes: Sequence[gs.Node], fetch: Sequence[str], functions: bool = False
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """The fetched tensors of every batch: those that the nodes make go to the store, the others come from it.

        What nothing else will read leaves the store batch by batch.
        """
        walk, spent = self._walk, self._walk.last_read(nodes)
        made = {tensor.name for node in nodes for tensor in node.outputs}
        needed = {*walk.outside(nodes), *(name for name in fetch if name not in made)}
        segment = None
        for batch in range(len(self._seen.sizes)):
            values = {name: walk.store.get(name, batch) for name in needed}
            if nodes and segment is None:
                segment = walk.segment(nodes, fetch, values, self._functions if functions else ())
            for name in spent:
                walk.store.drop(name, batch)
            for name, value in segment.run(values).items() if segment else ():
                walk.store.put(name, batch, value)
                values[name] = value
            yield batch, values

    def _positions(self, number: int) -> Positions:
        """Where the rows of the ANN were taken, in all batches."""
        seen, subject = self._seen, self._subject
        positions = subject.positions(number, seen.total)
        positions.extend(seen.sizes, subject.fixed, seen.extents[number])
        return positions

    def _before(self, positions: Positions, rows: Sequence[Array], segments: StepSegments) -> "_Regressed | None":
        """The SNN's side up to the layers' inputs, which go to the store, and the rows that regressions see.

        None where there is nothing to correct.
        """
        step, options, subject = positions.step, self._options, self._subject
        side = None
        if step.layers and self._method.correct and step.target in self._spiking:
            some, kept = positions.drawn(regression_rows(step, options, len(subject.steps)))
            side = SpikingSide(some)
        fetch = dict.fromkeys([*segments.passing, *segments.boundary])
        for batch, values in self._run(segments.upstream, list(fetch)) if segments.upstream or side else ():
            if side:
                side.add(batch, values)
        if side is None:
            return None
        side.finish()
        sample = self._sample_of(some, [each[kept] for each in rows], side.x_snn)
        return None if sample.is_exact else _Regressed(sample, side.inputs, side.geometries)

    def _behind(
        self, positions: Positions, rows: list[Array], segments: StepSegments, downstream: Sequence[gs.Node]
    ) -> StepSample:
        """The SNN's side behind the corrected layers, which goes to the store, and the rows that thresholds see.

        rows: replaced by those, channel by channel.
        """
        step = positions.step
        positions, kept = positions.drawn(self._options.positions) if step.layers else (positions, slice(None))
        for number in range(len(rows)):  # one after the other goes
            rows[number] = by_channel(rows[number][kept])
        x_snn = rows[0]
        if step.target in self._spiking:
            run = self._run(downstream, [step.target, *segments.corrected])
            x_snn = by_channel(np.concatenate([positions.rows(batch, values[step.target]) for batch, values in run]))
        return self._sample_of(positions, rows, x_snn)

    def _sample_of(self, positions: Positions, rows: Sequence[Array], x_snn: Array) -> StepSample:
        offset = _may_have_offset(positions.step.site, self._padded, self._options)
        a = rows[1] if len(rows) > 1 else None
        sample = sample_of(positions, rows[0], a, x_snn, offset, self._options.clip_limits)
        sample.require_finite()
        return sample

    def _correct(self, step: Step, seen: "_Regressed | None") -> list[tuple[WeightLayer, LayerPlan]]:
        """New weights of the step's layers."""
        if seen is None or self._method.correct is None:
            return []
        correct = correct_bias if self._options.clip_limits else self._method.correct
        sample, levels = seen.sample, self._options.levels_at(step.site.name if step.site else "")
        changes = []
        parts = _jointly(step.layers, seen.inputs, seen.geometries)
        for number, (layers, inputs) in enumerate(parts, 1):
            pays = self._options.refinement and (self._small or levels <= COARSE_LEVELS)
            weight, bias = correct(inputs, sample.site, levels, pays)
            if number < len(parts) or not step.site:  # somebody asks for x_q again
                sample.move(inputs, weight, bias)
            start = 0
            for layer, shape in layers:
                old = values_of(layer.weight)
                matrix = to_matrix(old, shape)
                change = weight[:, start : start + matrix.shape[1]]
                start += matrix.shape[1]
                changed = matrix + change
                if step.site is None and layer.node.name in self._last and not self._options.clip_limits:
                    changed, bias = _scaled_back(layer, changed, bias, sample)
                new = from_matrix(changed, old, shape)
                changes.append((layer, LayerPlan(layer.node.name, new, bias)))
                bias = np.zeros_like(bias)  # the change of the sum's bias is made once
        return changes

    def _fit(self, site: Site, sample: StepSample) -> SitePlan:
        """The site's neurons, by the method, or as its QCFS chain says; and levels for the ANN itself."""
        fitted = fit_site(site, sample, self._options.levels_at(site.name), self._method)
        if self._may_split(site) and (pair := split(sample.x_snn, fitted.values, fitted.levels)):
            fitted = replace(fitted, **vars(pair[0]), beyond=pair[1])
        return replace(
            fitted,
            lowest=sample.span.lowest,
            highest=sample.span.highest,
            error=error_of(fitted, sample),
            quantiser=fitted.quantiser or (fit_quantiser(sample, fitted.levels) if self._options.baseline else None),
        )

    def _may_split(self, site: Site) -> bool:
        """Whether a second neuron may stand beside the first: each layer then sees the spikes of both apart."""
        trusted = self._method.splits and not self._options.clip_limits
        return trusted and site.kind == "identity" and feeds_layers_alone(self._walk.tensors[site.output])

    def _through(self, step: Step, site: Site, downstream: Sequence[gs.Node]) -> list[gs.Node]:
        """The nodes behind the corrected layers that have not run, and those of the site's activation."""
        nodes = [] if step.target in self._spiking else list(downstream)
        inside = {id(node) for node in nodes}
        own = self._walk.nodes_for([site.output], stop=[site.input])
        return [*nodes, *(node for node in own if id(node) not in inside)]

    def _go_on(self, step: Step, segments: StepSegments, downstream: Sequence[gs.Node], site: SitePlan | None) -> None:
        """The SNN's side behind the corrected layers, unless it has run already, through the neurons if it has any."""
        ran = step.site is not None and step.target in self._spiking
        nodes, fetch = ([], []) if ran else (list(downstream), list(segments.corrected))
        if step.site:
            x, y = self._walk.tensors[step.site.input], self._walk.tensors[step.site.output]
            if site is None or site.scale == "activation":
                nodes = self._through(step, step.site, downstream)
            if site and site.scale == "activation":
                x = value_of(site, y, self._walk.names)
            if site:
                nodes += neuron_nodes(site, self._options.time_steps, self._options.coding, x, y, self._walk.names)
            fetch.append(y.name)
            if site or ran:
                self._spiking.add(y.name)
        spent = ran and step.layers and step.target not in segments.corrected
        for batch, _ in self._run(nodes, fetch, functions=site is not None) if fetch else ():
            if spent:
                self._walk.store.drop(step.target, batch)


def _scaled_back(layer: WeightLayer, matrix: Array, bias: Array, sample: StepSample) -> tuple[Array, Array]:
    """Corrected weights and change of bias of a layer that no other follows, with its outputs on their own scale."""
    gain, shift = scale_back(sample.x, sample.x_snn)
    scaled = matrix * gain.reshape(len(matrix), 1, -1)
    return scaled, (bias_of(layer) + bias) * gain + shift - bias_of(layer)


def _with_added(nodes: Sequence[gs.Node], after: gs.Node, added: Sequence[gs.Node]) -> list[gs.Node]:
    return [n for node in nodes for n in ((node, *added) if node is after else (node,))]


def _jointly(
    layers: Sequence[WeightLayer], inputs: Sequence[Array], shapes: Sequence[Geometry]
) -> list[tuple[list[tuple[WeightLayer, Geometry]], Array]]:
    """Layers of one sum are corrected by one regression on all their inputs; grouped ones each by its own."""
    pairs = list(zip(layers, shapes, strict=True))
    if all(shape.groups == 1 for shape in shapes):
        return [(pairs, inputs[0] if len(inputs) == 1 else np.concatenate(inputs, axis=2))]
    return [([pair], rows) for pair, rows in zip(pairs, inputs, strict=True)]
