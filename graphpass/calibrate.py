"""Calibration: layer by layer over segments, from a normalised network and data to a plan.

Each part of the network runs once for the ANN and once for the converted network (the *SNN side*), whatever the depth.
A step is a site, a weight layer that no site follows, or both: the layer(s) whose output is the site's pre-activation.

    run      the ANN's segment to x and a = f(x), the SNN's to x_q and the layer's input u
    sample   rows of x, x_q, a and u at the same random positions
    correct  the layer's weights by regression of x − x_q on u                      (method "optimal")
    fit      threshold, shift, amplitude and offset to a given the corrected x_q
    go on    the SNN's segment again behind the corrected layer, through the neuron

Positions are drawn by a generator seeded with (seed, step, batch), so the same data gives the same plan, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.data import Dataset
from graphpass.errors import CalibrationError, OptionError
from graphpass.graph import operators
from graphpass.graph.folded import has_constant_bias, neuron_node, replace_weight
from graphpass.graph.layers import WeightLayer, weight_layers
from graphpass.graph.plan import LayerPlan, Plan, SitePlan
from graphpass.graph.sites import Coverage, Site, place_identities
from graphpass.graph.unfolding import Geometry, from_matrix, geometry, inputs_of, outputs_of, to_matrix
from graphpass.graph.weights import held_names
from graphpass.maths.methods import METHODS, Method
from graphpass.maths.neuron import levels_of
from graphpass.sampling import Sample
from graphpass.segments import TensorStore, Walk
from graphpass.session import pad_batch

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]  # what, done, of how many

REGRESSION_WORK = 4 * 10**10  # multiply-adds that the normal equations of one step may cost
REGRESSION_VALUES = 4 * 2**20  # numbers of the sampled pre-activation that the refinement goes over
SPREAD = 4  # a step with layers samples from a quarter to four times `positions`
STORE_SHARE = 0.5  # of the memory budget: live tensors; the rest is for sessions, samples and regressions


@dataclass(frozen=True)
class Options:
    """How to calibrate. positions: sampled rows of a step, more where its layers are narrow.

    memory: bytes. threads: 0 for all cores.
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

    def __post_init__(self) -> None:
        levels_of(self.time_steps, self.coding)
        if self.method not in METHODS:
            raise OptionError(f"unknown method {self.method!r}", f"choose one of {', '.join(METHODS)}")
        if self.positions < 1 or self.batch < 1 or self.memory < 1 << 20:
            raise OptionError("positions and batch must be at least 1, the memory budget 1 MiB")


@dataclass(frozen=True)
class Step:
    """One step of the walk. target: the tensor that is sampled: the site's pre-activation or the layer's output."""

    target: str
    layers: tuple[WeightLayer, ...]
    site: Site | None


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
    graph = graph.copy()
    place_identities(graph, coverage.sites)
    with TensorStore(int(options.memory * STORE_SHARE)) as store:
        sizes = _store_inputs(store, dataset, options, fixed_batch)
        walk = Walk(graph, store, len(sizes), options.threads)
        steps = _steps(graph, coverage.sites, METHODS[options.method])
        calibrator = _Calibrator(walk, options, sizes, fixed_batch)
        for number, step in enumerate(steps):
            progress("calibrating", number, len(steps))
            calibrator.take(number, step)
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
    )


def _store_inputs(store: TensorStore, dataset: Dataset, options: Options, fixed: int | None) -> list[int]:
    """Put every batch into the store, for both sides; returns the sizes. The last sample fills up a fixed batch."""
    sizes = []
    for number, batch in enumerate(dataset.batches(fixed or options.batch, options.limit)):
        sizes.append(batch.size)
        for name, values in batch.inputs.items():
            full = pad_batch(values, fixed) if fixed else values
            store.put("ann", name, number, full)
            store.put("snn", name, number, full)
    return sizes


