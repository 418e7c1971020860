"""Allocation: budgets are kept, more of one never hurts, and equal levels are never better by the same figures."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphpass.errors import OptionError
from graphpass.maths.allocation import Auto, allocate, auto_of, ladder, levels_text, spikes_of, steps_needed
from graphpass.maths.neuron import CODINGS, levels_of, spike_train
from tests.properties import examples

ROUNDING = 1e-12  # of sums of at most a dozen float64, added up in another order than the product does


def surfaces(seed: int, sites: int, rungs: int, unordered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Errors that fall and costs that rise along the rungs; unordered: in any order."""
    generator = np.random.default_rng(seed)
    errors, costs = generator.exponential(size=(2, sites, rungs)) * 10 ** generator.uniform(-3, 3, (2, sites, 1))
    return (errors, costs) if unordered else (-np.sort(-errors, axis=1), np.sort(costs, axis=1))


def totals(errors, costs, rungs):
    sites = np.arange(len(rungs))
    return errors[sites, rungs].sum(), costs[sites, rungs].sum()


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 9), st.booleans(), st.floats(0, 1))
@example(8, 12, 4, False, 0.9999999999999999)  # equal levels fit by one sum of their costs, not by the other
@example(16, 12, 4, False, 1.0)
@examples(200)
def test_the_budget_is_kept_and_equal_levels_are_never_better(seed, sites, rungs, unordered, share):
    errors, costs = surfaces(seed, sites, rungs, unordered)
    least = costs.min(1).sum()
    budget = least + share * (costs.max(1).sum() - least)
    error, cost = totals(errors, costs, allocate(errors, costs, budget))
    assert cost <= budget * (1 + ROUNDING)
    for rung in range(rungs):
        if costs[:, rung].sum() <= budget * (1 - ROUNDING):  # whichever way they are added up
            assert error <= errors[:, rung].sum() * (1 + ROUNDING)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 9), st.booleans())
@examples(100)
def test_more_budget_never_gives_more_error(seed, sites, rungs, unordered):
    errors, costs = surfaces(seed, sites, rungs, unordered)
    budgets = np.linspace(costs.min(1).sum(), costs.max(1).sum() * 1.01, 20)[1:]
    found = [totals(errors, costs, allocate(errors, costs, budget))[0] for budget in budgets]
    assert (np.diff(found) <= ROUNDING * np.abs(found[:-1])).all()
    assert found[-1] == pytest.approx(errors.min(1).sum())  # all that can be had


@given(st.integers(0, 2**32), st.floats(0.05, 1))
@examples(50)
def test_no_choice_within_the_budget_is_better_by_more_than_one_step(seed, share):
    """The greedy prefix is the Lagrangian's optimum but for the last step, which did not fit."""
    errors, costs = surfaces(seed, 4, 4, False)
    budget = costs[:, 0].sum() + share * (costs[:, -1] - costs[:, 0]).sum()
    error, _ = totals(errors, costs, allocate(errors, costs, budget))
    every = np.stack(np.meshgrid(*[range(4)] * 4, indexing="ij"), -1).reshape(-1, 4)
    sites = np.arange(4)
    best = min(errors[sites, each].sum() for each in every if costs[sites, each].sum() <= budget * (1 + ROUNDING))
    assert best <= error * (1 + ROUNDING)
    assert error - best <= (errors[:, 0] - errors[:, -1]).max() + ROUNDING * errors[:, 0].sum()


def test_the_site_that_matters_gets_the_levels():
    errors, costs = np.array([[100.0, 25.0, 6.0], [1.0, 0.25, 0.06]]), np.array([[1.0, 2.0, 4.0]] * 2)
    assert allocate(errors, costs, 5.0).tolist() == [2, 0]
    assert allocate(errors, costs, 6.0).tolist() == [2, 1]


def test_a_budget_below_the_least_is_refused():
    with pytest.raises(OptionError, match="below"):
        allocate(np.ones((2, 2)), np.ones((2, 2)), 1.9)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8])
def test_a_ladder_ends_at_all_levels_and_its_rungs_need_no_more_steps(coding, steps):
    rungs = ladder(steps, coding)
    assert list(rungs) == sorted(set(rungs))
    assert (rungs[0], rungs[-1]) == (2, levels_of(steps, coding))
    for rung in rungs:
        needed = steps_needed(rung, coding)
        assert levels_of(needed, coding) >= rung
        assert needed == 1 or levels_of(needed - 1, coding) < rung


@pytest.mark.parametrize("coding", CODINGS)
def test_spikes_are_those_of_the_train(coding):
    counts = np.arange(8, dtype=np.uint8)
    assert spikes_of(counts, coding).tolist() == spike_train(counts, 7, coding).sum(0).tolist()


@pytest.mark.parametrize(
    "arguments", [(0.0, None), (1.5, None), (None, 1.5), (0.5, 4.0), (float("nan"), None), (None, float("nan"))]
)
def test_senseless_budgets_are_refused(arguments):
    with pytest.raises(OptionError):
        Auto(*arguments)


def test_the_words_of_options():
    assert auto_of(None) is None
    assert auto_of("auto", 0.25) == Auto(energy=0.25)
    for wrong in (("8",), (None, 0.5), (None, None, 4.0), ("auto", 0.5, 4.0)):
        with pytest.raises(OptionError):
            auto_of(*wrong)


def test_levels_are_told_as_one_or_as_a_range_and_a_mean_over_neurons():
    assert levels_text([9, 9], [1, 2]) == "9"
    assert levels_text([5, 13, 9], [10, 20, 10]) == "5–13, mean 10.0"
    assert levels_text([9, 9], unit=" levels") == "9 levels"
    assert levels_text([5, 9], [1, 1], " levels") == "5–9 levels, mean 7.0"
    assert levels_text([5, 13]) == levels_text([5, 13], [0, 0]) == "5–13"
