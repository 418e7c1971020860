"""Calibration: layer by layer, from a normalised network and data to a plan.

The ANN runs once, and rows of x and a = f(x) of every step are kept. The network converted so far (the *SNN side*) runs
once, segment by segment, whatever the depth. A step is a site, a weight layer that no site follows, or both: the layers
whose outputs sum to the site's pre-activation.

    run      the SNN's segment to the layers' inputs u and to what else the pre-activation is a sum of
    sample   rows of u and of x_q = u·M + b + …, at the positions where rows of x and a were taken
    correct  the layer's weights by regression of x − x_q on u                      (method "optimal")
    fit      threshold, shift, amplitude and offset to a given the corrected x_q
    go on    the SNN's segment through the corrected layer and the neuron

Positions are drawn by a generator seeded with (seed, step, batch), so the same data gives the same plan, bit for bit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.datasets.dataset import Dataset
from graphpass.errors import OptionError
from graphpass.graph import operators
from graphpass.graph.folded import neuron_node, replace_weight
from graphpass.graph.identities import place_identities
from graphpass.graph.layers import WeightLayer, is_padded, weight_layers
from graphpass.graph.plan import LayerPlan, Plan, SitePlan
from graphpass.graph.sites import Coverage, Site
from graphpass.graph.steps import Step, steps_of
from graphpass.graph.unfolding import Geometry, from_matrix, inputs_of, outputs_of, to_matrix
from graphpass.maths.corrections import ROUNDS
from graphpass.maths.methods import COARSE_LEVELS, EXACT_RECTIFIERS, METHODS, Method, correct_bias
from graphpass.maths.neuron import Neuron, levels_of
from graphpass.ranges import ranges_of
from graphpass.sampling import Sample
from graphpass.segments import TensorStore, Walk, needs
from graphpass.session import pad_inputs

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]  # what, done, of how many

REGRESSION_WORK = 4 * 10**11  # multiply-adds that the normal equations of all steps may cost
REGRESSION_VALUES = 2**25  # numbers of the sampled pre-activations of all steps
REFINEMENT_WORK = 25 * 10**10  # multiply-adds of refining all steps, up to which a network is refined at any T
FEW_LEVELS = 4  # up to so many, offsets are worth the integer form's corrections at every border
SPREAD = 8, 4  # a step with layers samples from an eighth to four times `positions`
STORE_SHARE = 3 / 8  # of the memory budget: live tensors
SAMPLES_SHARE = 1 / 4  # of the memory budget: the ANN's rows; the rest is for sessions and regressions
FETCH_SHARE = 1 / 16  # of the memory budget: the tensors fetched from one run of the ANN
ROWS_SHARE = 1 / 16  # of the memory budget: the sampled inputs of a step's layers


@dataclass(frozen=True)
class Options:
    """How to calibrate. positions: sampled rows of a step, more where its layers are narrow.

    exact_padding: no offsets that padding would cut off, for the integer form. memory: bytes. threads: 0 for all cores.
    clip_limits: levels of a clip span the clip, whatever the data reaches, and layers get new biases alone: for data
    that is not to be trusted with more (graphpass/synthetic.py).
    levels: of single sites, by name; all others have as many as T allows.
    """

    time_steps: int = 8
    coding: str = "rate"
    method: str = "optimal"
    seed: int = 0
    positions: int = 16384
    batch: int = 32
    limit: int | None = None
    memory: int = 2 << 30
    threads: int = 0
    exact_padding: bool = False
    clip_limits: bool = False
    levels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        most = levels_of(self.time_steps, self.coding)
        for name, count in self.levels.items():
            if not 2 <= count <= most:
                raise OptionError(
                    f"{count} levels at site {name!r}",
                    f"choose 2 to {most}, which {self.time_steps} time-steps of the {self.coding} code have",
                )
        if self.method not in METHODS:
            raise OptionError(f"unknown method {self.method!r}", f"choose one of {', '.join(METHODS)}")
        if self.positions < 1 or self.batch < 1:
            raise OptionError(f"{self.positions} positions in batches of {self.batch}", "both must be at least 1")
        if self.memory < 1 << 20:
            raise OptionError(f"a memory budget of {self.memory} bytes", "give at least 1 MiB, for example 2GiB")

    def levels_at(self, site: str) -> int:
        """Levels of a site's neurons."""
        return self.levels.get(site, levels_of(self.time_steps, self.coding))


