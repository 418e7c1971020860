"""A linear probe: how well classes can be read off vectors by a linear map, fitted on one network's vectors.

    V = ((v − mean v) / s, 1),  s² the mean variance of v's components
    W = argmin Σ ‖V·W − onehot(label)‖² + λ·‖W‖²,  λ = 0.01 · samples;  predicted: the class with the largest V·W

Least squares on one-hot labels is ridge classification (Hastie, Tibshirani, Friedman, 2009, section 4.2): closed form,
so that the same vectors give the same probe.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PENALTY = 0.01  # λ / samples; a component of V has the variance 1 on average


@dataclass(frozen=True, eq=False)
class Probe:
    """mean [D], scale, weight [D + 1, classes], classes [classes]: float64, labels int64."""

    mean: Array
    scale: float
    weight: Array
    classes: NDArray[np.int64]

    def predict(self, vectors: Array) -> NDArray[np.int64]:
        """The class of each vector [N, D], int64 [N]."""
        scores = _augmented(vectors, self.mean, self.scale) @ self.weight
        return np.asarray(self.classes[np.nan_to_num(scores, nan=-np.inf).argmax(1)], np.int64)


def fit_probe(vectors: Array, labels: Array) -> Probe:
    """vectors: [N, D], labels: int [N], N ≥ 1."""
    wide = vectors.astype(np.float64)
    mean = wide.mean(0)
    scale = float(np.sqrt(np.square(wide - mean).mean())) or 1.0
    classes, place = np.unique(labels.astype(np.int64), return_inverse=True)
    design = _augmented(wide, mean, scale)
    normal = design.T @ design + PENALTY * len(wide) * np.eye(design.shape[1])
    weight = np.linalg.solve(normal, design.T @ np.eye(len(classes))[place])
    return Probe(mean, scale, weight, classes)


def _augmented(vectors: Array, mean: Array, scale: float) -> Array:
    rows = (vectors.astype(np.float64) - mean) / scale
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
