"""The search finds what trying everything would find, in few tries."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths.choosing import SAVING_WORTH_A_TRY, Rung, Tried, expected_levels, in_play, next_rung


def ladder(rate=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32), phase=range(1, 9)):
    """Costs as of a sparse network: a count costs its spikes, about a fifth of T, a phase code a fifth of its bits."""
    rungs = [Rung(t, "rate", t + 1, 0.2 * t**0.8) for t in rate]
    return rungs + [Rung(t, "phase", 2**t, 0.21 * t) for t in phase]


def searched(rungs, drop, cost, limit):
    tried = []
    while (rung := next_rung(rungs, tried, limit)) is not None:
        assert rung not in [each.rung for each in tried]
        tried.append(Tried(rung, drop(rung), cost(rung), drop(rung) <= limit))
    good = [each for each in tried if each.drop <= limit]
    return tried, min(good, key=lambda each: each.cost) if good else None


@given(
    st.floats(0.01, 3000),
    st.floats(1.0, 3.0),
    st.sampled_from([0.1, 0.5, 1.0, 2.0, 10.0]),
    st.floats(0.1, 1e9),
)
def test_it_finds_the_cheapest_rung_within_the_limit(scale, power, limit, unit):
    """Whatever the law by which the drop falls with the levels, and in whatever unit costs are measured."""
    rungs = ladder()

    def drop(rung):
        return scale / (rung.levels - 1) ** power

    tried, best = searched(rungs, drop, lambda rung: unit * rung.cost, limit)
    good = [rung for rung in rungs if drop(rung) <= limit]
    assert (best is None) == (not good)
    if best:
        assert best.rung.cost * (1 - SAVING_WORTH_A_TRY) <= min(rung.cost for rung in good)
    assert len(tried) <= 8


def test_three_or_four_tries_are_usual():
    """ResNet-20 on CIFAR-10 loses 10.3, 3.9, 1.2 and 0.3 points with 3, 5, 9 and 17 levels."""
    counts = [len(searched(ladder(), lambda r: 41 / (r.levels - 1) ** 2, lambda r: r.cost, d)[0]) for d in (0.5, 1, 2)]
    assert max(counts) <= 4


def test_a_failure_rules_out_fewer_levels_and_a_success_what_costs_more():
    rungs = [Rung(2, "phase", 4, 1.0), Rung(3, "phase", 8, 2.0), Rung(8, "rate", 9, 4.0), Rung(4, "phase", 16, 3.0)]
    failed, good = Tried(rungs[0], 9.0, 1.0, False), Tried(rungs[3], 0.2, 3.0, True)
    assert in_play(rungs, [failed, good]) == [rungs[1]]
    assert next_rung(rungs, [failed, good, Tried(rungs[1], 0.9, 2.0, True)], 1.0) is None


def test_a_network_without_a_figure_lost_everything():
    rungs = ladder()
    worst = Tried(rungs[5], math.nan, 1.0, False)
    assert all(rung.levels > rungs[5].levels for rung in in_play(rungs, [worst]))
    assert next_rung(rungs, [Tried(rungs[5], math.inf, 1.0, False)], 1.0).levels == 256


@pytest.mark.parametrize("drop", [-1.0, 0.0])
def test_no_drop_is_room_for_fewer_levels(drop):
    assert expected_levels([Tried(Rung(4, "phase", 16, 1.0), drop, 1.0, True)], 1.0) < 6


def test_no_drop_within_a_noise_above_the_limit_is_less_room():
    """One more lost sample would be above the limit: a fifth of the distance between levels, not a tenth."""
    rung = Rung(4, "phase", 16, 1.0)
    known, unknown = (Tried(rung, 0.0, 1.0, True, noise) for noise in (0.9, 1.1))
    assert expected_levels([known], 1.0) == pytest.approx(2.5)
    assert expected_levels([unknown], 1.0) == pytest.approx(4.0)
    assert next_rung(ladder(), [unknown], 1.0).levels == 4


def test_forecasts_may_be_off_by_what_is_always_spent():
    """Costs of f − 9 for forecasts f: by their ratios, which differ, the cheapest one would not seem worth a try."""
    rungs = [Rung(1, "phase", 2, 10.0), Rung(2, "rate", 3, 10.5), Rung(4, "phase", 16, 14.0)]
    tried = [Tried(rung, 0.1, rung.cost - 9, True) for rung in rungs[1:]]
    assert in_play(rungs, tried) == [rungs[0]]
    assert in_play(rungs, tried[:1]) == [rungs[0]]  # 10 / 10.5 of what was measured
