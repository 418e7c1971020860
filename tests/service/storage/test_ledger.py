"""Quotas hold, also when requests race. On both databases."""

import pytest

from service.errors import (
    LimitError,
    QuotaError,
)
from service.settings import Quota
from service.storage.ledger import Reservation
from service.storage.metadata import Metadata
from service.storage.records import JobRecord, Usage
from tests.service.storage.stored import Blob, digest, job, model, race, release


def test_racing_requests_cannot_pass_the_quota_of_waiting_jobs(metadata: Metadata) -> None:
    found = race(8, lambda number: job(metadata, number, quota=Quota(queued=3)))
    assert sum(isinstance(each, JobRecord) for each in found) == 3
    error = next(each for each in found if isinstance(each, LimitError))
    assert (error.quota, error.limit, error.used) == ("queued", 3, 3)
    assert str(error).startswith("3 jobs are waiting, 1 more would be over the quota of 3; wait")
    assert metadata.keys.usage("acme") == Usage(0, 3, 0, 3)
    assert isinstance(job(metadata, tenant="other", quota=Quota(queued=3)), JobRecord)


def test_racing_jobs_cannot_pass_the_quota_of_running_ones(metadata: Metadata) -> None:
    jobs = [job(metadata, number).id for number in range(6)]
    found = race(6, lambda number: metadata.jobs.start(jobs[number], Quota(running=2)))
    assert sum(isinstance(each, JobRecord) for each in found) == 2
    assert metadata.keys.usage("acme") == Usage(0, 4, 2, 6)
    running = metadata.jobs.list("acme", states=("running",)).rows[0]
    assert metadata.jobs.start(running.id, Quota(running=2)).state == "running"  # a step that is repeated
    metadata.jobs.finish(running.id, "succeeded")
    waiting = metadata.jobs.list("acme", states=("queued",)).rows[0]
    assert metadata.jobs.start(waiting.id, Quota(running=2)).state == "running"


def test_racing_uploads_cannot_pass_the_quota_of_bytes(metadata: Metadata) -> None:
    quota = Quota(bytes=250)
    found = race(6, lambda number: metadata.ledger.reserve("acme", 100, quota))
    rooms = [each for each in found if isinstance(each, Reservation)]
    assert len(rooms) == 2
    error = next(each for each in found if isinstance(each, QuotaError))
    assert (error.quota, error.limit, error.used) == ("bytes", 250, 200)
    with pytest.raises(QuotaError):
        metadata.uploads.create("acme", "model", name="", length=51, metadata={}, quota=quota)
    upload = metadata.uploads.create("acme", "model", name="", length=50, metadata={}, quota=quota)
    assert metadata.keys.usage("acme").bytes == 250
    with pytest.raises(QuotaError):
        rooms[0].need(101)
    metadata.uploads.end("acme", upload.id)
    assert metadata.keys.usage("acme").bytes == 250  # its pieces may be there
    metadata.uploads.forget(upload.id)
    rooms[0].need(101)  # and what there is room for besides
    assert metadata.keys.usage("acme").bytes == 250
    for each in rooms:
        metadata.ledger.release(each.id, lambda digest: None)
    assert metadata.keys.usage("acme").bytes == 0


def test_racing_growth_cannot_pass_the_quota_of_bytes(metadata: Metadata) -> None:
    """This is about bodies that do not say how long they are."""
    quota = Quota(bytes=250)
    rooms = [metadata.ledger.reserve("acme", 0, quota) for _ in range(6)]
    found = race(6, lambda number: rooms[number].need(100))
    assert sum(isinstance(each, QuotaError) for each in found) == 5  # the first takes more than it needs
    assert sorted(room.granted for room in rooms) == [0, 0, 0, 0, 0, 250]
    assert metadata.keys.usage("acme").bytes == 250


def test_bytes_are_those_of_blobs_uploads_and_reservations(metadata: Metadata, blob: Blob) -> None:
    model(metadata, blob("a"))
    made = job(metadata, inputs={"model": blob("a")}, reserved=1000)
    assert metadata.keys.usage("acme").bytes == 1100
    metadata.jobs.finish(made.id, "succeeded", artifacts={"one": blob("b"), "two": blob("c"), "same": blob("a")})
    assert metadata.keys.usage("acme").bytes == 300
    upload = metadata.uploads.create("acme", "dataset", name="", length=100, metadata={})
    assert metadata.keys.usage("acme").bytes == 400
    metadata.uploads.append("acme", upload.id, 0, "part", 100)
    metadata.uploads.complete("acme", upload.id, blob("d"))
    assert metadata.keys.usage("acme").bytes == 400
    release(metadata)
    assert metadata.ledger.unreferenced(10) == ()
    made, _ = metadata.objects.create("acme", "dataset", name="", digest=digest("d"), media="", description={})
    assert metadata.keys.usage("acme").bytes == 400 and metadata.uploads.get("acme", upload.id).sha256 == digest("d")
    metadata.objects.delete("acme", made.id)
    assert metadata.ledger.unreferenced(10) == (("acme", digest("d")),)  # the upload does not keep them any more
    assert metadata.keys.usage("other") == Usage(0, 0, 0, 0)
