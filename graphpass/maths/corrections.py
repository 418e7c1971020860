"""Corrections of what quantised activations do to a network, in closed form.

    mean_shift, mean_gain   DA-QCFS: what the channel means ask for           (Hao et al., ICML 2025, section 4.3)
    compensate   ΔW, Δb = argmin Σ ‖r − u·ΔW − Δb‖² + λ‖ΔW‖²                  (ridge regression on the layer's input)
    refine       the same where the neuron can tell the difference: values that both lie beyond an end of its
                 range are the same to it, so their distance is no error

A layer is a matrix: pre-activation = u·M + b per group, u the unfolded input (graph/unfolding.py). Rows are sampled
positions; the cost does not depend on the image size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.maths.thresholds import Levels

Array = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

RIDGE = 1.0  # λ as a part of the mean of diag(UᵀU): 1e-2 overfits 512 images (docs/calibration.md)
ROUNDS = 10  # refinement steps
REFIT = 5  # refinement steps between two fits of the levels
WORK = 4e10  # float operations that the steps of one layer may take, about a second on two cores
ROWS = 4096  # rows multiplied in float32 before the product joins the float64 sum


def mean_shift(levels: Levels, difference: Array) -> Levels:
    """ψ + ψ_DA, ψ_DA = mean(x − x_q), [C]: the shift of DA-QCFS, with an exact mean in place of the moving average."""
    return replace(levels, shift=(levels.shift + difference).astype(np.float32))


def mean_gain(levels: Levels, difference: Array, largest_count: int) -> Levels:
    """A + φ/L, φ = mean(a − y), [C]: the gain of DA-QCFS, θ + φ spread over L = largest_count levels.

    y is the output of the neuron after `mean_shift`. The gain does not fall below 0.
    """
    gain = np.maximum(levels.amplitude + np.asarray(difference) / largest_count, 0)
    return replace(levels, amplitude=gain.astype(np.float32))


@dataclass(frozen=True)
class Regression:
    """Centred normal equations of a layer's input, inverted once for many right-hand sides.

    inputs: U − mean, float32 [G, P, K]. mean: float64 [G, K]. inverse: (UᵀU + λI)⁻¹, float64 [G, K, K].
    penalty: λ of each group, float64 [G].
    """

    inputs: Floats
    mean: Doubles
    inverse: Doubles
    penalty: Doubles

    def solve(self, residual: Array, weight: Array | None = None) -> tuple[Doubles, Doubles]:
        """ΔW, Δb = argmin Σ ‖r − u·ΔW − Δb‖² + λ‖W + ΔW‖², float64 [G, K, C/G] and [C].

        residual: r, float32 [P, C]. weight: the correction W that is there already (0 if left out).
        """
        groups, rows, _ = self.inputs.shape
        mean = residual.mean(0, dtype=np.float64)
        centred = (residual - mean.astype(np.float32)).reshape(rows, groups, -1).transpose(1, 0, 2)
        right = _products(self.inputs, centred)
        if weight is not None:
            right -= self.penalty[:, None, None] * weight
        change = self.inverse @ right
        return change, mean - np.einsum("gk,gkc->gc", self.mean, change).ravel()


def regression(inputs: Array, ridge: float = RIDGE) -> Regression:
    """The normal equations of U, float32 [G, P, K], with λ = ridge · mean diag(UᵀU) in each group.

    A column that does not vary gets no weight. The inputs are copied (centred).
    """
    mean = inputs.mean(1, dtype=np.float64)
    centred = inputs - mean[:, None].astype(np.float32)
    gram = _products(centred, centred)
    size = gram.shape[-1]
    power = np.trace(gram, axis1=1, axis2=2) / size
    penalty = np.where(power > 0, ridge * power, 1.0)
    gram += penalty[:, None, None] * np.eye(size)
    inverse = np.asarray(np.linalg.inv(gram), np.float64)
    return Regression(centred, mean, inverse, penalty)


def compensate(inputs: Array, residual: Array, ridge: float = RIDGE) -> tuple[Floats, Floats]:
    """ΔW, Δb = argmin Σ ‖r − u·ΔW − Δb‖² + λ‖ΔW‖²: float32 [G, K, C/G] and [C].

    inputs: u, float32 [G, P, K]. residual: r = x − x_q, float32 [P, C]; group g has the g-th C/G channels.
    """
    weight, bias = regression(inputs, ridge).solve(residual)
    return weight.astype(np.float32), bias.astype(np.float32)


def apply(inputs: Array, weight: Array, bias: Array) -> Floats:
    """u·ΔW + Δb, float32 [P, C]: what a correction adds to the layer's output."""
    added = inputs @ weight.astype(np.float32)
    groups, rows, width = added.shape
    return added.transpose(1, 0, 2).reshape(rows, groups * width) + bias.astype(np.float32)


