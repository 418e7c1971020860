"""The Pareto front, by its definition."""

import math

from hypothesis import given
from hypothesis import strategies as st

from graphpass.maths.pareto import front

NUMBERS = st.integers(-3, 3).map(float) | st.floats(allow_infinity=False)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_the_front_beats_all_others_and_no_one_beats_it(points: list[tuple[float, float]]) -> None:
    found = front([cost for cost, _ in points], [value for _, value in points])
    known = [k for k, point in enumerate(points) if not any(map(math.isnan, point))]

    def beats(one: int, other: int) -> bool:
        (cost, value), (theirs, worth) = points[one], points[other]
        return cost <= theirs and value >= worth and (cost, value) != (theirs, worth)

    assert [points[k] for k in found] == sorted(points[k] for k in found)
    assert not any(beats(other, k) for k in found for other in known)
    for k in known:
        assert k in found or any(beats(other, k) or points[other] == points[k] for other in found)
