"""What is worth its cost: the Pareto front."""

import math
from collections.abc import Sequence


def front(costs: Sequence[float], values: Sequence[float]) -> tuple[int, ...]:
    """The places, with rising cost, that no other one beats: one that costs no more and is worth no less.

    costs: the lower the better; values: the higher the better; a place with NaN is left out. Of equal places the first
    is on the front.

    >>> front([1, 2, 3, 2], [0.5, 0.9, 0.8, 0.7])
    (0, 1)
    """
    known = [k for k in range(len(costs)) if not (math.isnan(costs[k]) or math.isnan(values[k]))]
    best, found = -math.inf, []
    for place in sorted(known, key=lambda k: (costs[k], -values[k], k)):
        if values[place] > best:
            best = values[place]
            found.append(place)
    return tuple(found)
