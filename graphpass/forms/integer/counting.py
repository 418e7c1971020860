"""Neurons as a rounding to whole numbers, in the numbers that are stored for their counts.

    n = clip(floor((x + ψ)/θ), 0, L)                         y = A·n + o
    q = n − z = clip(floor((x + ψ − θ·z)/θ), −z, L − z)      y = A·q + (o + A·z)

z is 0 where a DequantizeLinear may subtract a zero point later on. Where it may not, z is the count that stands for the
value nearest to 0, so that a convolution's zeros are counts, too, as far as o + A·z is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphpass.forms.integer.tensors import Encoding, Numbers

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Counting:
    """q = clip(floor((x + shift)/threshold), least, largest). Both arrays broadcast to x.

    coarsest: the steps in q that a layer's sum may be rounded to before a shortcut is added; None for the usual ones.
    """

    threshold: Array
    shift: Array
    least: int
    largest: int
    coarsest: float | None = None

    @property
    def steps(self) -> int:
        return self.largest - self.least


@dataclass(frozen=True)
class StoredNeurons:
    """Neurons as they are stored: y = amplitude·q + offset, q = n − zero."""

    counting: Counting
    amplitude: Array
    offset: Array
    zero: int


def stored(parts: Sequence[Array], largest: int, numbers: Numbers) -> StoredNeurons:
    """Neurons of parts θ, ψ, A and o, and counts up to `largest`."""
    threshold, shift, amplitude, offset = parts
    zero = 0 if numbers.shifted else _count_of_zero(amplitude, offset, largest)
    moved = (shift - threshold * np.float32(zero), offset + amplitude * np.float32(zero)) if zero else (shift, offset)
    return StoredNeurons(Counting(threshold, moved[0], -zero, largest - zero), amplitude, moved[1], zero)


def counting_of(code: Encoding, numbers: Numbers) -> Counting:
    """How the numbers of an analogue tensor are rounded: q = round(x/s) + z."""
    theta = np.atleast_1d(code.scale)
    return Counting(theta, theta * (code.zero + 0.5), numbers.least, numbers.largest, code.coarsest)


def _count_of_zero(amplitude: Array, offset: Array, largest: int) -> int:
    """The z of least Σ (A·z + o)²."""
    scale, constant = (part.astype(np.float64) for part in np.broadcast_arrays(amplitude, offset))
    total = float(np.square(scale).sum())
    return int(np.clip(np.rint(-float((scale * constant).sum()) / total), 0, largest)) if total > 0 else 0
