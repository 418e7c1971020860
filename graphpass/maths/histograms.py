"""Histograms of the rows of many channels, from which the error that borders between levels leave is read.

N_k = #{x ≥ border k}      S_k = Σ a of the rows with x ≥ border k          borders on edges of bins
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.maths.threads import slices

Array = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BINS = 2048  # of a channel: borders are searched to a 2048th of its range
BLOCK = 1 << 17  # values of a sample worked on at once: they and their bins stay in the processor's cache


class Histogram:
    """Rows and sums of a at or above every bin's lower edge: float32 [C, BINS + 1, 2].

    Both come from one sum: Σ(1 + ε·a) = N + ε·S, with ε so small that |ε·S| ≤ 1/4.
    """

    def __init__(self, x: Floats, a: Floats, bottom: Doubles, top: Doubles, zero: int | None):
        self.zero = zero
        self.bottom, self.range = bottom, np.maximum(top - bottom, 1e-30)
        scale, origin = (BINS / self.range).astype(np.float32)[:, None], bottom.astype(np.float32)[:, None]
        size = np.maximum(a.max(1, keepdims=True), -a.min(1, keepdims=True)).astype(np.float64)
        unit = 0.25 / (x.shape[1] * np.maximum(size, 1e-30))
        both = np.empty((len(x), BINS + 1))
        for part in slices(len(x), max(1, BLOCK // x.shape[1])):
            position = x[part] - origin[part]
            position *= scale[part]
            weights = a[part] * unit[part] + 1
            for table, places, each in zip(both[part], position.astype(np.intp), weights, strict=True):
                table[:] = np.bincount(places, each, BINS + 1)
        both[:, BINS - 1] += both[:, BINS]  # the largest x
        below = np.cumsum(both[:, :-1], axis=1)
        above = np.concatenate([below[:, -1:], below[:, -1:] - below], axis=1)
        self._above = np.empty((*above.shape, 2), np.float32)
        self._above[..., 0] = rows = np.rint(above)
        self._above[..., 1] = (above - rows) / unit
        self.rows = x.shape[1]

    def quantiles(self, shares: Array) -> Doubles:
        """Edges of bins with so many of the rows below them, float64 [C, shares]."""
        below = self.rows - self._above[:, :, 0].astype(np.float64)
        channel = np.arange(len(below))[:, None]
        step = self.rows + 1  # all channels' tables as one that never falls
        found = np.searchsorted((below + channel * step).ravel(), (shares * self.rows + channel * step).ravel())
        edge = found.reshape(len(below), -1) - channel * (BINS + 1)
        edges: Doubles = self.bottom[:, None] + edge * (self.range / BINS)[:, None]
        return edges

    def explained(self, first: Doubles, last: Doubles, levels: int) -> Doubles:
        """cov²/var of the borders from first to last, [C, M] each: the part of Σ(a − ā)² that n explains.

        With a zero (Σ(n − z)·a)²/Σ(n − z)², the part of Σa².
        """
        bins = BINS / self.range[:, None]
        steps, weights = _borders(levels)
        place = np.multiply.outer(steps, ((last - first) * bins).astype(np.float32))  # [L, C, M]: sums over long rows
        place += ((first - self.bottom[:, None]) * bins).astype(np.float32)
        np.rint(place, out=place)
        np.clip(place, 0, BINS, out=place)
        edge = place.astype(np.intp)
        edge += (np.arange(len(first)) * (BINS + 1))[:, None]  # in all channels' tables, one behind the other
        pairs = self._above.reshape(-1).view(np.complex64).take(edge).view(np.float32)  # both numbers at once
        exact = np.float32 if self.rows * (levels - 1) ** 2 < 2**24 else np.float64  # for sums of whole numbers
        sums = np.einsum("wl,lv->wv", weights, pairs.reshape(levels - 1, -1), dtype=exact).reshape(2, *first.shape, 2)
        n, squares, sum_na = (sums[k, ..., each].astype(np.float64) for k, each in ((0, 0), (1, 0), (0, 1)))
        rows, total = self._above[:, :1, 0].astype(np.float64), self._above[:, :1, 1].astype(np.float64)
        origin = n / rows if self.zero is None else float(self.zero)
        variance = squares - (2.0 * n - origin * rows) * origin
        covariance = sum_na - origin * total
        useful = (covariance > 0) & (variance > 1e-9 * rows)
        return np.where(useful, covariance**2 / np.where(useful, variance, 1.0), 0.0)


@functools.cache
def _borders(levels: int) -> tuple[Floats, Floats]:
    """Places of the borders, 0 … 1, [L], and the weights of the sums Σ N_k and Σ (2k−1)·N_k, [2, L]."""
    weights = np.stack([np.ones(levels - 1), 2 * np.arange(1, levels) - 1])
    return np.linspace(0, 1, levels - 1, dtype=np.float32), weights.astype(np.float32)
