"""Rows of a step's tensors at random positions: all that regressions and thresholds see of the data.

    Positions      where, batch by batch, as the ANN runs: rows of x and a, and what they span
    SpikingSide    at some of these, as the converted network runs: rows of u, and the x_q that they give
    StepSample     x, a and x_q, from which weights are corrected and neurons fitted

A position is an index into every axis but the channel axis. It is drawn by a generator seeded with (seed, step, batch),
so the same data gives the same rows.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.im2col import bias_of, geometry, to_matrix, unfold
from graphpass.calibration.steps import Step
from graphpass.errors import CalibrationError
from graphpass.graph.weights import values_of
from graphpass.maths.corrections import apply
from graphpass.maths.curves import Curve
from graphpass.maths.methods import SiteSample
from graphpass.maths.threads import slices
from graphpass.maths.thresholds import EVERYWHERE, rows_at_random, rows_of
from graphpass.sites.sites import Site

Array = NDArray[Any]
EXACT = 1e-5  # of the largest value
BLOCK = 256  # rows that are compared at once
NEAR = 6.0  # the end of ReLU6, which activations are meant to reach; wider clips keep off what should not happen
REACHED = 0.25  # of the range of a clip

Index = tuple[NDArray[np.int64], ...]


def _none(value: float) -> Array:
    return np.full(1, value, np.float32)


@dataclass(frozen=True, eq=False)
class Extent:
    """What a step's tensors span in some batches: with the rows, all that is known of the ANN's side.

    shapes: of the target, by batch. bottom, top: least and largest x of a channel, [C], or [1] where nobody wants them.
    lowest, highest: of a.
    """

    shapes: tuple[tuple[int, ...], ...] = ()
    bottom: Array = field(default_factory=lambda: _none(np.inf))
    top: Array = field(default_factory=lambda: _none(-np.inf))
    lowest: float = np.inf
    highest: float = -np.inf

    def joined(self, other: "Extent") -> "Extent":
        """With the batches that follow."""
        return Extent(
            (*self.shapes, *other.shapes),
            np.minimum(self.bottom, other.bottom),
            np.maximum(self.top, other.top),
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
        )


class Positions:
    """Where a step's tensors are sampled, batch by batch, and what they span over all data.

    rows: of each sample that any are drawn from; most: of how many of the `total` samples, evenly spread. ranges:
    whether anybody wants those of the channels. first, start: number of the first batch, and of its first sample.
    """

    def __init__(
        self,
        step: Step,
        rows: int,
        seed: tuple[int, ...],
        ranges: bool = False,
        first: int = 0,
        start: int = 0,
        most: int = 1,
        total: int = 1,
    ):
        self.step = step
        self.span = Extent()  # without the shapes, which are many
        self._rows, self._most, self._total = rows, most, total
        self._seed, self._first, self._place = seed, first, start
        self._ranges = ranges
        self._shapes: list[tuple[int, ...]] = []  # of the target, by batch
        self._flat: list[NDArray[np.uint32]] = []  # positions, by batch

    def add_ann(self, size: int, full: int, x: Array, a: Array | None = None) -> list[Array]:
        """The rows of x of the next batch, float32 [P, C], and of a = f(x) where it is given.

        a: None where it follows from x (`Step.activation`). size: samples in the batch; full: with those that only fill
        up a fixed batch, from which no row is drawn.
        """
        x = self.column(x)
        if not x.size:
            raise CalibrationError(
                f"{self.step} has no values on the calibration data",
                "give larger inputs, or leave it out with --exclude",
            )
        axis, extent = self.axis(x.ndim), Extent((x.shape,))
        if self._ranges:
            others = tuple(k for k in range(x.ndim) if k != axis)
            extent = replace(extent, bottom=x.min(others), top=x.max(others))
        given = [x] if a is None else [x, self.column(a)]
        self.extend([size], full, extent)
        rows = [self.rows(len(self._shapes) - 1, each) for each in given]
        if self.step.site:
            low, high = _ends(given[-1]) if a is not None else self._ends_of_f(x, rows[0])
            self.span = self.span.joined(Extent(lowest=low, highest=high))
        return rows

    def _ends_of_f(self, x: Array, rows: Array) -> tuple[float, float]:
        """The least and the largest f(x), of an f that never falls: the rows tell an end that they reach."""

        def f(value: float) -> float:
            known = self.step.activation(np.array(value, x.dtype))
            assert known is not None  # a is given where it does not follow from x
            return float(known)

        low, high = map(f, _ends(rows))
        return (
            low if low == f(-np.inf) else f(x.min()),
            high if high == f(np.inf) else f(x.max()),
        )

    def drawn(self, count: int) -> tuple["Positions", slice | NDArray[np.int64]]:
        """So many of them at random, in the order of the samples, and which of all they are; all if there are fewer."""
        ends = np.cumsum([len(flat) for flat in self._flat])
        if count >= ends[-1]:
            return self, slice(None)
        kept = rows_at_random(int(ends[-1]), count)
        parts = np.split(kept, np.searchsorted(kept, ends[:-1]))
        some = copy.copy(self)
        starts = ends - [len(flat) for flat in self._flat]
        some._flat = [flat[part - start] for flat, part, start in zip(self._flat, parts, starts, strict=True)]
        return some, kept

    def extend(self, sizes: Sequence[int], full: int | None, extent: Extent) -> None:
        """The next batches, whose rows were taken elsewhere. full: as of `add_ann`; None: each as full as its size."""
        for size, shape in zip(sizes, extent.shapes, strict=True):
            axis = self.axis(len(shape))
            by_sample = axis != 0 and shape[0] == (full or size)
            drawn = (size, *shape[1:]) if by_sample else shape
            self._shapes.append(shape)
            self._flat.append(self._draw([length for k, length in enumerate(drawn) if k != axis], by_sample))
            self._place += size
        self.span = self.span.joined(replace(extent, shapes=()))

    @property
    def extent(self) -> Extent:
        """Of all batches so far."""
        return replace(self.span, shapes=tuple(self._shapes))

    @property
    def row_shape(self) -> tuple[int, int]:
        """[P, C] of the rows of all batches so far."""
        shape = self._shapes[0]
        return sum(len(flat) for flat in self._flat), shape[self.axis(len(shape))]

    def rows(self, batch: int, x: Array) -> NDArray[np.float32]:
        """The rows [P, C] of a tensor of a batch, float32."""
        x = self.column(x)
        return _take(x, self.axis(x.ndim), self.index(batch))

    def shape(self, batch: int) -> tuple[int, ...]:
        """Of the target in a batch."""
        return self._shapes[batch]

    def index(self, batch: int) -> Index:
        """The positions of a batch, by axis of the target but its channel axis."""
        shape = self._shapes[batch]
        axis = self.axis(len(shape))
        return np.unravel_index(self._flat[batch], [size for k, size in enumerate(shape) if k != axis])

    @property
    def channel_axis(self) -> int | None:
        """The axis that parameters differ along, None where they do not."""
        site = self.step.site
        if site is None:
            return self.step.layers[0].output_axis
        if "steps" in site.parameters:  # the channels that a QCFS chain has thresholds for
            return _qcfs_axis(site)
        return site.axis

    def axis(self, rank: int) -> int:
        """The channel axis of a tensor of so many axes, counted from the first; the last where there is none."""
        axis = self.channel_axis
        return (-1 if axis is None else axis) % rank

    @property
    def curve(self) -> Curve | None:
        """The site's, where levels are even on f(x)."""
        return self.step.site.curve if self.step.site else None

    def column(self, x: Array) -> Array:
        """A site's tensor of one axis (samples) or none as one column: it has no channel axis."""
        return x.reshape(-1, 1) if x.ndim < 2 and not self.step.layers else x

    def parameter_shape(self, channels: int) -> tuple[int, ...]:
        """What channel parameters are reshaped to so as to broadcast to the site's tensor."""
        if channels == 1:
            return (1,)
        rank = len(self._shapes[0])
        return (channels, *(1,) * (rank - self.axis(rank) - 1))

    def _draw(self, sizes: Sequence[int], by_sample: bool) -> NDArray[np.uint32]:
        """Random flat positions of a tensor without its channel axis: `rows` a sample, or all where there are fewer.

        by_sample: whether its first axis is that of samples, some of which may be left out.
        """
        inner, samples = int(np.prod(sizes[1:])), np.arange(sizes[0])
        if by_sample and self._most < self._total:
            before = (self._place + np.arange(sizes[0] + 1)) * self._most // self._total
            samples = np.flatnonzero(np.diff(before))
        if inner <= self._rows:
            return (samples[:, None] * inner + np.arange(inner)).ravel().astype(np.uint32)
        generator = np.random.default_rng((*self._seed, self._first + len(self._flat)))
        drawn = generator.integers(0, inner, (len(samples), self._rows)) + samples[:, None] * inner
        return drawn.ravel().astype(np.uint32)


