"""How many levels each site gets: the least output error within a budget.

    minimise Σ_s E[s, k_s]   subject to   Σ_s C[s, k_s] ≤ B        k_s: a rung of the ladder of levels, for every site s

E[s, k]: error at the network's output when site s alone has the levels of rung k; C[s, k]: what that costs. Greedy on
the lower convex hull of each site's points (C, E), which is where the Lagrangian min Σ E + λ·C can lie: from the
cheapest rungs, always the step with the largest fall of error for its cost, until one does not fit. Equal rungs at all
sites are kept where they have less error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import OptionError
from graphpass.maths.neuron import levels_of

Array = NDArray[Any]
Integers = NDArray[np.int64]

DEFAULT_ENERGY = 0.5
HALVINGS = 30  # of the budgets between the least and the most


@dataclass(frozen=True)
class Auto:
    """Levels of each site by how much the outputs need them, within one of two budgets.

    energy: of the additions that the sites' spikes cause, as a share of what all levels of T at every site take, above
    0 and up to 1; 0.5 where neither is given. mean_levels: mean over all neurons, from 2 up.
    """

    energy: float | None = None
    mean_levels: float | None = None

    def __post_init__(self) -> None:
        if self.energy is not None and self.mean_levels is not None:
            raise OptionError("a budget of energy and one of mean levels exclude each other", "give one of them")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise OptionError(
                f"an energy budget of {self.energy}", "give a share of uniform levels' energy above 0, 1 at most"
            )
        if self.mean_levels is not None and not self.mean_levels >= 2:
            raise OptionError(f"a mean of {self.mean_levels} levels", "give 2 or more")


def auto_of(levels: str | None, energy: float | None = None, mean_levels: float | None = None) -> Auto | None:
    """What the options of these names ask for: None without levels. Raises OptionError for other levels than `auto`."""
    if levels not in (None, "auto"):
        raise OptionError(f"levels {levels[:80]!r}", "give auto, or leave it out: T then gives all sites the same")
    if levels is None and (energy is not None or mean_levels is not None):
        raise OptionError("an energy or mean levels without levels auto, whose budget they are", "give that, too")
    return Auto(energy, mean_levels) if levels else None


def levels_text(levels: Sequence[int], neurons: Sequence[int] | None = None, unit: str = "") -> str:
    """Levels of sites in a few words: those that all have, or the least and the most, and the mean over neurons.

    >>> levels_text([9, 9], unit=" levels"), levels_text([5, 13, 9], [10, 20, 10]), levels_text([5, 13])
    ('9 levels', '5–13, mean 10.0', '5–13')
    """
    if len(set(levels)) == 1:
        return f"{levels[0]}{unit}"
    mean = f", mean {np.average(levels, weights=neurons):.1f}" if neurons and sum(neurons) else ""
    return f"{min(levels)}–{max(levels)}{unit}{mean}"


def ladder(time_steps: int, coding: str) -> tuple[int, ...]:
    """The levels that sites may have, ascending: counts up to 1, 2, 3, 4, 6, 8, 12, 16 … T (rate), 2^t levels (phase).

    >>> ladder(8, "rate"), ladder(3, "phase")
    ((2, 3, 4, 5, 7, 9), (2, 4, 8))
    """
    most = levels_of(time_steps, coding)
    if coding == "phase":
        return tuple(2**bits for bits in range(1, time_steps + 1))
    counts = {1, *(step << octave for octave in range(8) for step in (2, 3))}
    return tuple(sorted({count + 1 for count in counts if count + 1 < most} | {most}))


def steps_needed(levels: int, coding: str) -> int:
    """The least T whose trains carry so many levels.

    >>> steps_needed(9, "rate"), steps_needed(9, "phase")
    (8, 4)
    """
    return levels - 1 if coding == "rate" else (levels - 1).bit_length()


def spikes_of(counts: Array, coding: str) -> Integers:
    """Spikes in the train of each count: n (rate), its binary digits that are 1 (phase). uint8 [...] → int64 [...]."""
    if coding == "rate":
        return counts.astype(np.int64)
    return np.bitwise_count(counts).astype(np.int64)


def allocate(errors: Array, costs: Array, budget: float) -> Integers:
    """The rung of every site, int64 [S].

    errors, costs: E and C, float64 [S, K], of rungs from cheap to dear. Σ C of the result is at most the budget; its
    Σ E is at most that of any rung at all sites that fits, and does not rise with the budget. Costs that fall from
    one rung to the next, and errors that rise, are allowed: such rungs are not taken by the greedy steps.
    Raises OptionError where the cheapest rungs cost more than the budget.
    """
    sites = np.arange(len(costs))
    choice: Integers = costs.argmin(1)
    spent = float(costs[sites, choice].sum())
    if spent > budget:
        raise OptionError("the budget is below the cost of the fewest levels at every site", "give a larger one")
    for _, site, rung in sorted(_upgrades(errors, costs)):
        price = float(costs[site, rung] - costs[site, choice[site]])
        if spent + price > budget:
            break
        spent += price
        choice[site] = rung
    held = float(errors[sites, choice].sum())
    fitting = np.flatnonzero(costs.sum(0) <= budget)
    if len(fitting):
        uniform = fitting[errors[:, fitting].sum(0).argmin()]
        if errors[:, uniform].sum() < held:
            return np.full(len(costs), uniform)
    return choice


def cheapest(errors: Array, costs: Array, allowed: float) -> Integers:
    """The rung of every site, int64 [S], of least Σ C with Σ E ≤ allowed, as `allocate` deals out budgets.

    The dearest rungs where not even these err so little.
    """
    low, high = float(costs.min(1).sum()), float(costs.max(1).sum())
    sites, found = np.arange(len(costs)), np.full(len(costs), costs.shape[1] - 1)
    for _ in range(HALVINGS):
        budget = (low + high) / 2
        choice = allocate(errors, costs, budget)
        if errors[sites, choice].sum() <= allowed:
            found, high = choice, budget
        else:
            low = budget
    return found


def _upgrades(errors: Array, costs: Array) -> list[tuple[float, int, int]]:
    """(−fall of error for its cost, site, rung): the steps along each site's hull, steepest first."""
    found = []
    for site, (error, cost) in enumerate(zip(errors, costs, strict=True)):
        at = int(cost.argmin())
        while True:
            dearer = np.flatnonzero((cost > cost[at]) & (error < error[at]))
            if not len(dearer):
                break
            slopes = (error[at] - error[dearer]) / (cost[dearer] - cost[at])
            best = np.flatnonzero(slopes == slopes.max())[-1]
            at = int(dearer[best])
            found.append((-float(slopes[best]), site, at))
    return found
