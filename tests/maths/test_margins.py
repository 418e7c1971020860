"""Levels beyond the sample: what unseen rows lose, and where nothing changes."""

from functools import partial

import numpy as np
import pytest

from graphpass.maths.margins import MANY, with_margin
from graphpass.maths.thresholds import least_error, squared_error

FIELDS = "threshold shift amplitude offset".split()
FEW, LEVELS = 1024, 256


def rows(kind, seed, count):
    generator = np.random.default_rng(seed)
    drawn = {"normal": generator.standard_normal, "laplace": lambda shape: generator.laplace(size=shape)}[kind]
    return drawn((count, 8)).astype(np.float32)


def fitted(x, a, levels, abouts, zero=None):
    fit = partial(least_error, levels=levels, zero=zero)
    found = fit(x, a)
    return found, with_margin(found, fit, x, a, levels, abouts, zero)


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


@pytest.mark.parametrize("kind", ["normal", "laplace"])
@pytest.mark.parametrize("rectified", [True, False])
def test_unseen_rows_lose_less(kind, rectified):
    """1,024 rows do not reach as far as 200,000: much of the error lies beyond the last level, or before the first."""
    x, unseen = rows(kind, 0, FEW), rows(kind, 1, 200_000)
    f = (lambda z: np.maximum(z, 0)) if rectified else (lambda z: z)
    abouts = (0.0,) if rectified else (0.0, (LEVELS - 1) / 2)
    plain, wide = (
        squared_error(each.output(unseen, LEVELS), f(unseen)).sum() for each in fitted(x, f(x), LEVELS, abouts)
    )
    assert wide < 0.5 * plain


@pytest.mark.parametrize("levels", [2, 5, MANY - 1])
def test_few_levels_stay_as_they_are(levels):
    x = rows("normal", 0, FEW)
    assert same(*fitted(x, np.maximum(x, 0), levels, (0.0,)))


def test_few_rows_stay_as_they_are():
    x = rows("laplace", 0, FEW - 1)
    assert same(*fitted(x, np.maximum(x, 0), LEVELS, (0.0,)))


def test_levels_that_reach_all_there_is_stay_as_they_are():
    """Of a clip, whose ends both halves reach."""
    x = 5 * rows("normal", 0, FEW)
    assert same(*fitted(x, np.clip(x, 0, 6), LEVELS, (0.0,)))


@pytest.mark.parametrize("zero", [0, 100])
def test_a_count_goes_on_standing_for_0(zero):
    x = rows("normal", 0, FEW)
    _, wide = fitted(x, x if zero else np.maximum(x, 0), LEVELS, (float(zero),), zero)
    np.testing.assert_allclose(wide.offset, -zero * wide.amplitude, rtol=1e-6)  # float32
    assert (wide.amplitude > 0).all()


def test_a_channel_without_spikes_has_none_afterwards():
    x, a = rows("normal", 0, FEW), rows("normal", 0, FEW)
    x[:, 3], a[:, 3] = -1.0, 0.0
    plain, wide = fitted(x, a, LEVELS, (0.0, (LEVELS - 1) / 2))
    for name in FIELDS:
        assert getattr(wide, name)[3] == getattr(plain, name)[3]
    assert not wide.count(x, LEVELS)[:, 3].any()
