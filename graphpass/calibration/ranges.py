"""Least and largest values of a network's analogue tensors over the calibration data, for graph.analogue.

They are computed in the network: each tensor is reduced to two numbers a batch before it leaves the runtime.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.model import export_untyped
from graphpass.graph.names import names_of
from graphpass.runtime.session import open_session, run

NOTHING = np.inf, -np.inf  # least and largest of no values

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Extremes:
    """Least and largest values of tensors in some samples. low, high: float64 [A], in the order of names."""

    names: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def none(cls, names: tuple[str, ...]) -> "Extremes":
        """Those of no samples."""
        low, high = (np.full(len(names), end) for end in NOTHING)
        return cls(names, low, high)

    def joined(self, other: "Extremes") -> "Extremes":
        """With those of other samples."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Extremes(self.names, low, high)

    @property
    def ranges(self) -> Ranges:
        """(low, high) of each tensor that is finite."""
        return {
            name: (float(least), float(most))
            for name, least, most in zip(self.names, self.low, self.high, strict=True)
            if np.isfinite([least, most]).all()
        }


class Reduced:
    """A session over a network that gives some tensors, and of others the least and the largest value alone.

    graph: normalised, not changed. names: tensors that are given. analogue: those whose extremes are, inputs or others.
    """

    def __init__(self, graph: gs.Graph, names: Sequence[str], analogue: tuple[str, ...], threads: int):
        graph = graph.copy()
        inputs = {tensor.name for tensor in graph.inputs}
        self._names = [name for name in names if name not in inputs]
        self._inner = [name for name in analogue if name not in inputs]
        wanted = _reducing(graph, self._names, self._inner) if self._names or self._inner else None
        self._session = open_session(wanted, threads=threads) if wanted else None  # there is none without outputs
        self._analogue = analogue

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], Extremes]:
        """The named tensors of a batch, its inputs among them, and its extremes.

        An analogue tensor that is not finite has a low or high that is not.
        """
        values = iter(run(self._session, inputs).values() if self._session else ())
        given = {**inputs, **{name: next(values) for name in self._names}}
        ends = {name: (next(values), next(values)) for name in self._inner}
        ends.update({name: (each.min(), each.max()) for name, each in inputs.items() if each.size})
        pairs = np.array([ends.get(name, NOTHING) for name in self._analogue], np.float64).reshape(-1, 2)
        return given, Extremes(self._analogue, pairs[:, 0], pairs[:, 1])


def _reducing(graph: gs.Graph, names: Sequence[str], analogue: Sequence[str]) -> onnx.ModelProto:
    """The graph whose outputs are these tensors, and then of the others the least and the largest value, in turn."""
    tensors, made_up = graph.tensors(), names_of(graph)
    graph.outputs = [tensors[name] for name in names]
    for number, name in enumerate(analogue):
        for operator in ("ReduceMin", "ReduceMax"):
            reduced = gs.Variable(made_up.fresh(f"{operator}_{number}"), np.float32, [])
            graph.nodes.append(gs.Node(operator, reduced.name, {"keepdims": 0}, [tensors[name]], [reduced]))
            graph.outputs.append(reduced)
    return export_untyped(graph.cleanup(remove_unused_graph_inputs=False).toposort())
