"""Rows of a step's tensors at random positions: all that regressions and thresholds see of the data.

A position is an index into every axis but the channel axis. It is drawn by a generator seeded with (seed, step, batch),
so the same data gives the same rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.graph.layers import WeightLayer
from graphpass.graph.sites import Site
from graphpass.graph.unfolding import geometry, unfold
from graphpass.maths.corrections import apply
from graphpass.maths.methods import SiteSample

Array = NDArray[Any]


class Sample:
    """Rows of x, a, x_q and the layers' inputs, at the same positions; ranges over all data."""

    def __init__(self, layers: Sequence[WeightLayer], site: Site | None, rows: int, seed: tuple[int, ...]):
        self._layers = layers
        self._site = site
        self._rows = rows
        self._seed = seed
        self._axis = self._layer_axis()
        self._shape: tuple[int, ...] = ()
        self._positions: list[tuple[NDArray[np.int64], ...]] = []
        self._parts: dict[str, list[Array]] = {"x": [], "a": [], "x_snn": []}
        self._inputs: list[list[Array]] = [[] for _ in layers]
        self._top: Array = np.full(1, -np.inf, np.float32)
        self._bottom: Array = np.full(1, np.inf, np.float32)
        self.geometries = [shape for layer in layers if not isinstance(shape := geometry(layer), str)]
        self.lowest, self.highest = np.inf, -np.inf

    def _layer_axis(self) -> int | None:
        if self._layers:
            return 1 if self._layers[0].node.op == "Conv" else -1
        if self._site is None:
            return -1
        if "steps" in self._site.parameters:  # the channels that a QCFS chain has thresholds for
            shape = np.broadcast_shapes(*(np.shape(value) for value in self._site.parameters.values()))
            own = [axis - len(shape) for axis, size in enumerate(shape) if size != 1]
            return own[0] if own else self._site.axis
        return self._site.axis

    def add_ann(self, batch: int, size: int, full: int, x: Array, a: Array) -> None:
        """size: samples in the batch; full: with those that only fill up a fixed batch, from which no row is drawn."""
        x, a = self._rows_of(x), self._rows_of(a)
        axis = _axis(self._axis, x)
        drawn = (size, *x.shape[1:]) if axis != 0 and len(x) == full else x.shape
        self._shape = x.shape
        self._positions.append(_draw(drawn, axis, self._rows, (*self._seed, batch)))
        self._parts["x"].append(_take(x, axis, self._positions[batch]))
        self._parts["a"].append(_take(a, axis, self._positions[batch]))
        others = tuple(k for k in range(x.ndim) if k != axis)
        top, bottom = x.max(others), x.min(others)
        self._top = np.maximum(self._top, top)
        self._bottom = np.minimum(self._bottom, bottom)
        self.lowest, self.highest = min(self.lowest, float(a.min())), max(self.highest, float(a.max()))

    def _rows_of(self, x: Array) -> Array:
        """A site's tensor of one axis (samples) or none as one column: it has no channel axis."""
        return x.reshape(-1, 1) if x.ndim < 2 and not self._layers else x

    def add_snn(self, batch: int, x: Array, inputs: Sequence[Array]) -> None:
        x = self._rows_of(x)
        self._parts["x_snn"].append(_take(x, _axis(self._axis, x), self._positions[batch]))
        for parts, data, shape in zip(self._inputs, inputs, self.geometries, strict=True):
            parts.append(unfold(data, self._positions[batch], shape))

    def close(self) -> None:
        """Join the batches. Without a channel axis the whole tensor is one channel."""
        self.x, self.a, self.x_snn = (np.concatenate(self._parts[name]) for name in ("x", "a", "x_snn"))
        self.inputs = [np.concatenate(parts, axis=1) for parts in self._inputs]
        if self._axis is None:
            self.x, self.a, self.x_snn = (v.reshape(-1, 1) for v in (self.x, self.a, self.x_snn))
            self._bottom, self._top = np.array([self._bottom.min()]), np.array([self._top.max()])
        self._parts.clear()
        self._inputs.clear()

    @property
    def site(self) -> SiteSample:
        kind = self._site.kind if self._site else ""
        return SiteSample(kind, self.x, self.x_snn, self.a, self._bottom, self._top)

    def move(self, inputs: Array, weight: Array, bias: Array) -> None:
        """x_q ← x_q + U·ΔM + Δb: what the corrected layer will give at these positions."""
        self.x_snn = self.x_snn + apply(inputs, weight, bias)

    def parameter_shape(self, channels: int) -> tuple[int, ...]:
        """What channel parameters are reshaped to so as to broadcast to the site's tensor."""
        if channels == 1:
            return (1,)
        axis = _axis(self._axis, np.empty(self._shape, np.bool_))
        return (channels, *(1,) * (len(self._shape) - axis - 1))


def _axis(axis: int | None, x: Array) -> int:
    return (-1 if axis is None else axis) % x.ndim


def _draw(shape: Sequence[int], axis: int, rows: int, seed: Sequence[int]) -> tuple[NDArray[np.int64], ...]:
    """Random positions of a tensor without its channel axis: `rows` a sample, or all where there are fewer."""
    rest = [size for k, size in enumerate(shape) if k != axis]
    inner = int(np.prod(rest[1:]))
    if inner <= rows:
        flat = np.arange(int(np.prod(rest)))
    else:
        generator = np.random.default_rng(seed)
        flat = (generator.integers(0, inner, (rest[0], rows)) + np.arange(rest[0])[:, None] * inner).ravel()
    return np.unravel_index(flat, rest)


def _take(x: Array, axis: int, positions: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Rows [P, C] of a tensor at positions of its other axes, float32."""
    index: list[Any] = list(positions)
    index.insert(axis, slice(None))
    rows = x[tuple(index)]
    return np.ascontiguousarray(rows.T if axis == 0 else rows, np.float32)
