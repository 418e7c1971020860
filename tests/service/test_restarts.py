"""Killed, or without room on the disk, whenever something becomes durable: what was promised is kept, once, and whole.

The fast tests are moments between two things that have to agree. The slow ones are all moments of all stories, which
`python -m benchmarks.service.boundaries` tells as well.
"""

from collections.abc import Iterator
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


@pytest.mark.parametrize(
    ("story", "fault"),
    [
        pytest.param("evaluation", f"kill 1 after {ACCEPTED}", marks=pytest.mark.slow),  # accepted, not sent
        pytest.param("sweep", f"kill 1 after {SHARD}", marks=pytest.mark.slow),  # one of two shards is on its queue
        ("evaluation", f"kill 1 after {FINISHED}"),  # the job is done, and its workflow not
        pytest.param("cancelled", f"kill 1 after {CANCELLED}", marks=pytest.mark.slow),  # the engine does not know it
        pytest.param("evaluation", f"full 2 1 before {STEP}", marks=pytest.mark.slow),
        ("upload", "full 2 1 before fsync"),
    ],
)
def test_between_two_things_that_have_to_agree(service: FaultyService, story: str, fault: str) -> None:
    assert service.tell(story, fault), f"{fault} did not come to pass"


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("fault", ["kill", "full 2"])
def test_at_every_moment(story: str, fault: str, tmp_path: Path) -> None:
    with FaultyService(tmp_path) as service:
        moments = service.moments(story)
        struck = [service.tell(story, f"{fault} {moment}") for moment in moments]
    assert sum(struck) > 0.8 * len(moments)  # how often events are written differs from run to run


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_at_every_moment_on_many_machines(story: str, postgres: Postgres, tmp_path: Path) -> None:
    with postgres.database() as url, FaultyService(tmp_path, url) as service:
        moments = service.moments(story)
        struck = [service.tell(story, f"kill {moment}") for moment in moments]
    assert sum(struck) > 0.8 * len(moments)
