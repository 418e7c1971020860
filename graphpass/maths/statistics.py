"""Streaming statistics of channels: update with rows, merge partial results, answer.

Least, largest and histogram are exact whatever the order and the split; the mean is a float64 sum, so order moves
it by rounding only. Percentiles come from a histogram whose bins are the leading bits of the float32 pattern:
no range to know beforehand, and an error of at most 1/32 of the value (of 2^−24 where |value| < 2^−24; values of
2^24 and more count as 2^24, then bounded by the exact least and largest).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_KEPT = 5  # mantissa bits that tell bins apart: 32 bins for each power of two
_SMALL, _LARGE = -24, 24  # exponents of the histogram
_SIDE = (_LARGE - _SMALL) << _KEPT  # bins of one sign
BINS = 2 * _SIDE + 1  # negative values, zero, positive values


@dataclass(frozen=True)
class ChannelStatistics:
    """rows: number seen. least, largest: float32 [C]. total: Σ x, float64 [C]. histogram: int64 [C, BINS]."""

    rows: int
    least: NDArray[np.float32]
    largest: NDArray[np.float32]
    total: NDArray[np.float64]
    histogram: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Σ x / rows, float64 [C]; 0 before the first row."""
        return self.total / max(self.rows, 1)

    def percentile(self, percent: float) -> NDArray[np.float32]:
        """The value that `percent` % of the rows do not exceed, float32 [C]: the middle of its bin, see above.

        0 and 100 are exact. 0 before the first row.
        """
        if self.rows == 0:
            return np.zeros_like(self.least)
        if percent <= 0 or percent >= 100:
            return self.least if percent <= 0 else self.largest
        rank = max(1, int(np.ceil(self.rows * percent / 100.0)))
        bin_ = (np.cumsum(self.histogram, axis=1) >= rank).argmax(1)
        return np.clip(_middle(bin_), self.least, self.largest)


def empty(channels: int) -> ChannelStatistics:
    """Statistics of no rows."""
    return ChannelStatistics(
        0,
        np.full(channels, np.inf, np.float32),
        np.full(channels, -np.inf, np.float32),
        np.zeros(channels),
        np.zeros((channels, BINS), np.int64),
    )


def update(statistics: ChannelStatistics, rows: Array) -> ChannelStatistics:
    """The statistics with more rows, float32 [P, C], finite."""
    x = np.asarray(rows, np.float32)
    if len(x) == 0:
        return statistics
    channels = x.shape[1]
    place = _bin(x) + np.arange(channels) * BINS
    histogram = np.bincount(place.ravel(), minlength=channels * BINS).reshape(channels, BINS)
    return merge(
        statistics,
        ChannelStatistics(len(x), x.min(0), x.max(0), x.sum(0, dtype=np.float64), histogram),
    )


def merge(one: ChannelStatistics, other: ChannelStatistics) -> ChannelStatistics:
    """The statistics of the rows of both."""
    return ChannelStatistics(
        one.rows + other.rows,
        np.minimum(one.least, other.least),
        np.maximum(one.largest, other.largest),
        one.total + other.total,
        one.histogram + other.histogram,
    )


def _bin(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bin of every value, ascending with the value."""
    bits = np.abs(x).view(np.int32).astype(np.int64) >> (23 - _KEPT)
    magnitude = np.clip(bits - ((_SMALL + 127) << _KEPT) + 1, 0, _SIDE)
    place: NDArray[np.int64] = np.where(x < 0, _SIDE - magnitude, _SIDE + magnitude)
    return place


def _middle(bin_: Array) -> NDArray[np.float32]:
    """The middle of a bin's values."""
    signed = bin_ - _SIDE
    magnitude = np.maximum(np.abs(signed) - 1, 0)
    edges = [
        ((m + ((_SMALL + 127) << _KEPT)) << (23 - _KEPT)).astype(np.int32).view(np.float32)
        for m in (magnitude, magnitude + 1)
    ]
    return np.where(signed == 0, np.float32(0), np.sign(signed) * (edges[0] + edges[1]) / 2).astype(np.float32)
