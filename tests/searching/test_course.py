"""The steps of a search whose losses are made up: what it tries, in which order, and where it ends."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.forecast import Forecast
from graphpass.evaluation.drop import Drop
from graphpass.network import Network
from graphpass.searching import course
from graphpass.searching.course import Course
from graphpass.searching.looks import doubt
from graphpass.searching.trials import QUICK, Found, Goal, Setting, Trial
from tests.properties import examples

LIMIT = 1.0
NOISE = 0.3
SITES = ("a", "b")
ERRORS = np.array([[2.0, 0.6, 0.04, 0.004, 0.0002], [1.0, 0.3, 0.02, 0.002, 0.0001]])  # site a is needed most
COSTS = np.full((2, 1), 50.0) * np.array([1.0, 2.0, 4.0, 6.0, 8.0])

Loss = Callable[[Setting, bool], float]


class MadeUp(Course):
    """Sites a and b, and an identity site c; `lost` says what a setting loses in full, or at a quick look."""

    def __init__(self, lost: Loss, multiplying: float = 0.4, noise: float = NOISE, identity: float = 100):
        selection = SimpleNamespace(identity_sites=False)
        known: Any = SimpleNamespace(
            network=SimpleNamespace(selection=selection, coverage=SimpleNamespace(sites=[])),
            evaluation=SimpleNamespace(metrics=SimpleNamespace(first=""), every=4),
        )
        known.evaluation.evaluation = known.evaluation
        super().__init__(known, Goal(LIMIT), CalibrationOptions(), "folded", "onnxruntime")
        self._lost, self._multiplying, self._deviation, self._identity_cost = lost, multiplying, noise, identity
        self.__dict__["_forecast"] = Forecast(SITES, (10, 10), ERRORS, dict.fromkeys(("rate", "phase"), COSTS))
        self.__dict__["_gains"] = [1.0, 1.0]

    def network(self, setting: Setting) -> Network:
        names = [name for name in SITES if name not in setting.left] + ["c"] * setting.identity_sites
        made: Any = SimpleNamespace(coverage=SimpleNamespace(sites=[SimpleNamespace(name=name) for name in names]))
        return made

    def trial(self, stage: str, setting: Setting) -> Trial:
        quick = stage.startswith(QUICK)
        drop = Drop("top1", "points", self._lost(setting, quick), self._deviation)
        energy = self._rough_energy(setting)
        multiplying = self._multiplying / (4 if setting.identity_sites else 1)
        within = drop.value - (doubt(drop) if quick else 0.0) <= LIMIT
        return Trial(stage, setting, drop, within, energy, energy, 1.0, multiplying, 0.2, 1.0)

    def _rough_energy(self, setting: Setting) -> float:
        always = self._identity_cost if setting.identity_sites else 200
        spikes = self._forecast.energy(setting.most_levels, setting.coding)
        return (0.8 if setting.levels else 1) * spikes + always


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick looks at one batch of four, and identity sites that there could be."""
    monkeypatch.setattr(course, "quick_looks", lambda conversions, options: conversions)
    monkeypatch.setattr(course, "with_identity_sites", lambda network: network)


def ended(made: MadeUp) -> Found:
    """The search, run to its end."""
    trials: list[Trial] = []
    while (step := made.next(trials)) is not None:
        assert len(trials) < 40 and step not in [(each.stage, each.setting) for each in trials]
        trials.append(made.trial(*step))
    return made.ended(trials)


def falling(levels: int, lost: float) -> Callable[[Setting], float]:
    """A loss that falls with the square of the distance between levels; fewer at single sites lose three times that."""

    def loss(setting: Setting) -> float:
        least = max(setting.levels.values(), default=setting.most_levels)
        return lost * ((levels - 1) / (least - 1)) ** 2 * (3 if setting.levels else 1)

    return loss


