"""The siege, small: beside a hostile tenant the well-behaved one is served, and memory stays within its bound.

How long it takes, and until all has recovered, is measured by `python -m benchmarks.service.siege`.
"""

from pathlib import Path

import pytest

from benchmarks.service.siege.hostile import ATTACKS
from benchmarks.service.siege.measure import Neighbour, siege
from tests.service.running import Server

SECONDS = 15.0


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["half-requests", "stalled-patches", "slow-readers", "lists"])
def test_a_neighbour_is_served_beside_a_hostile_tenant(attack: str, tmp_path: Path) -> None:
    assert attack in ATTACKS
    with Server(tmp_path, RATE_PER_MINUTE="") as server, server.as_tenant("neighbour") as client:
        key = server.new_key("hostile")
        neighbour = Neighbour(client)
        neighbour.rounds(3)
        row = siege(server, attack, neighbour, key, SECONDS)
        assert row.broken(timed=False) == [], row.text()
