"""Probabilities of the next token from logits, in float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Doubles = NDArray[np.float64]


def log_softmax(logits: Array) -> Doubles:
    """log p = x − log Σ exp x over the last axis, float64; x is shifted by its maximum, so that nothing overflows.

    >>> np.exp(log_softmax(np.array([1000.0, 1000.0]))).round(12).tolist()
    [0.5, 0.5]
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # rows that hold infinities or NaN come to NaN
        shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), np.float64)


def divergences(p: Doubles, q: Doubles) -> Doubles:
    """KL(p ‖ q) = Σ p·(log p − log q) over the last axis, of log-probabilities; a term of p = 0 is 0."""
    with np.errstate(invalid="ignore"):
        terms = np.exp(p) * (p - q)
    return np.asarray(np.where(np.isneginf(p), 0.0, terms).sum(-1), np.float64)
