"""Which setting to try next, when the cheapest one within a loss is wanted and every try is dear.

A rung is a setting with a number of levels and a forecast of its cost. More levels lose less, whatever the code; so a
rung that lost too much rules out all rungs of no more levels, and one that was good enough all that cost no less:

    in play = { r : levels(r) > levels of every failure,  cost(r) < 0.98 · cost of the cheapest success }

The loss of uniform levels falls like the square of the distance between two of them (quantisation noise, Δ²/12):

    drop(levels) ≈ drop₀ · ((levels₀ − 1) / (levels − 1))²        from the try nearest to the limit

The next rung is the cheapest in play that is expected to be good enough, else the one in play with the most levels.
The answer does not depend on anything but the tries so far, so that an interrupted search goes on where it was.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FIRST_LEVELS = 16  # where nothing is known yet
SAVING_WORTH_A_TRY = 0.02  # of the cost: forecasts are no better than that
DROP_OF_NOISE = 0.01  # of the limit: a smaller drop is noise, and says only that there is much room
DROP_WITHIN_NOISE = 0.04  # the same where the noise is larger than the limit, and there may be less room


@dataclass(frozen=True)
class Rung:
    """A setting: T steps of a code, `levels` levels, and the forecast of its cost in any unit."""

    time_steps: int
    coding: str
    levels: int
    cost: float


@dataclass(frozen=True)
class Tried:
    """A rung, how much it lost and what it cost, as measured. within: whether that may be within the limit.

    noise: of the drop, one standard deviation; 0 where it is not known.
    """

    rung: Rung
    drop: float
    cost: float
    within: bool
    noise: float = 0.0


def in_play(rungs: Sequence[Rung], tried: Sequence[Tried]) -> list[Rung]:
    """The rungs that may still be the answer, cheapest first; of equal cost, the one with more levels first.

    Costs of rungs that were not tried are expected by forecasts, and by what was measured of those that were.
    """
    expected = _cost_of(tried)
    failed = max((each.rung.levels for each in tried if not each.within), default=0)
    best = min((each.cost for each in tried if each.within), default=math.inf)
    known = {each.rung for each in tried}
    left = [
        r for r in rungs if r not in known and r.levels > failed and expected(r.cost) < (1 - SAVING_WORTH_A_TRY) * best
    ]
    return sorted(left, key=lambda rung: (rung.cost, -rung.levels, rung.coding))


def next_rung(rungs: Sequence[Rung], tried: Sequence[Tried], limit: float) -> Rung | None:
    """The rung to try next; None where the answer is known: the cheapest one tried that is within the limit, if any.

    rungs: all settings. limit: the largest drop, above 0.
    """
    left = in_play(rungs, tried)
    if not left:
        return None
    wanted = expected_levels(tried, limit)
    return next((rung for rung in left if rung.levels >= wanted), max(left, key=lambda rung: (rung.levels, -rung.cost)))


def expected_levels(tried: Sequence[Tried], limit: float) -> float:
    """The least levels that are expected to keep within the limit, by the try whose drop is nearest to it.

    >>> expected_levels([Tried(Rung(4, "phase", 16, 1.0), 1.0, 1.0, True)], 4.0)
    8.5
    """
    finite = [each for each in tried if math.isfinite(each.drop)]
    if not finite:
        return FIRST_LEVELS if not tried else math.inf
    least = {True: DROP_WITHIN_NOISE * limit, False: DROP_OF_NOISE * limit}
    drops = [(max(each.drop, least[each.noise > limit]), each.rung.levels) for each in finite]
    drop, levels = min(drops, key=lambda each: (abs(math.log(each[0] / limit)), -each[1]))
    return 1 + (levels - 1) * math.sqrt(drop / limit)


def _cost_of(tried: Sequence[Tried]) -> Callable[[float], float]:
    """Forecast cost → expected cost: c = a + b·f, by least squares, since forecasts leave out what is always spent.

    b·f, by the median of c / f, where forecasts of what was tried do not differ, or the line falls. f without any.
    """
    pairs = [(each.rung.cost, each.cost) for each in tried if each.rung.cost > 0 and math.isfinite(each.cost)]
    if not pairs:
        return lambda cost: cost
    forecasts, costs = zip(*pairs, strict=True)
    ratio = statistics.median_high(cost / forecast for forecast, cost in pairs)
    if max(forecasts) <= min(forecasts):
        return lambda cost: ratio * cost
    slope, level = statistics.linear_regression(forecasts, costs)
    return (lambda cost: level + slope * cost) if slope > 0 else lambda cost: ratio * cost
