"""Pace: who keeps to the rate is never late, who stalls is late after S seconds; earlier bytes buy no more than S."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.connections.pace import Pace

SECONDS, RATE = 20.0, 1000.0


def late_after(pace: Pace, rate: float, since: float = 0.0, moved: int = 0, within: int = 10_000) -> float:
    """After how many seconds a transfer of this rate is too slow, looked at once a second."""
    for second in range(1, within):
        if not pace.move(since + second, moved + int(rate * second)):
            return second
    return math.inf


@given(st.floats(RATE + 1, 1e9))
def test_who_keeps_to_the_rate_is_never_late(rate: float) -> None:
    assert late_after(Pace(SECONDS, RATE, 0.0), rate, within=200) == math.inf


@pytest.mark.parametrize("rate", [0.0, 100.0, 500.0, 900.0])
def test_a_slow_one_is_late_after_the_time_of_the_formula(rate: float) -> None:
    expected = SECONDS / (1 - rate / RATE)
    assert expected - 1e-6 <= late_after(Pace(SECONDS, RATE, 0.0), rate) <= expected + 1.1  # looked at once a second


@given(st.integers(0, 10**12))
def test_bytes_of_before_buy_no_more_than_the_credit(burst: int) -> None:
    pace = Pace(SECONDS, RATE, 0.0)
    assert pace.move(1.0, burst)
    assert late_after(pace, 0.0, 1.0, burst) <= SECONDS + 1


def test_waiting_for_this_side_is_not_charged() -> None:
    pace = Pace(SECONDS, RATE, 0.0)
    pace.wait(1000.0, 5)
    assert pace.move(1000.0 + SECONDS, 5) and not pace.move(1001.0 + SECONDS, 5)


def test_a_rate_of_nothing_is_no_bound() -> None:
    assert late_after(Pace(SECONDS, 0, 0.0), 0.0) == math.inf
