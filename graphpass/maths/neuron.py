"""The parallel spiking neuron. THE definition: every form, operator and kernel is tested against it.

    n = clip(floor((x + ψ) / θ), 0, L)          the count, L = levels − 1                                       (1)
    y = A·n + o                                 the output

x is the input current averaged over the time-steps, θ the threshold, ψ the shift, A the amplitude and o the
offset, all in float32. NaN gives no spike, and NaN where y is a float: a broken number is not hidden. The count
reaches the next layer as a train of T binary spikes:

    rate   L = T        n equal spikes, the last n steps fire           step t weighs 1
    phase  L = 2^T − 1  the binary digits of n, most significant first  step t weighs 2^(T − t)

so that n = Σ_t w_t·s_t in both. For activations that are curved every step has a threshold of its own, and the count is

    n = #{k : x ≥ b_k} + #{k : x < c_k}         k = 1 … L

which is (1) where b_k = k·θ − ψ and no c_k is reached. Source: Hao et al., ICML 2025 (arXiv 2412.13610), equations 7–9
for the rate code, written with x = S/T, θ = θ_paper/T, ψ = ψ_paper/T; docs/neuron.md derives it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import OptionError

Coding = Literal["rate", "phase"]
CODINGS: tuple[str, ...] = get_args(Coding)
LARGEST_COUNT = 255  # counts travel as uint8 in the integer form and in traces

Floats = NDArray[np.float32]
Array = NDArray[Any]


def levels_of(time_steps: int, coding: str) -> int:
    """Number of output levels: T + 1 (rate) or 2^T (phase).

    Raises OptionError for an unknown coding, T < 1, or a largest count above 255.
    >>> levels_of(4, "rate"), levels_of(4, "phase")
    (5, 16)
    """
    if coding not in CODINGS:
        raise OptionError(f"unknown coding {coding!r}", f"choose one of {', '.join(CODINGS)}")
    largest = LARGEST_COUNT if coding == "rate" else 8
    if not 1 <= time_steps <= largest:
        raise OptionError(f"{time_steps} time-steps do not fit the {coding} code", f"choose 1 to {largest} time-steps")
    return time_steps + 1 if coding == "rate" else 2**time_steps


def step_weights(time_steps: int, coding: str) -> Floats:
    """w_t, t = 1 … T: what a spike of step t adds to the count. float32 [T].

    >>> step_weights(4, "phase").tolist()
    [8.0, 4.0, 2.0, 1.0]
    """
    levels_of(time_steps, coding)
    if coding == "rate":
        return np.ones(time_steps, np.float32)
    return np.exp2(np.arange(time_steps - 1, -1, -1, dtype=np.float32))


class Firing(ABC):
    """Neurons of one site: a count of spikes for every current, and what it stands for, y = A·n + o.

    amplitude A, offset o: float32 arrays that broadcast to the site's tensor with at most one axis that is not 1 (the
    channel axis), in the unit of the activation. levels: number of output levels, L + 1.
    """

    amplitude: Floats
    offset: Floats
    levels: int

    @abstractmethod
    def count(self, x: Array) -> NDArray[np.uint8]:
        """n of currents x of any float dtype, uint8 of the same shape; NaN gives 0."""

    @abstractmethod
    def counts_within(self, low: Array, high: Array) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The least and the most spikes of currents between low and high, of equal shapes."""

    @property
    @abstractmethod
    def borders(self) -> tuple[Floats, Floats]:
        """b and c of n = #{k : x ≥ b_k} + #{k : x < c_k}: float32 [L, …], in the unit of the pre-activation."""

    def decode(self, count: Array) -> Floats:
        """y = A·n + o. float32 of the counts' shape."""
        return self.amplitude * count.astype(np.float32) + self.offset

    def fire(self, x: Array) -> Array:
        """y = A·n(x) + o, in the dtype of x; NaN stays NaN."""
        y = self.decode(self.count(x))
        return np.where(np.isnan(x), np.float32(np.nan), y).astype(x.dtype)