def _steps(graph: gs.Graph, sites: Sequence[Site], method: Method) -> list[Step]:
    """Sites and weight layers in the order of their targets, a layer together with the site that it feeds.

    So a site comes before everything else that reads its pre-activation, and the layers in front of it run there first.
    """
    position = {t.name: number for number, node in enumerate(graph.nodes) for t in node.outputs}
    lossless = {site.input for site in sites if "steps" in site.parameters}
    site_inputs = {site.input for site in sites}
    feeding: dict[str, list[WeightLayer]] = {}
    alone: list[Step] = []
    if method.correct:
        shared, held = _shared_weights(graph), held_names(graph)
        for layer in weight_layers(graph):
            if layer.weight.name in shared or not has_constant_bias(layer) or isinstance(geometry(layer), str):
                continue
            target = _target(layer, site_inputs, held)
            if target not in site_inputs:
                alone.append(Step(target, (layer,), None))
            elif target not in lossless:
                feeding.setdefault(target, []).append(layer)
    together = [Step(site.input, tuple(feeding.pop(site.input, ())), site) for site in sites]
    return sorted([*alone, *together], key=lambda s: position.get(s.target, -1))  # -1: an input of the network


def _target(layer: WeightLayer, site_inputs: set[str], held: frozenset[str]) -> str:
    """The site input that the layer's output becomes by additions alone; else the output itself.

    held: names of tensors that are read elsewhere, too: what is added to them later is not theirs to make up for.
    """
    tensor = layer.output
    while tensor.name not in site_inputs:
        if tensor.name in held or len(tensor.outputs) != 1 or tensor.outputs[0].op not in ("Add", "Sum"):
            return str(layer.output.name)
        total = tensor.outputs[0].outputs[0]
        if total.shape is None or tensor.shape is None or list(total.shape) != list(tensor.shape):
            return str(layer.output.name)
        tensor = total
    return str(tensor.name)


def _shared_weights(graph: gs.Graph) -> set[str]:
    """Names of weights that more than one node reads: they stay as they are."""
    readers: dict[str, int] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant):
                readers[tensor.name] = readers.get(tensor.name, 0) + 1
    return {name for name, count in readers.items() if count > 1}


