"""Least and largest values of a network's analogue tensors over the calibration data, for graph.analogue.

They are computed in the network: each tensor is reduced to two numbers a batch before it leaves the runtime.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.datasets.dataset import Dataset
from graphpass.graph.model import export
from graphpass.graph.names import names_of
from graphpass.runtime.session import open_session, pad_inputs, run

BATCH = 8  # samples a run at most, where the model leaves it free: activations stay in the processor's cache

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Extremes:
    """Least and largest values of tensors in so many samples. low, high: float64 [A], in the order of names."""

    names: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    samples: int

    def joined(self, other: "Extremes") -> "Extremes":
        """With those of other samples."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Extremes(self.names, low, high, self.samples + other.samples)

    @property
    def ranges(self) -> Ranges:
        """(low, high) of each tensor that is finite."""
        return {
            name: (float(least), float(most))
            for name, least, most in zip(self.names, self.low, self.high, strict=True)
            if np.isfinite([least, most]).all()
        }


def extremes_of(
    names: tuple[str, ...],
    graph: gs.Graph,
    dataset: Dataset,
    limit: int | None,
    batch: int,
    fixed: int | None,
    threads: int,
    start: int = 0,
    stop: int | None = None,
) -> Extremes:
    """Of these tensors of a normalised graph, which is not changed, in samples start … stop − 1 of the limit.

    batch: samples that memory allows a run, where the model leaves that free.

    Both ends move up to the next whole batch. A tensor that is not finite there has a low or high that is not.
    """
    inputs = {tensor.name for tensor in graph.inputs}
    inner = [name for name in names if name not in inputs]
    session = open_session(_probed(graph.copy(), inner), threads=threads) if inner else None
    low, high, samples = np.full(len(names), np.inf), np.full(len(names), -np.inf), 0
    for part in dataset.between(fixed or min(batch, BATCH), limit, start, stop) if names else ():
        samples += part.size
        given = pad_inputs(part.inputs, fixed)
        found = {name: (values.min(), values.max()) for name, values in given.items() if name in names and values.size}
        if session:
            least_and_most = list(run(session, given).values())
            found.update(zip(inner, zip(least_and_most[::2], least_and_most[1::2], strict=True), strict=True))
        for number, name in enumerate(names):
            if name in found:
                low[number] = np.minimum(low[number], found[name][0])
                high[number] = np.maximum(high[number], found[name][1])
    return Extremes(names, low, high, samples)


def _probed(graph: gs.Graph, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with the least and the largest value of each of these tensors as its outputs, in turn."""
    tensors, made_up = graph.tensors(), names_of(graph)
    graph.outputs = []
    for number, name in enumerate(names):
        for operator in ("ReduceMin", "ReduceMax"):
            reduced = gs.Variable(made_up.fresh(f"{operator}_{number}"), np.float32, [])
            graph.nodes.append(gs.Node(operator, reduced.name, {"keepdims": 0}, [tensors[name]], [reduced]))
            graph.outputs.append(reduced)
    return export(graph.cleanup(remove_unused_graph_inputs=False).toposort())