@pytest.mark.parametrize(("levels", "lost", "steps"), [(13, 0.8, (12, "rate")), (256, 0.7, (8, "phase"))])
def test_identity_sites_that_lose_too_much_do_not_rule_out_the_same_without_them(
    levels: int, lost: float, steps: tuple[int, str]
) -> None:
    """They look good enough, and are not in full. Then what is good without them is made in full, and chosen."""
    plain = falling(levels, lost)

    def loss(setting: Setting, quick: bool) -> float:
        return (1.1 if quick else 1.3) if setting.identity_sites else plain(setting)

    found = ended(MadeUp(loss))
    assert any(each.setting.identity_sites and not each.is_quick and not each.within for each in found.trials)
    assert found.chosen is not None
    chosen = found.trials[found.chosen].setting
    assert (chosen.time_steps, chosen.coding, chosen.identity_sites, chosen.left) == (*steps, False, ())


@pytest.mark.parametrize("identity", [100, 199, 400])
def test_identity_sites_are_looked_at_only_where_they_are_cheaper(identity: float) -> None:
    found = ended(MadeUp(lambda setting, quick: falling(13, 0.8)(setting), identity=identity))
    assert any(each.setting.identity_sites for each in found.trials) == (identity == 100)
    assert found.chosen is not None
    assert found.trials[found.chosen].setting.identity_sites == (identity == 100)


def test_fewer_levels_at_single_sites_are_looked_at_before_equal_ones_are_made_in_full() -> None:
    """With a loss in full known: it tells how much error the limit allows. Equal levels would be made for nothing."""

    def loss(setting: Setting, quick: bool) -> float:
        if setting.coding == "rate":
            return 9.0
        lost = {4: 1.2, 5: 0.4, 6: 0.3}.get(setting.time_steps, 0.2 if setting.time_steps > 6 else 5.0)
        return lost * (1.5 if setting.levels else 1) * (1.25 if quick else 1)

    found = ended(MadeUp(loss, multiplying=0.0))
    full = [each.setting for each in found.trials if not each.is_quick]
    assert [(each.time_steps, each.is_uniform) for each in full] == [(4, True), (5, False)]
    assert found.chosen == len(found.trials) - 1


def test_a_search_that_is_closest_with_identity_sites_ends_with_the_shares_of_the_others() -> None:
    def loss(setting: Setting, quick: bool) -> float:
        return (1.1 if quick else 1.3) if setting.identity_sites else (1.2 if quick else 1.5)

    found = ended(MadeUp(loss))
    assert found.chosen is None and found.trials[found.best].setting.identity_sites
    assert set(found.shares) == set(SITES) and found.demanding[0] == "a"


@pytest.mark.parametrize(
    "looks",
    [{4: 3.0, 5: 2.4, 6: 2.3, 7: 1.7, 8: 2.4}, {4: 9.0, 6: 1.9, 8: 2.2}],
    ids=["one of fewer levels looks good enough", "none does"],
)
def test_sites_stay_analogue_only_where_nothing_is_good_enough_in_full(looks: dict[int, float]) -> None:
    """T = 8 of the phase code is good enough, but its quick look loses more than one with fewer levels."""

    def loss(setting: Setting, quick: bool) -> float:
        if setting.left:
            return 0.1
        lost = {8: 0.9, 7: 1.2}.get(setting.time_steps if setting.coding == "phase" else 0, 5.0)
        return looks.get(setting.time_steps, 9.0) if quick and setting.coding == "phase" else lost

    found = ended(MadeUp(loss, multiplying=0.0))
    assert found.chosen is not None and found.trials[found.chosen].setting == Setting(8, "phase")
    assert not any(each.setting.left for each in found.trials)


def test_sites_stay_analogue_once_the_most_levels_lost_too_much_in_full() -> None:
    def loss(setting: Setting, quick: bool) -> float:
        return 0.5 if setting.left else 2.0 if quick else 1.5

    found = ended(MadeUp(loss))
    assert found.chosen is not None and found.trials[found.chosen].setting.left == ("a",)
    stages = [each.stage for each in found.trials]
    assert stages.index("levels") < stages.index(f"{QUICK}analogue sites")
    assert [each.setting for each in found.trials if each.stage == "levels" and not each.setting.left] == [
        Setting(8, "phase")
    ]