class _Calibrator:
    """The walk so far and what was decided on it."""

    def __init__(self, walk: Walk, options: Options, sizes: Sequence[int], fixed: int | None):
        self._walk = walk
        self._options = options
        self._method = METHODS[options.method]
        self._levels = levels_of(options.time_steps, options.coding)
        self._functions = operators.functions(options.coding, walk.graph.opset)
        self._sizes = sizes
        self._fixed = fixed
        self.sites: list[SitePlan] = []
        self.layers: list[LayerPlan] = []

    def take(self, number: int, step: Step) -> None:
        """One step: run, sample, correct, fit, go on."""
        walk, site = self._walk, step.site
        output = site.output if site else None
        nodes = walk.pending([step.target, *([output] if output else [])])
        frontier = walk.frontier(nodes)
        kept = [name for name in frontier if name != output]
        before = walk.pending([step.target, *kept], stop=[output] if output else [])
        roots = [layer.node for layer in step.layers]
        behind = walk.descendants(before, roots)
        moved = {tensor.name for node in behind for tensor in node.outputs}
        boundary = walk.outside(behind) if behind else ([step.target] if site else [])

        sample = self._sample(number, step, nodes, frontier, before, [n for n in kept if n not in moved], boundary)
        _require_finite(step, sample)
        changes = self._correct(step, sample)
        for layer, change in changes:
            behind = _with_added(behind, layer.node, replace_weight(walk.graph, layer, change))
        neuron = self._fit(site, sample) if site else None
        self._go_on(behind, neuron, [n for n in kept if n in moved])
        walk.finish({id(n): n for n in (*nodes, *before)}.values(), frontier, boundary)
        self.layers.extend(change for _, change in changes)

    def _rows(self, step: Step) -> int:
        """Sampled rows for each sample of the data: more where the layers are narrow, fewer where they are wide."""
        total = self._options.positions
        if step.layers:
            width = sum(inputs_of(layer) for layer in step.layers)
            channels = max(outputs_of(layer) for layer in step.layers)
            affordable = min(REGRESSION_WORK // max(1, width) ** 2, REGRESSION_VALUES // max(1, channels))
            total = int(np.clip(affordable, max(1, total // SPREAD), SPREAD * total))
        return -(-total // sum(self._sizes))

    def _run(
        self, side: str, nodes: Sequence[gs.Node], fetch: Sequence[str], functions: bool = False
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        """The fetched tensors of every batch, those the nodes do not make from the store."""
        walk = self._walk
        made = {tensor.name for node in nodes for tensor in node.outputs}
        outside = walk.outside(nodes)
        segment = None
        for batch in range(walk.batches):
            feeds = {name: walk.store.get(side, name, batch) for name in outside}
            if nodes and segment is None:
                segment = walk.segment(nodes, fetch, feeds, self._functions if functions else ())
            values = segment.run(feeds) if segment else {}
            values.update({n: walk.store.get(side, n, batch) for n in fetch if n not in made})
            yield batch, values

    def _sample(
        self,
        number: int,
        step: Step,
        nodes: Sequence[gs.Node],
        frontier: Sequence[str],
        before: Sequence[gs.Node],
        stay: Sequence[str],
        boundary: Sequence[str],
    ) -> Sample:
        """Both sides up to the target: rows of x, a, x_q and u; what later segments need goes to the store."""
        walk, site = self._walk, step.site
        activation = site.output if site else step.target
        sample = Sample(step.layers, site, self._rows(step), (self._options.seed, number))
        for batch, values in self._run("ann", nodes, list(dict.fromkeys([step.target, activation, *frontier]))):
            for name in frontier:
                walk.store.put("ann", name, batch, values[name])
            size = self._sizes[batch]
            sample.add_ann(batch, size, self._fixed or size, values[step.target], values[activation])
        inputs = [layer.data.name for layer in step.layers]
        wanted = list(dict.fromkeys([step.target, *inputs, *stay, *boundary]))
        for batch, values in self._run("snn", before, wanted):
            for name in dict.fromkeys([*stay, *boundary]):
                walk.store.put("snn", name, batch, values[name])
            sample.add_snn(batch, values[step.target], [values[name] for name in inputs])
        sample.close()
        return sample

    def _correct(self, step: Step, sample: Sample) -> list[tuple[WeightLayer, LayerPlan]]:
        """New weights of the step's layers; the sample's x_q follows them."""
        correct = self._method.correct
        if correct is None or not step.layers or np.array_equal(sample.x, sample.x_snn):
            return []
        changes = []
        for layers, inputs in _jointly(step.layers, sample.inputs, sample.geometries):
            weight, bias = correct(inputs, sample.site, self._levels)
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
        fitted = qcfs_plan(site, self._levels) if "steps" in site.parameters else None
        if fitted is None:
            chosen = self._method.fit(sample.site, self._levels)
            parameters = (chosen.threshold, chosen.shift, chosen.amplitude, chosen.offset)
            shape = sample.parameter_shape(len(chosen.threshold))
            fitted = _site_plan(site, shape, self._levels, parameters)
        flat = replace(fitted, shape=(len(fitted.threshold),))
        spread = float(np.square(sample.a - sample.a.mean(0), dtype=np.float64).sum())
        error = float(np.square(flat.neuron.fire(sample.x_snn) - sample.a, dtype=np.float64).sum())
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
        if not fetch:
            return
        for batch, values in self._run("snn", nodes, fetch, functions=site is not None):
            for name in fetch:
                self._walk.store.put("snn", name, batch, values[name])


def _require_finite(step: Step, sample: Sample) -> None:
    if not all(np.isfinite(v).all() for v in (sample.x, sample.x_snn, sample.a)):
        where = f"site {step.site.name!r}" if step.site else f"layer {step.layers[0].node.name!r}"
        raise CalibrationError(
            f"{where} has NaN or infinite values on the calibration data",
            "check the data and the model, or leave the site out with --exclude",
        )


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
        return [(pairs, np.concatenate(inputs, axis=2))]
    return [([pair], rows) for pair, rows in zip(pairs, inputs, strict=True)]
