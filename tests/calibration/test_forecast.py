"""What a search measures of the original network: forecasts of costs, and errors by groups of sites."""

from dataclasses import replace

import numpy as np
import pytest

from graphpass.calibration import forecast as forecast_module
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.forecast import LEVELS, PROBED, Forecast, forecast, gains, see
from graphpass.calibration.sensitivity import measure
from graphpass.conversion import dataset_for
from graphpass.graph.model import load
from graphpass.network import prepare
from tests.verification.test_integer_counts import data, network

OPTIONS = CalibrationOptions(time_steps=4, coding="phase", method="max", threads=1)


@pytest.fixture(scope="module")
def known():
    found = prepare(load(network()))
    return found, dataset_for(found.source.proto, data(24))


@pytest.fixture(scope="module")
def seen(known):
    return see(known[0].graph, known[0].coverage, known[1], OPTIONS, None)


def test_it_is_the_sensitivity_where_each_site_is_a_group(known, seen, monkeypatch):
    """On the same samples and rows. At levels in between, a power law is followed."""
    monkeypatch.setattr(forecast_module, "SAMPLES", 64)
    monkeypatch.setattr(forecast_module, "ROWS", 4096)
    found, dataset = known
    exact = measure(found.graph, found.coverage, dataset, OPTIONS)
    again = see(found.graph, found.coverage, dataset, OPTIONS, None)
    told = forecast(again)
    near = told.sensitivity(exact.rungs, "phase", gains(again, told), exact.sites)
    assert (near.sites, near.rungs, near.neurons) == (exact.sites, exact.rungs, exact.neurons)
    measured = [place for place, rung in enumerate(exact.rungs) if rung in LEVELS]
    assert 0 < len(measured) < len(exact.rungs)
    for one, other in ((near.errors, exact.errors), (near.costs, exact.costs)):
        np.testing.assert_allclose(one[:, measured], other[:, measured], rtol=1e-5)  # float32 sums
        np.testing.assert_allclose(one, other, rtol=0.15)  # a power law is not exact


def test_sites_of_a_group_share_what_they_cause_together(seen, monkeypatch):
    told = forecast(seen)
    alone = np.array(gains(seen, told))
    monkeypatch.setattr(forecast_module, "GROUPS", 1)
    together = gains(seen, told)
    assert len(set(together)) == 1 and together[0] > 0
    lost = told.errors[:, PROBED]
    # errors of two sites add up, apart from what cancels
    assert together[0] * lost.sum() == pytest.approx((alone * lost).sum(), rel=0.5)


def test_energy_is_the_sum_over_sites_and_grows_with_levels(seen):
    told = forecast(seen)
    for coding, costs in told.costs.items():
        assert told.energy(LEVELS[2], coding) == pytest.approx(costs[:, 2].sum())
        assert costs[:, 2].sum() < told.energy(30, coding) < costs[:, 3].sum()


@pytest.mark.parametrize("method", ["optimal", "da-qcfs", "percentile", "max"])
def test_some_channels_tell_of_all(known, monkeypatch, method):
    """Every second channel: costs and errors are near those of all, and are not half of them."""
    found, dataset = known
    again = see(found.graph, found.coverage, dataset, replace(OPTIONS, method=method), None)
    widest = max(sample.x.shape[1] for sample in again.found.samples)
    whole = forecast(again)
    monkeypatch.setattr(forecast_module, "CHANNELS", widest // 2)
    some = forecast(again)
    assert (some.errors != whole.errors).any()
    for coding in whole.costs:
        np.testing.assert_allclose(some.costs[coding].sum(0), whole.costs[coding].sum(0), rtol=0.3)
    coarse = slice(0, LEVELS.index(256))  # at 256 levels, one channel with rare large values may be most of the error
    np.testing.assert_allclose(some.errors.sum(0)[coarse], whole.errors.sum(0)[coarse], rtol=0.4)


def test_text_keeps_every_bit(seen):
    told = forecast(seen)
    again = Forecast.from_text(told.to_text())
    assert (again.sites, again.neurons) == (told.sites, told.neurons)
    assert (again.errors == told.errors).all() and all((again.costs[c] == told.costs[c]).all() for c in told.costs)
