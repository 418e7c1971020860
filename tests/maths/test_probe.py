"""A linear probe reads off what is linear in the vectors, whatever their scale, and nothing else."""

import numpy as np
import pytest

from graphpass.maths.probe import fit_probe

GENERATOR = np.random.default_rng(0)
CENTRES = GENERATOR.normal(size=(3, 8))


def vectors(count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    labels = GENERATOR.integers(0, 3, count)
    return (CENTRES[labels] + noise * GENERATOR.normal(size=(count, 8))).astype(np.float32), labels * 10 - 1


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e4, -1e5), (1e-3, 2.0)])
def test_classes_that_lie_apart_are_told_apart(scale: float, shift: float) -> None:
    (train, labels), (test, known) = vectors(300, 0.3), vectors(300, 0.3)
    probe = fit_probe(train * np.float32(scale) + np.float32(shift), labels)
    assert (probe.predict(test * np.float32(scale) + np.float32(shift)) == known).mean() > 0.98


def test_noise_says_nothing_of_the_class() -> None:
    probe = fit_probe(GENERATOR.normal(size=(400, 8)), GENERATOR.integers(0, 2, 400))
    hits = probe.predict(GENERATOR.normal(size=(4000, 8))) == GENERATOR.integers(0, 2, 4000)
    assert abs(hits.mean() - 0.5) < 0.05  # six standard errors


def test_vectors_without_spread_and_values_that_are_not_numbers() -> None:
    probe = fit_probe(np.ones((4, 2)), np.array([5, 5, 5, 2]))
    assert probe.predict(np.ones((1, 2))).tolist() == [5]  # the frequent one
    assert probe.predict(np.full((1, 2), np.nan)).tolist() == [2]  # any class, no error