def calibrate(
    graph: gs.Graph,
    coverage: Coverage,
    dataset: Dataset,
    options: Options,
    fixed_batch: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Plan:
    """The plan for a normalised graph (not changed).

    Raises CalibrationError when a site's values are not finite, DataError for bad data.
    """
    unknown = sorted(options.levels.keys() - {site.name for site in coverage.sites})
    if unknown:
        raise OptionError(f"levels for {unknown[0]!r}, which is no site", "name sites as `graphpass inspect` does")
    graph = graph.copy()
    place_identities(graph, coverage.sites)
    steps = steps_of(graph, coverage.sites, METHODS[options.method].correct is not None)
    ranges = ranges_of(graph, coverage.sites, dataset, options.limit, fixed_batch, options.threads)
    with (
        TensorStore(int(options.memory * STORE_SHARE)) as store,
        TensorStore(int(options.memory * SAMPLES_SHARE)) as rows,
    ):
        walk = Walk(graph, store, options.threads)
        sizes, samples = _observe(walk, rows, steps, dataset, options, fixed_batch, progress)
        calibrator = _Calibrator(walk, rows, options, len(sizes), _is_small(steps, options))
        for number, step in enumerate(steps):
            progress("calibrating", number, len(steps))
            calibrator.take(number, step, samples.pop(0))
        progress("calibrating", len(steps), len(steps))
    names = [site.name for site in coverage.sites]
    return Plan(
        options.time_steps,
        options.coding,
        options.method,
        tuple(sorted(calibrator.sites, key=lambda site: names.index(site.name))),
        tuple(calibrator.layers),
        coverage.left,
        samples=sum(sizes),
        seed=options.seed,
        ranges=ranges,
    )


def _observe(
    walk: Walk,
    rows: TensorStore,
    steps: Sequence[Step],
    dataset: Dataset,
    options: Options,
    fixed: int | None,
    progress: Progress,
) -> tuple[list[int], list[Sample]]:
    """Run the ANN on all data; returns the sizes of the batches and each step's sample with the ANN's side taken.

    The walk's store gets the inputs of the network, `rows` the rows of x and a. The last sample fills up a fixed batch.
    A free one is as large as keeps what is fetched within FETCH_SHARE of the memory budget: small batches are not
    slower, their tensors stay in the processor's cache.
    """
    pairs = [(step.target, step.site.output if step.site else step.target) for step in steps]
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    first = pad_inputs(next(iter(dataset.batches(fixed or 1, options.limit))).inputs, fixed)
    segment = walk.segment(walk.pending(names), names, first)
    per_batch = max(1, sum(values.nbytes for values in segment.run(first).values()))
    free = int(np.clip(options.memory * FETCH_SHARE // per_batch, 1, options.batch))
    sizes = []
    for number, batch in enumerate(dataset.batches(fixed or free, options.limit)):
        sizes.append(batch.size)
        for name, values in pad_inputs(batch.inputs, fixed).items():
            walk.store.put(name, number, values)
    ranges = METHODS[options.method].ranges
    rows_of = [-(-_rows(step, options, len(steps)) // sum(sizes)) for step in steps]
    padded = {layer.node.name for layer in weight_layers(walk.graph) if is_padded(layer.node.attrs)}
    samples = [
        Sample(
            step,
            rows_of[k],
            (options.seed, k),
            ranges,
            _may_have_offset(step.site, padded, options),
            options.clip_limits,
        )
        for k, step in enumerate(steps)
    ]
    for number, size in enumerate(sizes):
        progress("running the network", number, len(sizes))
        found = {name: walk.store.get(name, number) for name in first}
        found.update(segment.run(found))
        for index, (sample, (x, a)) in enumerate(zip(samples, pairs, strict=True)):
            x_rows, a_rows = sample.add_ann(size, fixed or size, found[x], found[a])
            rows.put(f"{index}/x", number, x_rows)
            rows.put(f"{index}/a", number, a_rows)
    progress("running the network", len(sizes), len(sizes))
    return sizes, samples


def _may_have_offset(site: Site | None, padded: Set[str], options: Options) -> bool:
    """Whether y = A·n + o may have an o other than 0.

    Padding adds 0, not o, which costs the integer form a correction at every border, and keeps padded depthwise layers
    out of integers. Behind a rectifier, from some levels on, o matters little (docs/decisions/0009).
    """
    if not (options.exact_padding and site and site.kind in EXACT_RECTIFIERS and padded & set(site.layers)):
        return True
    return options.levels_at(site.name) <= FEW_LEVELS


def _rows(step: Step, options: Options, steps: int) -> int:
    """Sampled rows of a step: more where its layers are narrow or the network has few steps."""
    total = options.positions
    if step.layers:
        width, channels = _sizes(step)
        affordable = min(REGRESSION_WORK // steps // width**2, REGRESSION_VALUES // steps // channels)
        total = int(np.clip(affordable, max(1, total // SPREAD[0]), SPREAD[1] * total))
        total = min(total, max(1, int(options.memory * ROWS_SHARE) // (4 * width)))
    return total


def _sizes(step: Step) -> tuple[int, int]:
    """Inputs that one output of the step's layers sees, and output channels."""
    return max(1, sum(inputs_of(layer) for layer in step.layers)), max(1, *(outputs_of(layer) for layer in step.layers))


def _is_small(steps: Sequence[Step], options: Options) -> bool:
    """Whether refining every step costs seconds."""
    work = 0
    for step in steps:
        if step.layers:
            width, channels = _sizes(step)
            work += 2 * ROUNDS * _rows(step, options, len(steps)) * width * channels
    return work <= REFINEMENT_WORK


class _Calibrator:
    """The SNN's side of the walk so far, and what was decided on it."""

    def __init__(self, walk: Walk, rows: TensorStore, options: Options, batches: int, small: bool):
        self._walk = walk
        self._rows = rows
        self._options = options
        self._method = METHODS[options.method]
        self._functions = operators.functions(options.coding, walk.graph.opset)
        self._batches = batches
        self._small = small
        self._spiking: set[str] = set()  # tensors that a neuron has a part in: only there the two sides differ
        self.sites: list[SitePlan] = []
        self.layers: list[LayerPlan] = []

    def take(self, number: int, step: Step, sample: Sample) -> None:
        """One step: run, sample, correct, fit, go on."""
        walk, site = self._walk, step.site
        output = site.output if site else None
        nodes = walk.pending([step.target, *([output] if output else [])])
        frontier = walk.frontier(nodes)
        kept = [name for name in frontier if name != output]
        before = walk.pending([step.target, *kept], stop=[output] if output else [])
        self._mark(before)
        behind = walk.descendants(before, [layer.node for layer in step.layers])
        moved = {tensor.name for node in behind for tensor in node.outputs}
        boundary = walk.outside(behind) if behind else ([step.target] if site else [])
        ahead = [node for node in before if not any(node is other for other in behind)]

        self._sample(number, step, sample, ahead, [*(name for name in kept if name not in moved), *boundary])
        sample.require_finite()
        changes = self._correct(step, sample)
        for layer, change in changes:
            behind = _with_added(behind, layer.node, replace_weight(walk.graph, layer, change))
        neuron = self._fit(site, sample) if site else None
        self._go_on(behind, neuron, [name for name in kept if name in moved])
        walk.finish({id(n): n for n in (*nodes, *before)}.values(), frontier, boundary)
        self.layers.extend(change for _, change in changes)

    def _mark(self, nodes: Sequence[gs.Node]) -> None:
        """Note which outputs of the nodes a neuron has a part in."""
        for node in nodes:
            if any(tensor.name in self._spiking for tensor in needs(node)):
                self._spiking.update(tensor.name for tensor in node.outputs)

    def _run(
        self, nodes: Sequence[gs.Node], fetch: Sequence[str], functions: bool = False
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """The fetched tensors of every batch: those that the nodes make go to the store, the others come from it."""
        walk = self._walk
        made = {tensor.name for node in nodes for tensor in node.outputs}
        needed = {*walk.outside(nodes), *(name for name in fetch if name not in made)}
        segment = None
        for batch in range(self._batches):
            values = {name: walk.store.get(name, batch) for name in needed}
            if nodes and segment is None:
                segment = walk.segment(nodes, fetch, values, self._functions if functions else ())
            for name, value in segment.run(values).items() if segment else ():
                walk.store.put(name, batch, value)
                values[name] = value
            yield batch, values

    def _sample(self, number: int, step: Step, sample: Sample, nodes: Sequence[gs.Node], fetch: Sequence[str]) -> None:
        """The SNN's side up to what the target is a sum of; `fetch`, what later segments need, goes to the store."""
        parts = [layer.data.name for layer in step.layers] or [step.target]
        parts += [tensor.name for tensor in step.addends if not isinstance(tensor, gs.Constant)]
        for batch, values in self._run(nodes, list(dict.fromkeys([*fetch, *parts]))):
            sample.add_snn(batch, values)
        x, a = (
            np.concatenate([self._rows.get(f"{number}/{part}", batch) for batch in range(self._batches)])
            for part in "xa"
        )
        self._rows.drop(f"{number}/x")
        self._rows.drop(f"{number}/a")
        sample.close(x, a)

    def _correct(self, step: Step, sample: Sample) -> list[tuple[WeightLayer, LayerPlan]]:
        """New weights of the step's layers; the sample's x_q follows them."""
        correct = self._method.correct
        if correct is None or not step.layers or step.target not in self._spiking or sample.is_exact:
            return []
        if self._options.clip_limits:
            correct = correct_bias
        levels = self._options.levels_at(step.site.name if step.site else "")
        changes = []
        for layers, inputs in _jointly(step.layers, sample.inputs, sample.geometries):
            weight, bias = correct(inputs, sample.site, levels, self._small or levels <= COARSE_LEVELS)
            sample.move(inputs, weight, bias)
            start = 0
            for layer, shape in layers:
                matrix = to_matrix(layer.weight.values, shape)
                change = weight[:, start : start + matrix.shape[1]]
                start += matrix.shape[1]
                new = from_matrix(matrix + change, layer.weight.values, shape)
                changes.append((layer, LayerPlan(layer.node.name, new, bias)))
                bias = np.zeros_like(bias)  # the change of the sum's bias is made once
        return changes

    def _fit(self, site: Site, sample: Sample) -> SitePlan:
        """The site's neurons, by the method, or as its QCFS chain says."""
        fitted = fit_site(site, sample, self._options.levels_at(site.name), self._method)
        spread = float(np.square(sample.a - sample.a.mean(0), dtype=np.float64).sum())
        error = float(np.square(flat_neuron(fitted).fire(sample.x_snn) - sample.a, dtype=np.float64).sum())
        plan = replace(
            fitted, lowest=sample.lowest, highest=sample.highest, error=error / spread if spread > 0 else None
        )
        self.sites.append(plan)
        return plan

    def _go_on(self, behind: Sequence[gs.Node], site: SitePlan | None, kept: Sequence[str]) -> None:
        """The SNN's side behind the corrected layers, through the neurons."""
        nodes, fetch = list(behind), list(kept)
        if site:
            x, y = self._walk.tensors[site.input], self._walk.tensors[site.output]
            nodes.append(neuron_node(site, self._options.time_steps, self._options.coding, x, y))
            fetch.append(site.output)
            self._spiking.add(site.output)
        for _ in self._run(nodes, fetch, functions=site is not None) if fetch else ():
            pass  # the store has them


def fit_site(site: Site, sample: Sample, levels: int, method: Method) -> SitePlan:
    """A site's neurons, by the method from its closed sample, or as its QCFS chain says."""
    chain = qcfs_plan(site, levels)
    if chain is not None:
        return chain
    chosen = method.fit(sample.site, levels)
    parameters = (chosen.threshold, chosen.shift, chosen.amplitude, chosen.offset)
    return _site_plan(site, sample.parameter_shape(len(chosen.threshold)), levels, parameters)


def flat_neuron(site: SitePlan) -> Neuron:
    """A site's neurons for sampled rows [P, C]."""
    return replace(site, shape=(len(site.threshold),)).neuron


def qcfs_plan(site: Site, levels: int) -> SitePlan | None:
    """A QCFS site's own neurons: lossless where the levels are its own, else its range in other levels.

    With L̃ = the chain's steps and L = levels − 1:  θ = θ̃·L̃/L,  ψ = ψ̃ − θ̃/2 + θ/2,  A = Ã·L̃/L,  o = õ.
    None for other sites.
    """
    if "steps" not in site.parameters:
        return None
    known = {name: np.asarray(value, np.float64) for name, value in site.parameters.items()}
    ratio = float(known["steps"]) / (levels - 1)
    old = known["threshold"]
    parts = (
        old * ratio,
        known["shift"] + (old * ratio - old) / 2,
        known["amplitude"] * ratio,
        known["offset"],
    )
    full = np.broadcast_arrays(*parts)
    return _site_plan(site, full[0].shape or (1,), levels, [np.ravel(part) for part in full])


def _site_plan(site: Site, shape: Sequence[int], levels: int, parts: Sequence[Array]) -> SitePlan:
    threshold, shift, amplitude, offset = (np.ascontiguousarray(part, np.float32) for part in parts)
    return SitePlan(
        name=site.name,
        kind=site.kind,
        input=site.input,
        output=site.output,
        layers=site.layers,
        shape=tuple(int(size) for size in shape),
        levels=levels,
        threshold=threshold,
        shift=shift,
        amplitude=amplitude,
        offset=offset,
    )


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
