"""Corrections of what quantised activations do to a network, in closed form.

    mean_shift, mean_gain   DA-QCFS: what the channel means ask for           (Hao et al., ICML 2025, section 4.3)
    compensate   ΔW, Δb = argmin Σ ‖r − u·ΔW − Δb‖² + λ‖ΔW‖²                  (ridge regression on the layer's input)
    mean_bias    ΔW = 0, Δb = mean(r)
    scale_back   gain and shift that give an output the scale that noise in front of it took
    refine       the same where the neuron can tell the difference: values that both lie beyond an end of its
                 range are the same to it, so their distance is no error; and where f is flat a distance is a small one

A layer is a matrix: pre-activation = u·M + b per group, u the unfolded input (graph/unfolding.py). Rows are sampled
positions; the cost does not depend on the image size.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.maths.threads import product, side_by_side, slices, stretches, tiles
from graphpass.maths.thresholds import LINES, Levels

Array = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

RIDGE = 1.0  # λ as a part of the mean of diag(UᵀU): 1e-2 overfits 512 images (docs/calibration.md)
ROUNDS = 10  # refinement steps
MOST_GAIN = 2.0  # that an output gets back
RARE = 4.0  # kurtosis of an output from which on its large values are rare ones; 3 is that of normal values
WIDE = 2048  # inputs of a layer from which on nothing else is tried: a solution costs K³
HELD_OUT, BLOCKS = 4, 16  # every 4th of 16 stretches of rows
REFIT = 5  # refinement steps between two looks at the bounds
WORK = 4e10  # float operations that the steps of one layer may take, about a second on two cores
ROUNDING = 1e-5  # of a mean's square: less variance than that is what float32 sums lose
ROWS = 4096  # rows multiplied in float32 before the product joins the float64 sum
INPUTS = 128  # inputs of a layer in a tile of a product
SINGLE = 0.1  # ridge from which on float32 solves: the condition of the system is at most 1 + K/ridge
COLUMNS = 4096  # outputs of a layer that are solved for at once: a language model's last layer has ten times as many


def mean_shift(levels: Levels, difference: Array) -> Levels:
    """ψ + ψ_DA, ψ_DA = mean(x − x_q), [C]: the shift of DA-QCFS, with an exact mean in place of the moving average."""
    return replace(levels, shift=(levels.shift + difference).astype(np.float32))


def mean_gain(levels: Levels, difference: Array, largest_count: int) -> Levels:
    """A + φ/L, φ = mean(a − y), [C]: the gain of DA-QCFS, θ + φ spread over L = largest_count levels.

    y is the output of the neuron after `mean_shift`. The gain does not fall below 0.
    """
    gain = np.maximum(levels.amplitude + np.asarray(difference) / largest_count, 0)
    return replace(levels, amplitude=gain.astype(np.float32))


class Gram:
    """Second moments of a layer's input about its mean, from which a regression follows for every λ.

        (UᵀU + λI)·ΔW = Uᵀr          K ≤ P: a system of K unknowns
        ΔW = Uᵀ(UUᵀ + λI)⁻¹·r        K > P: the same ΔW from a system of P unknowns

    inputs: U, float32 [G, P, K], not changed. moment, mean: of all rows about 0, where they are known and K ≤ P.
    """

    def __init__(self, inputs: Array, moment: Doubles | None = None, mean: Doubles | None = None):
        _, rows, size = inputs.shape
        self.mean = _sums(inputs) / rows if mean is None else mean
        self.wide = size > rows
        if self.wide:
            self.inputs = inputs - self.mean[:, None].astype(np.float32)
            turned = self.inputs.transpose(0, 2, 1)
            self.system = _mirrored(_products(turned, turned, upper=True))
        else:
            self.inputs = inputs
            moment = _mirrored(_products(inputs, inputs, upper=True)) if moment is None else moment
            self.system = _about(moment, self.mean, rows)

    def penalty(self, ridge: float) -> Doubles:
        """λ = ridge · mean diag(UᵀU), [G]."""
        return _penalty(self.system, self.mean, self.inputs.shape[1], ridge)


class Regression:
    """ΔW, Δb for many right-hand sides. ridge: λ as of `Gram.penalty`. repeated: whether many solutions are wanted,
    which an inverse serves.
    """

    def __init__(self, inputs: Array | Gram, ridge: float = RIDGE, repeated: bool = False):
        gram = inputs if isinstance(inputs, Gram) else Gram(inputs)
        self._mean, self._inputs, self._wide = gram.mean, gram.inputs, gram.wide
        self._penalty = gram.penalty(ridge)
        system = _penalised(gram.system, self._penalty)
        system = system.astype(np.float32) if ridge >= SINGLE else system
        self._system = np.linalg.inv(system) if repeated else system
        self._repeated = repeated

    def solve(
        self, residual: Array, weight: Array | None = None, right: Doubles | None = None
    ) -> tuple[Doubles, Doubles]:
        """ΔW, Δb = argmin Σ ‖r − u·ΔW − Δb‖² + λ‖W + ΔW‖², float64 [G, K, C/G] and [C].

        residual: r, float32 [P, C]. weight: the correction W that is there already (0 if left out). right: Σ u·(r − r̄),
        if known.
        """
        groups, rows, _ = self._inputs.shape
        mean = residual.mean(0, dtype=np.float64)
        if right is None or self._wide:
            centred = (residual - mean.astype(np.float32)).reshape(rows, groups, -1).transpose(1, 0, 2)
        if self._wide:
            if weight is not None:
                centred = centred + product(self._inputs, weight.astype(np.float32), ROWS)
            solved = self._solved(centred).astype(np.float32)
            change = product(self._inputs.transpose(0, 2, 1), solved, INPUTS)
            change = change.astype(np.float64) if weight is None else change - weight
        else:
            right = _products(self._inputs, centred) if right is None else right
            if weight is not None:
                right = right - self._penalty[:, None, None] * weight
            change = self._solved(right)
        return change, mean - np.einsum("gk,gkc->gc", self._mean, change).ravel()

    def _solved(self, right: Array) -> Doubles:
        right = np.asarray(right, self._system.dtype)
        found = product(self._system, right, INPUTS) if self._repeated else np.linalg.solve(self._system, right)
        return np.asarray(found, np.float64)


def choose_penalty(inputs: Array, residual: Array) -> tuple[Gram, float | None, Doubles | None]:
    """The moments of all rows, the correction with the least error on rows that it was not solved from, and
    Σ u·(r − r̄) of all rows if it is known.

        E = Σ over held-out rows ‖r − u·ΔW − Δb‖²          solved from the other rows

    RIDGE, ∞ for biases alone, or None for nothing: a correction is never worse than none, but for chance.
    Rows are in the order of the samples: every HELD_OUT-th of BLOCKS stretches is held out, so that few samples have
    rows in both. A layer of more than WIDE inputs gets RIDGE. inputs, residual: as of `compensate`.
    """
    groups, rows, size = inputs.shape
    if rows < BLOCKS or size > min(rows, WIDE):
        return Gram(inputs), RIDGE, None
    parts = stretches(rows, BLOCKS)
    held = parts[HELD_OUT - 1 :: HELD_OUT]
    kept = [slice(first.start, last.start) for first, last in zip(parts[::HELD_OUT], held, strict=True)]
    count = sum(part.stop - part.start for part in kept)
    sums = _sums(inputs, kept)
    centre = sums / count
    moment = _products(inputs, inputs, kept, upper=True)
    system = _about(_mirrored(moment), centre, count)
    system = _penalised(system, _penalty(system, centre, count, RIDGE)).astype(np.float32)  # enough to compare

    def left(residual: Array) -> tuple[Doubles, Doubles, Floats]:
        """Of some columns: errors without a correction, with biases, and with weights, [3]; Σ u·r over the kept rows,
        r about its mean in these; and r, float32 [G, P, C/G]."""
        mean = sum(residual[part].sum(0, dtype=np.float64) for part in kept) / count
        r = (residual - mean.astype(np.float32)).reshape(rows, groups, -1).transpose(1, 0, 2)
        right = _products(inputs, r, kept)
        weight = np.linalg.solve(system, right.astype(np.float32))
        shift = np.einsum("gk,gkc->gc", centre, weight)[:, None].astype(np.float32)
        solved = (r[:, part] - product(inputs[:, part], weight, ROWS) + shift for part in held)
        each = ((residual[part] for part in held), (r[:, part] for part in held), solved)
        return np.array([sum(map(_squares, values)) for values in each]), right, r

    columns = _columns(groups, residual.shape[1])
    errors = np.zeros(3)
    for part in columns:
        found, right, r = left(residual[:, part])
        errors += found
    moment += _products(inputs, inputs, held, upper=True)
    sums += _sums(inputs, held)
    gram, chosen = Gram(inputs, _mirrored(moment), sums / rows), (None, np.inf, RIDGE)[int(np.argmin(errors))]
    if len(columns) > 1 or chosen != RIDGE:
        return gram, chosen, None
    right += _products(inputs, r, held)
    right -= sums[:, :, None] * r.mean(1, keepdims=True, dtype=np.float64)
    return gram, chosen, right


def _columns(groups: int, channels: int) -> list[slice]:
    """Parts of a layer's outputs: those of groups stay together."""
    return slices(channels, COLUMNS if groups == 1 else channels)