@dataclass(frozen=True)
class Neuron(Firing):
    """Neurons whose thresholds are even: border k between counts lies at k·θ − ψ.

    threshold θ > 0, shift ψ: float32 arrays of the shape of A and o, in the unit of the pre-activation.
    """

    threshold: Floats
    shift: Floats
    amplitude: Floats
    offset: Floats
    levels: int

    def count(self, x: Array) -> NDArray[np.uint8]:
        """n = clip(floor((x + ψ) / θ), 0, L). x: any float dtype; uint8 of the same shape.

        >>> Neuron(*(np.float32([v]) for v in (1, 0.5, 1, 0)), levels=5).count(np.float32([-3, 0.4, 0.5, 9])).tolist()
        [0, 0, 1, 4]
        """
        with np.errstate(invalid="ignore", over="ignore"):
            level = np.floor((x.astype(np.float32) + self.shift) / self.threshold)
        counts: NDArray[np.uint8] = np.fmin(np.fmax(level, 0), self.levels - 1).astype(np.uint8)  # fmax: NaN gives 0
        return counts

    @property
    def borders(self) -> tuple[Floats, Floats]:
        """b_k = k·θ − ψ, and no c.

        >>> Neuron(*(np.float32([v]) for v in (1, 0.5, 1, 0)), levels=3).borders[0].tolist()
        [[0.5], [1.5]]
        """
        k = np.arange(1, self.levels, dtype=np.float32).reshape(-1, *(1,) * np.ndim(self.threshold))
        rising: Floats = k * self.threshold - self.shift
        return rising, np.full_like(rising, -np.inf)

    def counts_within(self, low: Array, high: Array) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """n rises with x."""
        return self.count(low), self.count(high)


@dataclass(frozen=True)
class ThresholdNeuron(Firing):
    """Neurons with a threshold of its own for every step, for activations that are curved.

    rising b_1 ≤ … ≤ b_L, falling c_1 ≥ … ≥ c_L: float32 [L, …], each step's of the shape of A and o, in the unit of the
    pre-activation; c_k ≤ b_k, −∞ where an activation does not fall. See graphpass/maths/curves.py.
    """

    rising: Floats
    falling: Floats
    amplitude: Floats
    offset: Floats

    @property
    def levels(self) -> int:  # type: ignore[override]
        return len(self.rising) + 1

    @property
    def borders(self) -> tuple[Floats, Floats]:
        return self.rising, self.falling

    def count(self, x: Array) -> NDArray[np.uint8]:
        """n = #{k : x ≥ b_k} + #{k : x < c_k}. x: any float dtype; uint8 of the same shape.

        >>> one = ThresholdNeuron(*(np.float32(v) for v in ([[0.5], [2]], [[-1], [-np.inf]], [1], [0])))
        >>> one.count(np.float32([-3, 0, 0.5, 9])).tolist()
        [1, 0, 1, 2]
        """
        current = x.astype(np.float32)
        counts = np.zeros(np.broadcast_shapes(current.shape, self.rising.shape[1:]), np.uint8)
        for b, c in zip(self.rising, self.falling, strict=True):
            counts += (current >= b) | (current < c)
        return counts

    def counts_within(self, low: Array, high: Array) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """n may fall with x before it rises.

        >>> one = ThresholdNeuron(*(np.float32(v) for v in ([[0.5], [2]], [[-1], [-np.inf]], [1], [0])))
        >>> [n.tolist() for n in one.counts_within(np.float32([-3, -2, 0]), np.float32([-2, 3, 1]))]
        [[1, 0, 0], [1, 2, 1]]
        """
        first, last = (np.asarray(each, np.float32) for each in (low, high))
        least = np.zeros(np.broadcast_shapes(first.shape, self.rising.shape[1:]), np.uint8)
        most = least.copy()
        for b, c in zip(self.rising, self.falling, strict=True):
            least += (first >= b) | (last < c)
            most += (last >= b) | (first < c)
        return least, most


def spike_train(count: Array, time_steps: int, coding: str) -> NDArray[np.uint8]:
    """The T binary spikes of each count. integer [...] → uint8 [T, ...], time first.

    rate: s_t = 1 iff n ≥ T − t + 1, t = 1 … T (sorted: once fired, every later step fires).
    phase: s_t = digit 2^(T − t) of n.

    >>> spike_train(np.array([2]), 3, "rate")[:, 0].tolist(), spike_train(np.array([5]), 3, "phase")[:, 0].tolist()
    ([0, 1, 1], [1, 0, 1])
    """
    steps = np.arange(time_steps, 0, -1).reshape(-1, *(1,) * np.ndim(count))
    if coding == "rate":
        return (count[None] >= steps).astype(np.uint8)
    return ((count[None].astype(np.int64) >> (steps - 1)) & 1).astype(np.uint8)


def count_of(train: Array, coding: str) -> NDArray[np.int64]:
    """n = Σ_t w_t·s_t: the count a train [T, ...] carries, int64 [...]."""
    weights = step_weights(len(train), coding).astype(np.int64)
    return np.tensordot(weights, train.astype(np.int64), axes=1)


def time_mean(currents: Array, coding: str) -> Floats:
    """x = Σ_t (w_t / L)·I_t: the mean over time of the currents [T, ...], float32 [...]; L = Σ_t w_t."""
    weights = step_weights(len(currents), coding)
    return np.tensordot(weights / weights.sum(), currents.astype(np.float32), axes=1)
