"""Which quick look is made in full next."""

import math
from dataclasses import replace

import pytest

from graphpass.evaluation.drop import Drop
from graphpass.searching.looks import doubt, expected, latest, worth_it
from graphpass.searching.trials import QUICK, Setting, Trial

LIMIT = 1.0


def trial(steps: int, lost: float, within: bool, stage: str = "levels", left: tuple[str, ...] = ()) -> Trial:
    """At the phase code, for a cost of T."""
    setting = Setting(steps, "phase", left=left)
    return Trial(stage, setting, Drop("top1", "points", lost, 0.5), within, steps, steps, 1.0, 0.0, 0.2, 1.0)


def look(steps: int, lost: float, within: bool = True, left: tuple[str, ...] = ()) -> Trial:
    return trial(steps, lost, within, f"{QUICK}levels", left)


def steps_of(*trials: Trial) -> int | None:
    found = worth_it(latest(trials), LIMIT)
    return found and found.setting.time_steps


def test_the_cheapest_that_is_expected_to_be_good_enough_comes_first() -> None:
    assert steps_of(look(4, 0.1), look(3, 1.2), look(2, 1.9), look(1, 9.0, within=False)) == 3
    assert steps_of(look(3, 1.6), look(2, 1.8)) == 3  # neither is expected to be: the likelier one
    assert steps_of(look(1, 9.0, within=False)) is None


def test_after_a_failure_more_levels_and_after_a_success_less_cost() -> None:
    looks = (look(4, 0.1), look(3, 1.2), look(2, 1.9))
    assert steps_of(*looks, trial(3, 1.1, within=False)) == 4
    assert steps_of(*looks, trial(4, 0.3, within=True)) == 3  # 1 + 15·√0.3 levels are wanted: 9.2, and 8 are the most
    assert steps_of(*looks, trial(4, 0.3, within=True), trial(3, 1.1, within=False)) is None
    assert steps_of(*looks, trial(3, 0.9, within=True), trial(2, 2.0, within=False)) is None


def test_what_saves_next_to_nothing_is_not_made_in_full() -> None:
    cheaper = replace(look(4, 0.1), setting=Setting(4, "phase", identity_sites=True), cost=3.85)
    assert worth_it([trial(4, 0.3, within=True), cheaper], LIMIT) is None
    assert worth_it([trial(4, 0.3, within=True), replace(cheaper, cost=3.75)], LIMIT) is not None


def test_other_sites_are_judged_apart() -> None:
    assert steps_of(look(2, 0.5, left=("a",)), trial(8, 3.0, within=False)) == 2
    assert steps_of(look(2, 0.5, left=("a",)), trial(2, 3.0, within=False, left=("a",))) is None
    looks = look(3, 0.5, left=("a",)), look(2, 1.2, left=("a",))
    assert steps_of(*looks, trial(4, 20.0, within=False)) == 2  # it does not say that 68 levels are wanted here


def test_identity_sites_lose_more_and_say_nothing_of_what_is_without_them() -> None:
    plain, with_them = look(3, 1.2), replace(look(3, 1.1), setting=Setting(3, "phase", identity_sites=True))
    failed = replace(trial(3, 1.4, within=False), setting=with_them.setting)
    assert worth_it(latest([plain, with_them, failed]), LIMIT) == plain
    assert worth_it(latest([plain, with_them, trial(3, 1.4, within=False)]), LIMIT) is None


def test_a_trial_in_full_takes_the_place_of_its_look() -> None:
    full = trial(3, 0.9, within=True)
    assert latest([look(3, 1.2), look(2, 1.9), full]) == [look(2, 1.9), full]


def test_what_a_look_leaves_open() -> None:
    """A loss of 8/3 with noise 2: a quarter is due to fewer samples."""
    drop = Drop("top1", "points", 8 / 3, 2.0)
    assert expected(drop) == pytest.approx(2.0) and drop.value - doubt(drop) == pytest.approx(0.0)
    assert expected(Drop("top1", "points", -1.0, None)) == -1
    assert doubt(Drop("top1", "points", math.inf, None)) == 0
