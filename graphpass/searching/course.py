"""The course of a search: which setting is tried next.

    levels            T and code, alike at all sites: the cheapest that is good enough (maths/choosing.py)
    levels of sites   fewer where the outputs need them least, as far as the loss allows
    identity sites    neurons in front of layers that still multiply, if these make a tenth of the operations or more
    analogue sites    only where nothing is good enough: the sites that the outputs need most stay analogue

Where there is data enough, all of these are quick looks: converted from a quarter of the calibration data, and judged
on a quarter of the other (searching/looks.py). Then the cheapest that may be good enough is converted in full, and the
next one if it is not. Where the noise of such a loss is larger than the limit and explains it, only the setting with
the most levels is tried then.

Each step follows from the trials so far, and from facts of the network that are measured once: a forecast of costs, and
how much the outputs need the levels of each site (calibration/forecast.py).
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.forecast import Forecast, Seen, forecast, gains, see
from graphpass.calibration.sensitivity import Sensitivity
from graphpass.conversion import Conversion, convert
from graphpass.errors import FormError
from graphpass.evaluation.drop import drop_of
from graphpass.evaluation.results import Evaluation
from graphpass.evaluation.shards import merge
from graphpass.forms.integer.targets import TARGETS
from graphpass.maths.allocation import cheapest, ladder, steps_needed
from graphpass.maths.choosing import Rung, next_rung
from graphpass.maths.neuron import LARGEST_COUNT, levels_of
from graphpass.network import Network, own_time_steps, selected, with_identity_sites
from graphpass.progress import Progress, silent
from graphpass.runtime.session import fixed_batch, input_specs
from graphpass.searching.costs import rough_energy
from graphpass.searching.looks import SAVING_WORTH_IT, doubt, doubtful, latest, quick_looks, quick_options, worth_it
from graphpass.searching.trials import QUICK, Found, Goal, Setting, Trial
from graphpass.series import Series
from graphpass.sites.sites import exactly

STEPS = {"rate": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192), "phase": (1, 2, 3, 4, 5, 6, 7, 8)}
MOST_STEPS = 32  # where no other number is given
SAME_TIME = 0.05  # of a latency: less is noise
MARGIN = 0.8  # of the error that the limit allows: what a forecast for single sites may use up
LEAST_UNIFORM_DROP = 0.05  # of the limit: what a setting with equal levels is taken to lose at least
MULTIPLYING = 0.1  # of the operations: fewer in layers without spikes are not worth a trial
FAILURES = 3  # in full, of T and codes: then the most levels are tried, since more levels help less than expected
HELPS = 0.5  # of a loss in full: if more is left with more levels, they help less than expected, too
LEAVINGS = 2  # trials with sites left analogue
DEMANDING = 3  # sites that are named
LEAST_SPIKING = 1e-3  # of the operations
LEAST_ENERGY = 1e-3  # pJ: of networks that never spike


class Course:
    """The course of a search: which trial comes next, and the facts that this depends on."""

    def __init__(
        self,
        conversions: Series,
        goal: Goal,
        options: CalibrationOptions,
        form: str,
        target: str,
        progress: Progress = silent,
    ):
        self._series, self._goal, self._progress = conversions, goal, progress
        self._options = replace(options, exact_padding=form == "integer", levels={})
        self._metric, self._target = conversions.evaluation.metrics.first, TARGETS[target]
        if goal.minimise == "latency" and form == "unrolled":  # its time follows T
            self._goal = replace(goal, minimise="time-steps")
        self._quick = None if goal.minimise == "latency" else quick_looks(conversions, self._options)
        self._identity = conversions.network.selection.identity_sites
        self._held = math.inf  # cost of the trial whose plan is held
        self._facts: dict[str, str] = {}
        self._networks: dict[tuple[bool, tuple[str, ...]], Network] = {
            (self._identity, ()): conversions.network,
        }

    def next(self, trials: Sequence[Trial]) -> tuple[str, Setting] | None:
        """The stage and the setting of the next trial; None where the search has ended."""
        known = latest(trials)
        full = [each for each in trials if not each.is_quick]
        if full and not any(each.within for each in full):
            by_chance, most = self._is_left_to_chance(full), self._most_levels(full)
            if by_chance or (most and _is_stuck(full)):  # only many more levels may help
                return most
        step = self._levels(known, ())
        if step is None and (look := doubtful(known)) is not None:  # nothing looks good enough: is that so?
            return look.purpose, look.setting
        if (step := step or self._more(known)) is not None:
            stage, setting = step
            return (f"{QUICK}{stage}" if self._quick else stage), setting
        if (look := worth_it(known, self._goal.max_drop)) is not None:
            return look.purpose, look.setting
        return None

    def _more(self, trials: Sequence[Trial]) -> tuple[str, Setting] | None:
        """What to try where no T and code is left to try. trials: in full or quick, each setting once."""
        if not any(each.within for each in trials):
            return self._leave(trials)
        best = _cheapest(trials)
        if best.setting.left and (step := self._levels(trials, best.setting.left)) is not None:
            return step
        if self._noise(best) > self._goal.max_drop:  # what is best would be chance
            return None
        return self._sites(trials) or self._identities(trials)

    def _is_left_to_chance(self, failed: Sequence[Trial]) -> bool:
        """Whether trials in full may have lost too much only because the noise is larger than the limit."""
        limit, drop = self._goal.max_drop, min((each.drop for each in failed), key=lambda drop: drop.value)
        return limit < (drop.noise or 0.0) >= drop.value - limit

    def _most_levels(self, failed: Sequence[Trial]) -> tuple[str, Setting] | None:
        """The setting with the most levels, in full; None where it is among the trials in full that lost too much."""
        rung = max(self._rungs([]), key=lambda each: (each.levels, -each.cost))
        setting = self._setting(rung)
        return None if any(each.setting == setting for each in failed) else ("levels", setting)

    def _noise(self, trial: Trial) -> float:
        """Of the loss in full, where it is known."""
        judged = self._quick.evaluation.every if self._quick and trial.is_quick else 1
        return (trial.drop.noise or 0.0) / math.sqrt(judged)

    def trial(self, stage: str, setting: Setting) -> Trial:
        """Convert and judge a setting."""
        began, quick = time.perf_counter(), stage.startswith(QUICK) and self._quick
        conversions = (quick or self._series).of(self.network(setting))
        options = self.options(setting)
        part = conversions.part(quick_options(options) if quick else options, self._progress)
        found = merge([part])
        drop, done = drop_of(found, self._metric), found.operations.snn
        made = Trial(
            stage,
            setting,
            drop,
            drop.value - (doubt(drop) if quick else 0.0) <= self._goal.max_drop,
            self._cost(found),
            found.total_energy_snn,
            found.total_energy_ratio,
            done.effective_macs / max(done.effective_macs + done.effective_acs, 1.0),
            found.firing_rate,
            time.perf_counter() - began,
        )
        if made.within and not quick and made.cost < self._held:  # it may be the one that is chosen
            self._held = made.cost
            conversions.hold(options)
        return made

    def ended(self, trials: Sequence[Trial]) -> Found:
        """The search so far, without a conversion."""
        full = [place for place, trial in enumerate(trials) if not trial.is_quick]
        good, goal = [place for place in full if trials[place].within], self._goal
        best = min(full, key=lambda k: (trials[k].drop.value, trials[k].cost))
        if good:
            chosen = min(good, key=lambda k: (trials[k].cost, trials[k].drop.value))
            if goal.minimise == "latency":
                equal = [k for k in good if trials[k].cost <= (1 + SAME_TIME) * trials[chosen].cost]
                chosen = min(equal, key=lambda k: (trials[k].setting.time_steps, trials[k].drop.value))
            reason = f"no cheaper setting is expected to lose at most {goal.max_drop:g} {trials[chosen].drop.unit}"
            return Found(goal, tuple(trials), chosen, best, reason)
        reason = (
            f"no setting lost at most {goal.max_drop:g} {trials[best].drop.unit}; the least was {trials[best].drop}"
        )
        ranked = self._demanding(trials[best].setting)
        total = sum(error for _, error in ranked) or 1.0
        names = tuple(name for name, _ in ranked[:DEMANDING])
        shares = {name: error / total for name, error in ranked}
        return Found(goal, tuple(trials), None, best, reason, demanding=names, shares=shares)

    def converted(self, setting: Setting, form: str, precision: str, target: str, allow_partial: bool) -> Conversion:
        """The network of a setting, in a form and a precision, for a target."""
        network, options = self.network(setting), self.options(setting)
        plan = self._series.of(network).plan(options, self._progress, repeat=True)  # of what is kept
        return convert(
            network,
            self._series.calibration,
            plan=plan,
            form=form,
            precision=precision,
            target=target,
            allow_partial=allow_partial,
            options=options,
        )

    @property
    def facts(self) -> Mapping[str, str]:
        """What was measured of the network so far, to be given to the same search in another process."""
        return dict(self._facts)

    def give(self, facts: Mapping[str, str]) -> None:
        """Facts that another process measured."""
        for key, text in facts.items():
            self._series.kept.give(key, text)

    def options(self, setting: Setting) -> CalibrationOptions:
        """How the setting is calibrated."""
        levels = dict(setting.levels)
        return replace(self._options, time_steps=setting.time_steps, coding=setting.coding, levels=levels)

    def network(self, setting: Setting) -> Network:
        """The network with the setting's sites."""
        key = setting.identity_sites or self._identity, setting.left
        if key not in self._networks:
            known = self._series.network
            left = tuple(map(exactly, setting.left))
            selection = replace(known.selection, identity_sites=key[0], exclude=(*known.selection.exclude, *left))
            self._networks[key] = selected(known, selection)
        return self._networks[key]

    def _cost(self, found: Evaluation) -> float:
        return {
            "energy": found.total_energy_snn,
            "time-steps": float(found.conversion.time_steps),
            "latency": found.latency.snn.median,
        }[self._goal.minimise]

    def _levels(self, trials: Sequence[Trial], left: tuple[str, ...]) -> tuple[str, Setting] | None:
        uniform = [each for each in trials if each.setting.is_uniform and each.setting.left == left]
        alike = [each for each in uniform if each.setting.identity_sites == self._identity]
        rungs = {(rung.time_steps, rung.coding): rung for rung in self._rungs(alike)}
        known = [each.tried(rungs[each.setting.time_steps, each.setting.coding]) for each in alike]
        rung = next_rung(list(rungs.values()), known, self._goal.max_drop)
        if rung is None:
            return None
        return "levels", replace(self._setting(rung), left=left)

    def _setting(self, rung: Rung) -> Setting:
        return Setting(rung.time_steps, rung.coding, identity_sites=self._identity)

    def _rungs(self, trials: Sequence[Trial]) -> list[Rung]:
        """Every T and code with a forecast of its cost: energy, or T, which the time of explicit steps follows.

        trials: with the same sites; what layers without spikes take does not depend on T and code. More levels than a
        QCFS network has lose more than its own, which lose nothing.
        """
        codings, most = self._goal.codings, self._goal.most_steps or MOST_STEPS
        own = own_time_steps(self._series.network, "rate")
        steps = {"rate": {*STEPS["rate"], min(most, own or max(STEPS["rate"]))}, "phase": STEPS["phase"]}
        pairs = [(each, coding) for coding in codings for each in sorted(steps[coding]) if each <= most]
        if len(codings) > 1:
            pairs.remove((1, "rate"))  # a single step is the same in every code
        limit = (own or LARGEST_COUNT) + 1
        pairs = [pair for pair in pairs if levels_of(*pair) <= limit and self._has_levels(levels_of(*pair))]
        always = 0.0
        if trials and self._goal.minimise == "energy":
            first = trials[0]
            spiking = max(1 - first.multiplying, LEAST_SPIKING)
            always = self._expected(first.setting.time_steps, first.setting.coding) * first.multiplying / spiking
        return [
            Rung(steps, coding, levels_of(steps, coding), always + self._expected(steps, coding))
            for steps, coding in pairs
        ]

    def _has_levels(self, levels: int) -> bool:
        """Whether the target can have so many."""
        try:
            self._target.require_levels({"": levels})
        except FormError:
            return False
        return True

    def _expected(self, steps: int, coding: str) -> float:
        if self._goal.minimise != "energy":
            return float(steps)
        return max(self._forecast.energy(levels_of(steps, coding), coding), LEAST_ENERGY)

    @cached_property
    def _forecast(self) -> Forecast:
        """What levels do to each site, and cost."""
        return Forecast.from_text(self._fact("forecast", lambda: forecast(self._seen, self._progress).to_text()))

    @cached_property
    def _gains(self) -> list[float]:
        """How much the outputs suffer from what levels do to each site."""

        def make() -> str:
            return json.dumps(gains(self._seen, self._forecast, self._progress))

        found: list[float] = json.loads(self._fact("gains", make))
        return found

    @cached_property
    def _seen(self) -> Seen:
        known, network = self._series, self._series.network
        fixed = fixed_batch(input_specs(network.source))
        return see(network.graph, network.coverage, known.calibration, self._options, fixed)

    def _sensitivity(self, setting: Setting) -> Sensitivity:
        """How much the outputs need the levels of each site of a setting without identity sites of its own."""
        rungs = ladder(setting.time_steps, setting.coding)
        sites = [site.name for site in self.network(setting).coverage.sites]
        return self._forecast.sensitivity(rungs, setting.coding, self._gains, sites)

    def _fact(self, kind: str, make: Callable[[], str], options: CalibrationOptions | None = None) -> str:
        key = self._series.key(kind, options or self._options)
        self._facts[key] = text = self._series.kept.text(key, make)
        return text

    def _sites(self, trials: Sequence[Trial]) -> tuple[str, Setting] | None:
        """Fewer levels where the outputs need them least, once: within the error that the limit allows.

        The loss follows the error of the outputs, which is the sum of those that the sites cause:  E ≤ m·E₀·limit/drop₀
        with E₀ and drop₀ of the uniform trial whose drop is nearest to the limit, and a margin m.
        """
        stage = "levels of sites"
        best = _cheapest(trials)
        done = any(each.purpose == stage for each in trials) or best.setting.identity_sites != self._identity
        if self._goal.minimise != "energy" or done:
            return None
        steps, coding, limit = best.setting.time_steps, best.setting.coding, self._goal.max_drop
        most = 1 - self._forecast.energy(2, coding) / self._forecast.energy(levels_of(steps, coding), coding)
        if (1 - best.multiplying) * most < SAVING_WORTH_IT:  # not worth measuring
            return None
        known = self._sensitivity(best.setting)
        alike = [
            each for each in trials
            if each.setting.is_uniform and each.setting.coding == best.setting.coding
            and each.setting.identity_sites == best.setting.identity_sites
            and each.setting.left == best.setting.left and each.setting.time_steps <= best.setting.time_steps
        ]  # fmt: skip
        alike = [each for each in alike if not each.is_quick] or alike  # a look loses more
        lost = [max(each.drop.value / limit, LEAST_UNIFORM_DROP) for each in alike]
        nearest = min(range(len(alike)), key=lambda k: abs(math.log(lost[k])))
        rung = known.rungs.index(alike[nearest].setting.most_levels)
        allowed = MARGIN * float(known.errors[:, rung].sum()) / lost[nearest]
        choice = cheapest(known.errors, known.costs, allowed)
        spared = 1 - known.costs[range(len(choice)), choice].sum() / max(known.costs[:, -1].sum(), LEAST_ENERGY)
        if (1 - best.multiplying) * spared < SAVING_WORTH_IT:
            return None
        levels = {name: known.rungs[place] for name, place in zip(known.sites, choice, strict=True)}
        steps = max(steps_needed(count, best.setting.coding) for count in levels.values())
        return stage, replace(best.setting, time_steps=steps, levels=levels)

    def _identities(self, trials: Sequence[Trial]) -> tuple[str, Setting] | None:
        """Identity sites, once, if layers that multiply take much of the energy of the best trial."""
        stage = "identity sites"
        best = _cheapest(trials)
        tried = self._identity or any(each.purpose == stage for each in trials)
        if self._goal.minimise != "energy" or tried or best.multiplying < MULTIPLYING:
            return None
        if best.setting.left or with_identity_sites(self.network(best.setting)) is None:
            return None
        setting = replace(best.setting, identity_sites=True)
        if self._rough_energy(setting) > (1 - SAVING_WORTH_IT) * best.cost:
            return None
        return stage, setting

    def _rough_energy(self, setting: Setting) -> float:
        """pJ a sample, with identity sites, before the setting is calibrated."""
        conversions, options = (self._quick or self._series).of(self.network(setting)), self.options(setting)
        return float(self._fact("rough energy", lambda: repr(rough_energy(conversions, options)), options))

    def _leave(self, trials: Sequence[Trial]) -> tuple[str, Setting] | None:
        """With nothing good enough: the sites that the outputs need most stay analogue, then twice as many.

        As many as are expected to take away enough error, and at most half of all.
        """
        stage = "analogue sites"
        tried = [each for each in trials if each.purpose == stage]
        if len(tried) == LEAVINGS:
            return None
        base = [each for each in trials if not each.setting.left]
        best = min(base, key=lambda each: (each.drop.value, each.cost))
        ranked = self._demanding(best.setting)
        total, wanted, count = sum(error for _, error in ranked), self._goal.max_drop / best.drop.value, 0
        left = total
        while count < len(ranked) // 2 and (not count or left > wanted * total):
            left -= ranked[count][1]
            count += 1
        count = min(count * 2 ** len(tried), len(ranked) // 2)
        names = tuple(name for name, _ in ranked[:count])
        if not names or any(names == each.setting.left for each in tried):
            return None
        return stage, replace(best.setting, left=names)

    def _demanding(self, setting: Setting) -> list[tuple[str, float]]:
        """Sites by the error of the outputs with neurons at that site alone, largest first; identity sites are not
        among them where they are only tried.
        """
        known = self._sensitivity(replace(setting, identity_sites=self._identity, left=(), levels={}))
        return sorted(zip(known.sites, known.errors[:, -1].tolist(), strict=True), key=lambda each: -each[1])


def _is_stuck(failed: Sequence[Trial]) -> bool:
    """Whether more levels helped less than expected in trials that lost too much in full, in order."""
    lost = [each.drop.value for each in failed if each.setting.is_uniform and not each.setting.left]
    return len(lost) >= FAILURES or (len(lost) > 1 and lost[-1] > HELPS * lost[-2])


def _cheapest(trials: Sequence[Trial]) -> Trial:
    """Of the trials within the limit."""
    return min((each for each in trials if each.within), key=lambda each: each.cost)
