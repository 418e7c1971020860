"""benchmarks/service/simulate.py against what is known of queues."""

import math
import random

import pytest

from benchmarks.service.simulate import Costs, Machines, poisson, simulate


def erlang_c(servers: int, load: float) -> float:
    """The probability that all servers are busy at an arrival (M/M/c). load: arrivals · service time < servers."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


@pytest.mark.parametrize(("workers", "places"), [(1, 1), (2, 1), (2, 2)])
def test_waits_are_those_of_the_formula_of_erlang(workers: int, places: int) -> None:
    chance, seconds, servers = random.Random(1), 2.0, workers * places
    load = 0.7 * servers
    found = simulate(
        poisson(load / seconds, 100_000, chance),
        lambda: chance.expovariate(1 / seconds),
        Machines(workers=workers, places=places),
        Costs(),
        chance,
    )
    expected = erlang_c(servers, load) * seconds / (servers - load)
    mean = sum(found.waits) / len(found.waits)
    assert mean == pytest.approx(expected, rel=0.05)  # 100,000 waits that depend on one another: some 2 % of error
    assert found.busy["places"] == pytest.approx(0.7, rel=0.02)


def test_every_part_takes_its_time() -> None:
    costs = Costs(api=1.0, database=2.0, stored=300.0)
    machines = Machines(apis=1, workers=1, places=1, database_cores=2, store_bytes_per_second=100.0)
    found = simulate(poisson(0.001, 2000, random.Random(2)), lambda: 4.0, machines, costs, random.Random(3))
    assert sum(found.totals) / len(found.totals) == pytest.approx(1 + 2 + 4 + 3, rel=0.05)  # hardly any waits
    assert found.busy["database"] == pytest.approx(found.busy["API"], rel=0.1)  # twice the work on two cores


def test_arrivals_beyond_the_places_wait_for_ever_longer() -> None:
    found = simulate(poisson(1.0, 1000, random.Random(4)), lambda: 4.0, Machines(), Costs(), random.Random(5))
    simply_enough = simulate(poisson(1.0, 1000, random.Random(4)), lambda: 3.0, Machines(), Costs(), random.Random(5))
    overloaded = simulate(poisson(1.0, 1000, random.Random(4)), lambda: 8.0, Machines(), Costs(), random.Random(5))
    assert max(simply_enough.waits) < max(found.waits) < max(overloaded.waits)
    assert overloaded.busy["places"] > 0.99
    assert overloaded.waits[-1] == pytest.approx(1000 * (8.0 / 4 - 1), rel=0.1)