class SpikingSide:
    """The inputs u of a step's layers at its positions, and the x_q that they give, as the converted network runs.

    inputs: u of each layer, float32 [G, P, K], x_snn: float32 [P, C], with the rows of the batches that were added.
    """

    def __init__(self, positions: Positions):
        step, (rows, channels) = positions.step, positions.row_shape
        self._positions = positions
        self.geometries = [shape for layer in step.layers if not isinstance(shape := geometry(layer), str)]
        self._weights = [
            to_matrix(values_of(each.weight), shape) for each, shape in zip(step.layers, self.geometries, strict=True)
        ]
        self.inputs = [np.empty((len(weight), rows, weight.shape[1]), np.float32) for weight in self._weights]
        self.x_snn = np.zeros((rows, channels), np.float32)
        self._memory: list[dict[tuple[int, ...], Array]] = [{} for _ in self.geometries]
        self._filled = 0

    def add(self, batch: int, values: Mapping[str, Array]) -> None:
        """The rows of a batch. values: the layers' inputs and the addends."""
        positions, step = self._positions, self._positions.step
        index = positions.index(batch)
        part = slice(self._filled, self._filled + len(index[0]))
        self._filled = part.stop
        for inputs, layer, shape, memory in zip(self.inputs, step.layers, self.geometries, self._memory, strict=True):
            unfold(values[layer.data.name], index, shape, inputs[:, part], memory)
        whole = positions.shape(batch)
        for tensor in step.addends:
            value = tensor.values if isinstance(tensor, gs.Constant) else values[tensor.name]
            self.x_snn[part] += _take(np.broadcast_to(value, whole), positions.axis(len(whole)), index)

    def finish(self) -> None:
        """After the last batch: what the layers give."""
        self._memory.clear()
        for layer, weight, rows in zip(self._positions.step.layers, self._weights, self.inputs, strict=True):
            self.x_snn = apply(rows, weight, bias_of(layer), self.x_snn)