@pytest.mark.parametrize(("most", "chosen"), [(4.0, None), (0.5, Setting(8, "phase"))])
def test_only_the_most_levels_are_tried_where_noise_hides_the_limit(most: float, chosen: Setting | None) -> None:
    """One box that is not found is 4 points: fewer cannot be told from none, and a choice would be a lucky one."""

    def loss(setting: Setting, quick: bool) -> float:
        return most if setting == Setting(8, "phase") else 4.0

    found = ended(MadeUp(loss, noise=3.9))
    full = [each.setting for each in found.trials if not each.is_quick]
    assert full[1] == Setting(8, "phase") and len(full) <= (2 if chosen is None else 4)
    assert not any(each.setting.left for each in found.trials)
    assert (found.trials[found.chosen].setting if found.chosen is not None else None) == chosen


def test_a_loss_that_noise_does_not_explain_is_searched_to_the_end() -> None:
    found = ended(MadeUp(lambda setting, quick: 0.5 if setting.left else 40.0, noise=3.9))
    assert found.chosen is not None and found.trials[found.chosen].setting.left


@pytest.mark.parametrize(("second", "tried"), [(1.3, [4, 5, 8]), (1.05, [4, 5, 6])], ids=["no help", "help"])
def test_where_more_levels_hardly_help_the_most_are_tried_next(second: float, tried: list[int]) -> None:
    full = {4: 2.4, 5: second, 6: 0.9, 7: 0.9, 8: 0.9}

    def loss(setting: Setting, quick: bool) -> float:
        if setting.coding == "rate" or setting.levels:
            return 9.0
        return min(1.2, full.get(setting.time_steps, 9.0)) if quick else full.get(setting.time_steps, 9.0)

    found = ended(MadeUp(loss, multiplying=0.0))
    made = [each.setting.time_steps for each in found.trials if not each.is_quick and each.setting.coding == "phase"]
    assert made[:3] == tried
    assert found.chosen is not None and found.trials[found.chosen].within


def test_a_look_that_is_ruled_out_in_full_does_not_end_the_search() -> None:
    """T = 3 looked good enough; what T = 4 lost in full says that it is not, and that more levels are needed."""
    quick, full = {5: 0.9, 4: 1.3, 3: 1.6, 2: 7.0}, {4: 1.2, 5: 0.8}

    def loss(setting: Setting, is_quick: bool) -> float:
        if setting.coding == "rate" or setting.levels:
            return 9.0
        return (quick if is_quick else full).get(setting.time_steps, 0.7 if setting.time_steps > 5 else 7.0)

    found = ended(MadeUp(loss, multiplying=0.0))
    assert found.chosen is not None and found.trials[found.chosen].setting == Setting(5, "phase")


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    falls=st.lists(st.floats(0, 0.9), min_size=5, max_size=5),
    looks=st.lists(st.floats(0.3, 3), min_size=16, max_size=16),
    noise=st.sampled_from([0.0, 0.1, 0.3, 1.5]),
    most=st.floats(0.01, 3),
)
def test_a_search_finds_a_network_if_the_most_levels_are_good_enough(
    falls: list[float], looks: list[float], noise: float, most: float
) -> None:
    """Whatever the quick looks say: losses in full fall with the levels, from any size to `most` at 256 levels."""

    def loss(setting: Setting, is_quick: bool) -> float:
        if setting.left:
            return math.inf
        doublings = math.log2(256 / min(setting.levels.values(), default=setting.most_levels))
        steps = [min(max(doublings - 1.6 * place, 0), 1.6) * fall for place, fall in enumerate(falls)]
        lost = most * 4 ** sum(steps) * (1.5 if setting.identity_sites else 1)
        return lost * looks[(setting.time_steps + 8 * (setting.coding == "rate")) % 16] if is_quick else lost

    found = ended(MadeUp(loss, noise=noise))
    assert (found.chosen is not None) == (most <= LIMIT)
    assert found.chosen is None or loss(found.trials[found.chosen].setting, False) <= LIMIT
