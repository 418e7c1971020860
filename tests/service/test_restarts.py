"""Killed, or without room on the disk, whenever something becomes durable: what was promised is kept, once, and whole.

The fast tests are moments between two things that have to agree. The slow ones are moments of all stories: some,
drawn at random, or with --explore 50 all of them, which `python -m benchmarks.service.boundaries` tells as well.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.service.faulty import STORIES, FaultyService
from tests.service.servers import Postgres

ACCEPTED = "INSERT-jobs+INSERT-job_blobs"
STEP = "UPDATE-workflow_status+INSERT-operation_outputs"
SHARD = "UPDATE-workflow_status+INSERT-workflow_status+INSERT-workflow_input+INSERT-operation_outputs"
FINISHED = "UPDATE-jobs+DELETE-job_blobs+INSERT-job_blobs"
CANCELLED = "UPDATE-jobs+DELETE-job_blobs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyService]:
    """One process on SQLite."""
    with FaultyService(tmp_path_factory.mktemp("faulty")) as found:
        yield found


@pytest.fixture
def moments_drawn(request: pytest.FixtureRequest) -> int:
    """How many moments of a story are drawn."""
    return int(request.config.getoption("explore"))


def drawn(moments: list[str], count: int) -> list[str]:
    """Some of these moments, in their order."""
    return [moments[k] for k in sorted(random.sample(range(len(moments)), min(count, len(moments))))]


@pytest.mark.parametrize(
    ("story", "fault"),
    [
        pytest.param("evaluation", f"kill 1 after {ACCEPTED}", marks=pytest.mark.slow),  # accepted, not sent
        pytest.param("sweep", f"kill 1 after {SHARD}", marks=pytest.mark.slow),  # one of two shards is on its queue
        pytest.param(
            "evaluation", f"kill 1 after {FINISHED}", marks=pytest.mark.slow
        ),  # the job is done, its workflow not
        pytest.param("cancelled", f"kill 1 after {CANCELLED}", marks=pytest.mark.slow),  # the engine does not know it
        pytest.param("evaluation", f"full 2 1 before {STEP}", marks=pytest.mark.slow),
        ("upload", "full 2 1 before fsync"),
    ],
)
def test_between_two_things_that_have_to_agree(service: FaultyService, story: str, fault: str) -> None:
    assert service.tell(story, fault), f"{fault} did not come to pass"


def check_some(service: FaultyService, count: int, faults: Sequence[str]) -> None:
    """Try so many moments of every story, each with one of these faults."""
    struck = []
    for story in STORIES:
        for moment in drawn(service.moments(story), count):
            struck += [service.tell(story, f"{random.choice(faults)} {moment}")]
    assert sum(struck) >= len(struck) // 2  # how often events are written differs from run to run


@pytest.mark.slow
def test_at_any_moment(tmp_path: Path, moments_drawn: int) -> None:
    with FaultyService(tmp_path) as service:
        check_some(service, moments_drawn, ["kill", "full 2"])


@pytest.mark.slow
def test_at_any_moment_on_many_machines(postgres: Postgres, tmp_path: Path, moments_drawn: int) -> None:
    with postgres.database() as url, FaultyService(tmp_path, url) as service:
        check_some(service, moments_drawn, ["kill"])