@dataclass(eq=False)
class StepSample:
    """Rows of x, a and x_q at the same positions, float32 [P, C]; ranges over all data.

    span: of x and a over all data. offset, limits, largest: as in SiteSample.
    """

    positions: Positions
    x: Array
    a: Array
    x_snn: Array
    span: Extent
    offset: bool
    limits: tuple[float, float] | None
    largest: tuple[float, float] | None = None

    def require_finite(self) -> None:
        """Raises CalibrationError where a row is not; the largest magnitudes are known then."""
        x = _largest(self.x)
        x_snn, a = (x if rows is self.x else _largest(rows) for rows in (self.x_snn, self.a))
        self.largest = max(x, x_snn), a
        if not np.isfinite([x, x_snn, a]).all():
            raise CalibrationError(
                f"{self.positions.step} has NaN or infinite values on the calibration data",
                "check the data and the model, or leave the site out with --exclude",
            )

    @property
    def is_exact(self) -> bool:
        """Whether x_q is x but for what float32 sums round."""
        largest = EXACT * max(-self.x.min(initial=0), self.x.max(initial=0))
        parts = slices(len(self.x), BLOCK)  # most samples are told by the first
        return all(np.abs(self.x_snn[part] - self.x[part]).max(initial=0) <= largest for part in parts)

    def move(self, inputs: Array, weight: Array, bias: Array) -> None:
        """x_q ← x_q + U·ΔM + Δb: what the corrected layer will give at these positions."""
        self.x_snn, self.largest = apply(inputs, weight, bias, self.x_snn), None

    @property
    def site(self) -> SiteSample:
        """What a method is given."""
        site = self.positions.step.site
        window = site.window if site else EVERYWHERE
        ends = self.span.bottom, self.span.top  # infinite where nobody wants them
        bottom, top = (np.clip(end, *window) if np.isfinite(end).all() else end for end in ends)
        return SiteSample(
            site.kind if site else "",
            self.x,
            self.x_snn,
            self.a,
            bottom,
            top,
            self.offset,
            self.limits,
            self.positions.curve,
            window,
            self.largest,
        )

    def drawn(self, count: int) -> "StepSample":
        """So many of the rows at random; all if there are fewer."""
        if count >= len(self.x):
            return self
        rows = rows_at_random(len(self.x), count)
        x, a, x_snn = (rows_of(each, rows) for each in (self.x, self.a, self.x_snn))
        return replace(self, x=x, a=a, x_snn=x_snn)


