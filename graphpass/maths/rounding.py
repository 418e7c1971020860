"""Weights as whole numbers whose errors cancel over what lies together, without data.

    q = round(w) + d      d: −1, 0 or 1, so that |Σ_k (w − q)| ≤ 1 for each kernel and |Σ_i,k (w − q)| ≤ 1/2        (1)

A sum Σ w·n errs by Σ (w − q)·n. The inputs of a kernel are neighbours in an image, and counts of neurons are all
positive: what they have in common is multiplied by the sums of (1), which rounding to the nearest leaves at √(K/12).
Each kernel, then each output, changes as many weights as its sum is away from 0, those that were nearest to the other
whole number. So no weight errs by more than 1.

Source: Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation", ICLR 2022.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rounded_together(weights: Array, largest: int) -> NDArray[np.int8]:
    """q of formula (1), from −largest to largest. weights: w [O, I, K], outputs, inputs and taps of a kernel."""
    whole = np.rint(weights)
    errors = weights - whole
    changed = _changes(errors)
    whole, errors = whole + changed, errors - changed
    sums = errors.sum(2)
    chosen = _changes(sums)[:, :, None]
    ends = np.argmax(errors * chosen, 2, keepdims=True)  # of each kernel, the tap nearest to the other whole number
    np.put_along_axis(whole, ends, np.take_along_axis(whole, ends, 2) + chosen, 2)
    return np.clip(whole, -largest, largest).astype(np.int8)


def _changes(errors: Array) -> Array:
    """−1, 0 or 1, of which the sum along the last axis is that of the errors, rounded: where errors are largest."""
    total = np.rint(errors.sum(-1, keepdims=True))
    sign = np.sign(total)
    ranks = np.argsort(np.argsort(-errors * sign, axis=-1, kind="stable"), axis=-1, kind="stable")
    return np.asarray(np.where(ranks < np.abs(total), sign, 0.0))
