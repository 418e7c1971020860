"""The timing that benchmarks share."""

import multiprocessing
import time
from contextlib import closing
from functools import partial

import numpy as np
import pytest

from benchmarks.timing import CallTimes, Effort, OtherProcess, alternate, spread


def test_calls_take_turns() -> None:
    order: list[str] = []

    def call(name: str) -> None:
        order.append(name)
        time.sleep(0.005)

    times = alternate({name: partial(call, name) for name in "ab"}, Effort(0.0, 3, 9))
    assert order == [*"aabb", *"ababab"]  # two calls of each before, then turns
    assert times["a"].seconds.shape == (3,) and times["a"].median >= 0.005


def test_a_call_elsewhere_is_timed_there_and_ends_with_its_owner() -> None:
    before = set(multiprocessing.active_children())
    with closing(OtherProcess(partial(partial, time.sleep, 0.01))) as call:
        (process,) = set(multiprocessing.active_children()) - before
        assert 0.02 <= call.take(2) < 1
    process.join(10)
    assert process.exitcode == 0


def test_ratios_are_of_each_round() -> None:
    one, other = CallTimes(np.array([1.0, 2.0, 9.0])), CallTimes(np.array([2.0, 4.0, 3.0]))
    assert one.over(other) == pytest.approx(0.5)
    assert one.ratio(other) == "0.50 (0.50–1.75)"
    assert spread(np.array([123.4])) == "123 (123–123)"