def sample_of(
    positions: Positions,
    x: Array,
    a: Array | None,
    x_snn: Array,
    offset: bool = True,
    clip_limits: bool = False,
) -> StepSample:
    """The ANN's rows x and a, none where it follows from x, and those of the converted network at the same positions.

    The rest as in SiteSample.
    """
    step, span = positions.step, positions.span
    a = step.activation(x) if a is None else a
    assert a is not None  # `observe` keeps it where it does not follow from x
    if positions.channel_axis is None:  # the whole tensor is one channel
        x, a, x_snn = (v.reshape(-1, 1) for v in (x, a, x_snn))
        span = replace(span, bottom=np.array([span.bottom.min()]), top=np.array([span.top.max()]))
    limits = limits_reached(step.site, span.lowest, span.highest) if step.site and clip_limits else None
    return StepSample(positions, x, a, x_snn, span, offset, limits)


def limits_reached(site: Site, lowest: float, highest: float) -> tuple[float, float] | None:
    """The limits of a clip, unless they say nothing about its range: they lie beyond NEAR, as those of Clip(0, 20), and
    its outputs, lowest … highest, span less than REACHED of what lies between.
    """
    if site.limits is None:
        return None
    low, high = site.limits
    return site.limits if max(-low, high) <= NEAR or highest - lowest >= REACHED * (high - low) else None


def _qcfs_axis(site: Site) -> int | None:
    shape = np.broadcast_shapes(*(np.shape(value) for value in site.parameters.values()))
    own = [axis - len(shape) for axis, size in enumerate(shape) if size != 1]
    return own[0] if own else site.axis


def _ends(values: Array) -> tuple[float, float]:
    return float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))


def _largest(values: Array) -> float:
    """The largest magnitude, NaN where there is one."""
    return float(np.abs([values.min(initial=0), values.max(initial=0)]).max())


def _take(x: Array, axis: int, positions: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Rows [P, C] of a tensor at positions of its other axes, float32."""
    index: list[Any] = list(positions)
    index.insert(axis, slice(None))
    rows = x[tuple(index)]
    return np.ascontiguousarray(rows.T if axis == 0 else rows, np.float32)
