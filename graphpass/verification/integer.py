"""The integer form compared with the folded form of the same plan: which counts differ on data, and by how much.

    flip        a count of the integer form that differs from the folded form's, on the same input of the network

Weights rounded to int8 move currents, and a current near the edge between two levels may then get the other count;
flips upstream move currents further. No bound is claimed for the whole network; the differences are reported.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.datasets.dataset import Dataset
from graphpass.errors import ModelError
from graphpass.evaluation.results import conversion_of
from graphpass.forms import operators
from graphpass.forms.neurons import neuron_of
from graphpass.forms.registry import assemble, counts_of, spiking_graph, zeros_of
from graphpass.graph.model import export_untyped
from graphpass.maths.neuron import Firing
from graphpass.runtime.session import fixed_batch, input_specs, open_session, pad_inputs, run

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SiteFlips:
    """Counts of one site's neurons, over all samples. largest: the most spikes that a count differs by.

    apart, size: Σ (n_integer − n_folded)² and Σ n_folded².
    """

    name: str
    counts: int = 0
    flips: int = 0
    largest: int = 0
    apart: float = 0.0
    size: float = 0.0

    @property
    def fraction(self) -> float:
        return self.flips / self.counts if self.counts else 0.0

    @property
    def distance(self) -> float:
        """‖n_integer − n_folded‖₂ / ‖n_folded‖₂."""
        return math.sqrt(self.apart / max(self.size, 1.0))


@dataclass(frozen=True)
class Flips:
    """The differences between the forms. outputs: ‖integer − folded‖₂ / ‖folded‖₂ over all samples, by name."""

    samples: int
    time_steps: int
    coding: str
    sites: tuple[SiteFlips, ...]
    outputs: Mapping[str, float]

    @property
    def fraction(self) -> float:
        """The fraction of all counts that differ."""
        return sum(site.flips for site in self.sites) / max(sum(site.counts for site in self.sites), 1)


@dataclass(frozen=True)
class _Site:
    """x → neurons → (a max pooling) → count + zero: tensors of the folded form, and of the integer form."""

    name: str
    neuron: Firing
    x: str
    pooled: str | None
    count: str
    zero: int


def flips(
    integer: onnx.ModelProto,
    folded: onnx.ModelProto,
    dataset: Dataset,
    limit: int = 64,
    batch: int = 8,
    threads: int = 0,
) -> Flips:
    """Compare both forms on the first `limit` samples.

    Raises ModelError where they are not the integer and the folded form of one network with one T.
    """
    one, two = conversion_of(integer), conversion_of(folded)
    found = tuple((each.form, each.model_digest, each.time_steps, each.coding, each.method) for each in (one, two))
    if found[0][0] != "integer" or found[1][0] != "folded" or found[0][1:] != found[1][1:]:
        raise ModelError(
            f"these are the {one.form} form (T = {one.time_steps}) and the {two.form} form (T = {two.time_steps}), or "
            "of two networks",
            "give the integer and the folded form of one plan (--plan-out, then --plan)",
        )
    graphs = [spiking_graph(proto) for proto in (integer, folded)]
    sites = _sites(counts_of(integer), zeros_of(integer), graphs[1])
    outputs = [tensor.name for tensor in graphs[1].outputs]
    wanted = [[site.count for site in sites], [site.pooled or site.x for site in sites]]
    sessions = [
        open_session(_with_outputs(graph, names, one.coding), threads=threads, use_native=False)
        for graph, names in zip(graphs, wanted, strict=True)
    ]
    fixed = fixed_batch(input_specs(sessions[1]))
    results = {site.name: SiteFlips(site.name) for site in sites}
    errors = {name: np.zeros(2) for name in outputs}
    samples = 0
    for part in dataset.batches(fixed or batch, limit):
        inputs = pad_inputs(part.inputs, fixed)
        ours, theirs = (run(session, inputs) for session in sessions)
        for site in sites:
            values = theirs[site.pooled or site.x]
            expected = _unscaled(values, site.neuron) if site.pooled else site.neuron.count(values)
            if expected.shape != ours[site.count].shape:
                raise ModelError(
                    f"{site.count!r} is not the counts of {site.name!r}", "convert it with graphpass again"
                )
            counts = ours[site.count].astype(np.int64) + site.zero
            results[site.name] = _updated(results[site.name], counts, expected)
        for name in outputs:
            a, b = (np.nan_to_num(each[name].astype(np.float64)) for each in (ours, theirs))
            with np.errstate(over="ignore", invalid="ignore"):  # infinite values are an error, too
                errors[name] += ((a - b) ** 2).sum(), (b**2).sum()
        samples += part.size
    with np.errstate(invalid="ignore"):
        relative = {name: float(np.sqrt(d / n)) if n else float(d > 0) for name, (d, n) in errors.items()}
    return Flips(samples, one.time_steps, one.coding, tuple(results.values()), relative)


def _sites(counts: Mapping[str, str], zeros: Mapping[str, int], folded: gs.Graph) -> list[_Site]:
    sites = []
    for node in (node for node in folded.nodes if node.op == operators.FOLDED_NEURON):
        y = node.outputs[0]
        neuron = neuron_of(node)
        behind = [reader.outputs[0].name for reader in y.outputs if reader.outputs[0].name in counts]
        if y.name in counts:
            sites.append(_Site(node.name, neuron, node.inputs[0].name, None, counts[y.name], zeros.get(y.name, 0)))
        elif len(y.outputs) == 1 and behind:  # the pooling was moved in front of the neurons
            pooled = behind[0]
            sites.append(_Site(node.name, neuron, node.inputs[0].name, pooled, counts[pooled], zeros.get(pooled, 0)))
        else:
            raise ModelError(
                f"the integer form has no counts for the neurons {node.name!r}", "convert both forms from one plan"
            )
    return sites


def _with_outputs(graph: gs.Graph, names: list[str], coding: str) -> onnx.ModelProto:
    tensors, held = graph.tensors(), {tensor.name for tensor in graph.outputs}
    own = {tensor.name for tensor in graph.inputs}
    for name in dict.fromkeys(names):
        if name not in tensors:
            raise ModelError(f"there is no tensor {name!r}, which should be counts", "convert it with graphpass again")
        if name not in held | own:
            graph.outputs.append(tensors[name])
    return export_untyped(graph, lambda each: assemble(each, coding))


def _unscaled(y: NDArray[Any], neuron: Firing) -> NDArray[Any]:
    """n of y = A·n + o; 0 where A is 0."""
    amplitude = np.where(neuron.amplitude == 0, 1, neuron.amplitude)
    return np.where(neuron.amplitude == 0, 0, np.rint((y.astype(np.float32) - neuron.offset) / amplitude))


def _updated(found: SiteFlips, ours: NDArray[Any], expected: NDArray[Any]) -> SiteFlips:
    if ours.shape != expected.shape:
        raise ModelError(f"the counts of {found.name!r} differ in shape", "convert both forms from one plan")
    difference = np.abs(ours.astype(np.int64) - expected.astype(np.int64))
    different = int(np.count_nonzero(difference))
    return SiteFlips(
        found.name,
        found.counts + ours.size,
        found.flips + different,
        max(found.largest, int(difference.max(initial=0))),
        found.apart + float(np.square(difference).sum()),
        found.size + float(np.square(expected.astype(np.float64)).sum()),
    )
