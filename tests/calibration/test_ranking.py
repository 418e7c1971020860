"""Sites by the errors that they cause: alone and left out, on networks of which the answer is known."""

import numpy as np
import pytest

from graphpass import api
from graphpass.calibration.ranking import RankedSite, suggested
from graphpass.errors import OptionError
from tests.models import build, node
from tests.searching.test_search import network_with_a_wild_site


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((200, 8)).astype(np.float32)


def test_the_wild_site_comes_first_and_is_what_to_exclude(rows: np.ndarray) -> None:
    proto = network_with_a_wild_site()
    ranking = api.inspect(proto, rows, time_steps=4, threads=1).ranking
    assert [site.name for site in ranking.sites] == ["wild", "tame"] and ranking.exclude == ("wild",)
    wild, tame = ranking.sites
    assert wild.alone > 5 * tame.alone and wild.share == pytest.approx(wild.alone / (wild.alone + tame.alone))
    assert wild.without < ranking.error  # the tame site alone is left
    left = api.inspect(proto, rows, time_steps=4, threads=1, exclude="^wild$").ranking
    assert left.error < ranking.error / 5


def test_errors_are_measured_on_the_data_that_is_given(rows: np.ndarray) -> None:
    proto = network_with_a_wild_site()
    own = api.inspect(proto, rows[:100], time_steps=4, threads=1).ranking
    other = api.inspect(proto, rows[:100], rows[100:], time_steps=4, threads=1).ranking
    assert own.error != other.error and own.samples == other.samples == 64
    assert api.inspect(proto).ranking is None


def test_options_of_a_ranking_need_data(rows: np.ndarray) -> None:
    for options in ({"time_steps": 4}, {"method": "max"}, {"evaluation": rows}, {"threads": 1}):
        with pytest.raises(OptionError, match="needs calibration"):
            api.inspect(network_with_a_wild_site(), **options)


def test_a_network_without_sites_has_none_to_rank(rows: np.ndarray) -> None:
    proto = build([node("MatMul", "x w", "y", "fc")], {"x": ["N", 8]}, {"y": ["N", 2]}, {"w": np.ones((8, 2))})
    assert not api.inspect(proto).sites
    with pytest.raises(OptionError, match="no sites to rank"):
        api.inspect(proto, rows, threads=1)


def test_the_fewest_sites_that_cause_half_of_the_error() -> None:
    def ranked(*shares: float) -> list[RankedSite]:
        return [RankedSite(f"s{k}", "relu", 5, share, 0.0, share) for k, share in enumerate(shares)]

    assert suggested(ranked(0.6, 0.2, 0.2)) == ("s0",)
    assert suggested(ranked(0.3, 0.2, 0.2, 0.3)) == ("s0", "s1")
    assert suggested(ranked(*[0.01] * 100)) == ("s0", "s1", "s2")
    assert suggested(ranked(0.0, 0.0)) == ()