def compensate(
    inputs: Array | Gram, residual: Array, ridge: float = RIDGE, right: Doubles | None = None
) -> tuple[Floats, Floats]:
    """ΔW, Δb = argmin Σ ‖r − u·ΔW − Δb‖² + λ‖ΔW‖²: float32 [G, K, C/G] and [C].

    inputs: u, float32 [G, P, K]. residual: r = x − x_q, float32 [P, C]; group g has the g-th C/G channels. right: as of
    `choose_penalty`.
    """
    gram = inputs if isinstance(inputs, Gram) else Gram(inputs)
    regression, (groups, _, width) = Regression(gram, ridge), gram.inputs.shape
    channels = residual.shape[1]
    weight, bias = np.empty((groups, width, channels // groups), np.float32), np.empty(channels, np.float32)
    for columns in _columns(groups, channels):
        found, bias[columns] = regression.solve(residual[:, columns], right=right)
        weight[:, :, columns] = found
    return weight, bias


def mean_bias(inputs: Array, residual: Array) -> tuple[Floats, Floats]:
    """ΔW = 0, Δb = mean(r), float32 [G, K, C/G] and [C]: `compensate` for a penalty that no weight is worth."""
    groups, _, width = inputs.shape
    weight = np.zeros((groups, width, residual.shape[1] // groups), np.float32)
    return weight, residual.mean(0, dtype=np.float64).astype(np.float32)


def scale_back(x: Array, x_q: Array) -> tuple[Floats, Floats]:
    """g = Σ(x − x̄)² / Σ(x − x̄)·(x_q − x̄_q), from 1 to MOST_GAIN, and x̄_q·(1 − g): float32 [C].

    g·x_q + x̄_q·(1 − g) has the slope 1 on x, and the mean of x_q. What explains x with the least error is flatter than
    x where noise is in it: rare large values come out too small, and a detector's boxes fall below its threshold. g = 1
    for an output whose kurtosis is below RARE: scores of a softmax are worth more as they are most likely.
    x: wanted, x_q: the corrected output, float32 [P, C].
    """
    mean = x_q.mean(0, dtype=np.float64)
    wanted, actual = x - x.mean(0, dtype=np.float64).astype(np.float32), x_q - mean.astype(np.float32)
    unit = max(float(np.abs(wanted).max(initial=0)), float(np.abs(actual).max(initial=0))) or 1.0
    wanted, actual = wanted / np.float32(unit), actual / np.float32(unit)  # squares of float32 end at 2^±63
    spread, common = (np.einsum("pc,pc->c", wanted, other, dtype=np.float64) for other in (wanted, actual))
    fourth = np.einsum("pc,pc->c", np.square(wanted), np.square(wanted), dtype=np.float64)
    rare = (common > 0) & (len(x) * fourth > RARE * np.square(spread))
    gain = np.clip(np.divide(spread, common, out=np.ones_like(mean), where=rare), 1.0, MOST_GAIN)
    return gain.astype(np.float32), (mean * (1 - gain)).astype(np.float32)


def apply(
    inputs: Array, weight: Array, bias: Array, before: Array | None = None, memory: tuple[Floats, Floats] | None = None
) -> Floats:
    """u·ΔW + Δb, float32 [P, C]: what a correction adds to the layer's output, and, if given, what it is added to.

    memory: of [G, P, C/G] and of [P, C], that the result may lie in; new memory costs more than the sums.
    """
    added = product(inputs, weight.astype(np.float32), ROWS, memory and memory[0])
    groups, rows, width = added.shape
    found: Floats = added[0]
    if groups > 1:
        found = np.empty((rows, groups * width), np.float32) if memory is None else memory[1]
        for part in slices(rows, LINES):
            found[part].reshape(-1, groups, width)[:] = added[:, part].transpose(1, 0, 2)
    found += bias.astype(np.float32)
    if before is not None:
        found += before
    return found


def ends(levels: Levels, count: int) -> tuple[Floats, Floats]:
    """θ/2 − ψ and (L + 1/2)·θ − ψ, float32 [C]: the middle of the first and of the last level. count: L + 1."""
    return (
        0.5 * levels.threshold - levels.shift,
        (count - 0.5) * levels.threshold - levels.shift,
    )


def indistinct(x: Array, low: Array, high: Array) -> tuple[Floats, Floats]:
    """The ends of the values that the neuron takes for x, float32 [P, C].

        x ≤ low:   −∞ … low      x ≥ high:  high … ∞      else  x … x

    The nearest of them to z is a target of refinement: t = clip(z, ends). (z − t)² is at most (z − x)²: minimising it
    again and again with t from the last z (majorise–minimise) lowers the error that the neuron can see.
    x: wanted pre-activation, [P, C]; low, high: `ends`, [C].
    """
    below = x <= low
    bottom, top = np.minimum(x, high), np.maximum(x, low)
    np.copyto(bottom, -np.inf, where=below)
    np.copyto(top, np.inf, where=(x >= high) & ~below)
    return bottom, top


def _squares(values: Array) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def refine(
    inputs: Array,
    x: Array,
    x_q: Array,
    bounds: Callable[[Floats], tuple[Floats, Floats]],
    ridge: float = RIDGE,
    rounds: int = ROUNDS,
    gram: Gram | None = None,
    seen: Callable[[Floats, Floats], Floats] | None = None,
    right: Doubles | None = None,
) -> tuple[Floats, Floats]:
    """ΔW, Δb as `compensate` has them for r = x − x_q, then `rounds` accelerated majorise–minimise steps.

        t = clip(z, indistinct(x))        (W, b) += argmin Σ ‖w·(t − z) − u·ΔW − Δb‖² + λ‖W + ΔW‖²

    w = seen(z, t − z) in 0 … 1, or 1, is the weight of a row's error, Σ w·(t − z′)². That is at most
    Σ (z + w·(t − z) − z′)² and a constant, equal at z′ = z: so all rows and channels still share one matrix. λ of
    these steps is that of the regression times the mean of w: weights pull as hard as before on what is left to pull.
    All steps share one inverse; a layer whose steps would take more than WORK makes fewer of them.
    inputs: u, float32 [G, P, K]. x: the ANN's pre-activation, x_q: the converted network's, float32 [P, C], at the
    same rows. bounds: low and high of `indistinct` for a corrected pre-activation z. gram: of inputs, right: as of
    `choose_penalty`, if known.
    """
    gram = gram or Gram(inputs)
    share = 1.0 if seen is None else float(seen(x_q, x - x_q).mean())
    equations = Regression(gram, ridge * share, repeated=True)
    weight, bias = (equations if seen is None else Regression(gram, ridge)).solve(x - x_q, right=right)
    before = weight, bias
    same: tuple[Floats, Floats] = x, x
    step_work = 4.0 * inputs.size * x.shape[1] / inputs.shape[0]
    move, z = (np.empty(x.shape, np.float32) for _ in range(2))
    memory = np.empty((*inputs.shape[:2], weight.shape[2]), np.float32), z
    for number in range(min(rounds, int(WORK / max(step_work, 1.0)))):
        if number % REFIT == 0:
            same = indistinct(x, *bounds(apply(inputs, weight, bias, x_q)))
        momentum = number / (number + 3)  # Nesterov
        ahead = weight + momentum * (weight - before[0]), bias + momentum * (bias - before[1])
        before = weight, bias
        z = apply(inputs, *ahead, x_q, memory)
        np.clip(z, *same, out=move)
        move -= z
        if seen is not None:
            move *= seen(z, move)
        change = equations.solve(move, ahead[0])
        weight, bias = ahead[0] + change[0], ahead[1] + change[1]
    return weight.astype(np.float32), bias.astype(np.float32)


def _about(moment: Doubles, mean: Doubles, rows: int) -> Doubles:
    """Second moments about the mean, from those about 0."""
    return moment - rows * mean[:, :, None] * mean[:, None]


def _penalty(system: Doubles, mean: Doubles, rows: int, ridge: float) -> Doubles:
    """λ = ridge · mean diag(UᵀU), [G]; for inputs that do not vary as much as they need to get no weight."""
    power = np.trace(system, axis1=1, axis2=2) / mean.shape[1]  # the trace of UUᵀ is that of UᵀU
    rounding = ROUNDING * rows * np.square(mean).mean(1)
    return np.asarray(np.where(power > rounding, ridge * power, np.maximum(rounding, 1.0)))


def _penalised(system: Doubles, penalty: Doubles) -> Doubles:
    """The system with λ on its diagonal."""
    found, diagonal = system.copy(), np.arange(system.shape[1])
    found[:, diagonal, diagonal] += penalty[:, None]
    return found


def _sums(inputs: Floats, parts: Sequence[slice] | None = None) -> Doubles:
    """Sums over rows, float64 [G, K], as of `_products`."""
    return _products(np.ones((len(inputs), inputs.shape[1], 1), np.float32), inputs, parts)[:, 0]


def _mirrored(moment: Doubles) -> Doubles:
    """Second moments, of which `_products` gave what lies above the diagonal, in place."""
    for part in slices(moment.shape[1], INPUTS):
        moment[:, part.stop :, part] = moment[:, part, part.stop :].transpose(0, 2, 1)
    return moment


def _products(left: Floats, right: Floats, parts: Sequence[slice] | None = None, upper: bool = False) -> Doubles:
    """leftᵀ·right over rows, [G, P, K] and [G, P, C] → float64 [G, K, C], summed in blocks of rows.

    parts: of the rows, if not all. upper: what lies below the diagonal of a symmetric product is left out, but for the
    tiles that the diagonal crosses.
    """
    total = np.zeros((left.shape[0], left.shape[2], right.shape[2]))
    parts = parts or [slice(0, left.shape[1])]
    blocks = [
        slice(start, min(start + ROWS, each.stop)) for each in parts for start in range(each.start, each.stop, ROWS)
    ]

    def add(tile: tuple[slice, slice]) -> None:
        groups, inputs = tile
        columns = slice(inputs.start if upper else None, None)
        for block in blocks:
            found = left[groups, block, inputs].transpose(0, 2, 1) @ right[groups, block, columns]
            total[groups, inputs, columns] += found

    side_by_side(add, tiles(left.shape[0], left.shape[2], INPUTS))
    return total