def ends(levels: Levels, count: int) -> tuple[Floats, Floats]:
    """θ/2 − ψ and (L + 1/2)·θ − ψ, float32 [C]: the middle of the first and of the last level. count: L + 1."""
    return (
        0.5 * levels.threshold - levels.shift,
        (count - 0.5) * levels.threshold - levels.shift,
    )


def saturated_target(x: Array, z: Array, low: Array, high: Array) -> Floats:
    """t = the value nearest to z that the neuron takes for x.

        x ≤ low:   min(z, low)      x ≥ high:  max(z, high)      else  x

    x: wanted, z: actual pre-activation, [P, C]; low, high: `ends`, [C]. (z − t)² is at most (z − x)²: minimising it
    again and again with t from the last z (majorise–minimise) lowers the error that the neuron can see.
    """
    return np.where(
        x <= low,
        np.minimum(z, np.maximum(x, low)),
        np.where(x >= high, np.maximum(z, np.minimum(x, high)), x),
    )


def refine(
    inputs: Array,
    x: Array,
    x_q: Array,
    fit: Callable[[Floats], Levels],
    levels: int,
    ridge: float = RIDGE,
    rounds: int = ROUNDS,
) -> tuple[Floats, Floats]:
    """ΔW, Δb as `compensate` has them for r = x − x_q, then `rounds` accelerated majorise–minimise steps.

        t = saturated_target(x, z)        (W, b) += argmin Σ ‖t − z − u·ΔW − Δb‖² + λ‖W + ΔW‖²

    All steps share one inverse; a layer whose steps would take more than WORK makes fewer of them.
    inputs: u, float32 [G, P, K]. x: the ANN's pre-activation, x_q: the converted network's, float32 [P, C], at the
    same rows. fit: levels for a corrected pre-activation z (`least_error` on z and a). levels: L + 1.
    """
    equations = regression(inputs, ridge)
    weight, bias = equations.solve(x - x_q)
    before = weight, bias
    low = high = np.zeros(x.shape[1], np.float32)
    step_work = 4.0 * inputs.size * x.shape[1] / inputs.shape[0]
    for number in range(min(rounds, int(WORK / max(step_work, 1.0)))):
        if number % REFIT == 0:
            low, high = ends(fit(x_q + apply(inputs, weight, bias)), levels)
        momentum = number / (number + 3)  # Nesterov
        ahead = weight + momentum * (weight - before[0]), bias + momentum * (bias - before[1])
        before = weight, bias
        z = x_q + apply(inputs, *ahead)
        change = equations.solve(saturated_target(x, z, low, high) - z, ahead[0])
        weight, bias = ahead[0] + change[0], ahead[1] + change[1]
    return weight.astype(np.float32), bias.astype(np.float32)


def _products(left: Floats, right: Floats) -> Doubles:
    """leftᵀ·right over rows, [G, P, K] and [G, P, C] → float64 [G, K, C], summed in blocks of rows."""
    total = np.zeros((left.shape[0], left.shape[2], right.shape[2]))
    for start in range(0, left.shape[1], ROWS):
        block = slice(start, start + ROWS)
        total += left[:, block].transpose(0, 2, 1) @ right[:, block]
    return total
