"""Jobs of tenants: states, parts, and keys of requests that are sent again. On both databases."""

import pytest

from service.errors import (
    ConflictError,
    IdempotencyError,
    NotFoundError,
    StateError,
    StorageUnavailableError,
)
from service.settings import Quota
from service.storage.metadata import Metadata
from service.storage.records import JobRecord
from tests.service.storage.stored import NOW, Blob, job, model, race, release


def test_a_job_goes_through_its_states_once(metadata: Metadata, blob: Blob) -> None:
    model(metadata, blob("a"))
    made = job(metadata, inputs={"model": blob("a")})
    assert (made.state, made.inputs, made.started) == ("queued", {"model": blob("a")}, None)
    running = metadata.jobs.start(made.id)
    assert running.state == "running" and running == metadata.jobs.start(made.id)
    assert metadata.jobs.unfinished() == (running,)
    result, artifacts = {"accuracy": 0.5}, {"snn.onnx": blob("b"), "plan.json": blob("c")}
    done = metadata.jobs.finish(made.id, "succeeded", result=result, artifacts=artifacts, expires=NOW)
    assert (done.state, done.result, done.artifacts, done.inputs) == ("succeeded", result, artifacts, {})
    assert done.created <= done.started <= done.finished
    assert metadata.jobs.finish(made.id, "failed", error={"type": "internal"}) == done
    assert metadata.jobs.start(made.id) == done == metadata.jobs.get("acme", made.id)
    assert metadata.jobs.unfinished() == ()
    assert metadata.jobs.list("acme").rows[0].result is None
    assert metadata.jobs.counts() == {("conversion", "succeeded"): 1}
    metadata.jobs.delete("acme", made.id)
    with pytest.raises(NotFoundError):
        metadata.jobs.get("acme", made.id)


def test_a_job_that_is_not_finished_cannot_be_deleted(metadata: Metadata) -> None:
    made = job(metadata)
    with pytest.raises(StateError, match="is queued; cancel it first"):
        metadata.jobs.delete("acme", made.id)
    assert metadata.jobs.finish(made.id, "cancelled").started is None
    metadata.jobs.delete("acme", made.id)


def test_unknown_jobs_cannot_be_started_or_finished(metadata: Metadata) -> None:
    id = "con_" + "0" * 26
    for call in (lambda: metadata.jobs.start(id), lambda: metadata.jobs.finish(id, "failed")):
        with pytest.raises(NotFoundError):
            call()


def test_an_artifact_of_one_job_is_an_input_of_the_next(metadata: Metadata, blob: Blob) -> None:
    first = job(metadata)
    metadata.jobs.finish(first.id, "succeeded", artifacts={"snn.onnx": blob("s")})
    assert job(metadata, inputs={"snn": blob("s")}).inputs == {"snn": blob("s")}
    with pytest.raises(NotFoundError, match="the ann of the job is no longer there"):
        job(metadata, inputs={"snn": blob("s"), "ann": blob("t")})


def test_parts_of_a_result_are_pinned_until_the_end(metadata: Metadata, blob: Blob) -> None:
    made = job(metadata)
    blob_1 = blob("1")
    metadata.jobs.pin(made.id, {"shard 0": blob("0"), "shard 1": blob_1})
    metadata.jobs.pin(made.id, {"shard 1": blob("2")})
    release(metadata)
    assert metadata.ledger.unreferenced(10) == (("acme", blob_1),)
    metadata.ledger.collect("acme", blob_1, lambda digest: None)
    assert metadata.keys.usage("acme").bytes == 200
    with pytest.raises(StorageUnavailableError):
        metadata.jobs.pin(made.id, {"shard 2": "f" * 64})
    metadata.jobs.finish(made.id, "succeeded")
    metadata.jobs.pin(made.id, {"shard 3": blob("3")})
    release(metadata)
    unused = metadata.ledger.unreferenced(10)
    assert unused == metadata.ledger.unreferenced(10, "acme") and len(unused) == 3
    for charge in unused:
        metadata.ledger.collect(*charge, lambda digest: None)
    assert metadata.keys.usage("acme").bytes == 0 and metadata.ledger.unreferenced(10, "other") == ()


def test_a_result_without_its_blob_is_refused_and_the_job_goes_on(metadata: Metadata) -> None:
    made = job(metadata)
    with pytest.raises(StorageUnavailableError, match="store it again"):
        metadata.jobs.finish(made.id, "succeeded", artifacts={"snn.onnx": "0" * 64})
    assert metadata.jobs.get("acme", made.id) == made


def test_the_same_key_and_request_give_the_same_job(metadata: Metadata) -> None:
    request = {"model": "mod_1", "options": {"a": 1, "b": 2}}
    first, new = metadata.jobs.create("acme", "conversion", request=request, inputs={}, idempotency_key="k")
    turned = {"options": {"b": 2, "a": 1}, "model": "mod_1"}
    again = metadata.jobs.create("acme", "conversion", request=turned, inputs={}, idempotency_key="k")
    assert new and again == (first, False)
    for kind, other in (("conversion", {**request, "x": 1}), ("sweep", request)):
        with pytest.raises(IdempotencyError, match=f"was used for {first.id}") as caught:
            metadata.jobs.create("acme", kind, request=other, inputs={}, idempotency_key="k")
        with pytest.raises(IdempotencyError):
            metadata.jobs.repeated("acme", kind, request=other, idempotency_key="k")
        assert isinstance(caught.value, ConflictError)
    assert job(metadata, tenant="other", idempotency_key="k").id != first.id
    assert job(metadata).id != job(metadata).id


def test_a_repeated_request_gets_its_job_though_inputs_and_quota_are_used_up(metadata: Metadata, blob: Blob) -> None:
    digest = blob("a")
    made = model(metadata, digest)
    arguments = {"inputs": {"model": digest}, "idempotency_key": "k", "quota": Quota(queued=1)}
    first = job(metadata, **arguments)
    metadata.objects.delete("acme", made.id)
    assert job(metadata, **arguments) == first
    asked = {"request": first.request, "idempotency_key": "k"}
    assert metadata.jobs.repeated("acme", "conversion", **asked) == first
    for tenant, key in (("other", "k"), ("acme", "l"), ("acme", None)):
        assert metadata.jobs.repeated(tenant, "conversion", **{**asked, "idempotency_key": key}) is None


def test_racing_requests_with_one_key_make_one_job(metadata: Metadata) -> None:
    def create(_: int) -> tuple[JobRecord, bool]:
        return metadata.jobs.create("acme", "sweep", request={}, inputs={}, idempotency_key="k")

    found = race(8, create)
    assert len({made.id for made, _ in found}) == 1
    assert [new for _, new in found].count(True) == 1
