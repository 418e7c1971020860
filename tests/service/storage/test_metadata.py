"""Rows of tenants: who sees what, pages, keys that repeat, quotas that hold under races. On both databases."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from service.errors import (
    ConflictError,
    IdempotencyError,
    LimitError,
    NotFoundError,
    OffsetError,
    QuotaError,
    ServiceError,
    StateError,
    StorageUnavailableError,
    TextError,
)
from service.settings import Quota
from service.storage import rows, tables
from service.storage.ids import PATTERN
from service.storage.ledger import Reservation
from service.storage.metadata import Metadata
from service.storage.records import Job, StoredObject, Usage
from tests.properties import examples

Blob = Callable[[str], str]
NOW = datetime.now(UTC)
TTL = timedelta(hours=1)


def model(metadata: Metadata, digest: str, tenant: str = "acme", **more) -> StoredObject:
    """A model of the tenant for a held blob."""
    fields = {"name": "net.onnx", "media": "application/onnx", "description": {"nodes": 3}, "origin": "", **more}
    return metadata.objects.create(tenant, "model", digest=digest, **fields)[0]


def job(metadata: Metadata, number: int = 0, tenant: str = "acme", **more) -> Job:
    """A conversion without inputs."""
    return metadata.jobs.create(tenant, "conversion", **{"request": {"n": number}, "inputs": {}, **more})[0]


# Objects


def test_an_object_comes_back_as_it_was_made(metadata: Metadata, blob: Blob) -> None:
    made = model(metadata, blob("a"), name="net ✓.onnx", expires=NOW + TTL, description={"θ": [1.5, None, True]})
    assert metadata.objects.get("acme", made.id) == made
    assert PATTERN.match(made.id) and made.id.startswith("mod_")
    assert (made.size, made.expires, made.description) == (100, NOW + TTL, {"θ": [1.5, None, True]})
    assert made.created.tzinfo is not None and abs(made.created - datetime.now(UTC)) < timedelta(minutes=1)


def test_equal_bytes_of_one_tenant_and_kind_are_one_object(metadata: Metadata, blob: Blob) -> None:
    digest = blob("a")
    first = model(metadata, digest, expires=NOW + TTL)
    again, new = metadata.objects.create(
        "acme", "model", name="b", digest=digest, media="", description={}, expires=NOW + 2 * TTL
    )
    assert not new and again == metadata.objects.get("acme", first.id)
    assert (again.id, again.name, again.expires) == (first.id, "net.onnx", NOW + 2 * TTL)
    assert model(metadata, digest, expires=NOW).expires == NOW + 2 * TTL
    assert model(metadata, digest, expires=None).expires is None
    assert model(metadata, digest, expires=NOW).expires is None
    assert metadata.objects.again("acme", "model", digest, expires=NOW) == metadata.objects.get("acme", first.id)
    assert metadata.objects.again("acme", "dataset", digest) is metadata.objects.again("other", "model", digest) is None
    dataset, new = metadata.objects.create("acme", "dataset", name="b", digest=digest, media="", description={})
    assert new and dataset.id.startswith("dat_")
    assert model(metadata, blob("a", tenant="other"), "other").id != first.id


def test_an_object_without_its_blob_is_refused(metadata: Metadata) -> None:
    with pytest.raises(StorageUnavailableError, match="no longer there; send them again"):
        model(metadata, "0" * 64)
    assert metadata.objects.list("acme").rows == ()


def test_another_tenant_sees_nothing(metadata: Metadata, blob: Blob) -> None:
    digest = blob("a")
    made = model(metadata, digest)
    upload = metadata.uploads.create("acme", "model", name="n", length=10, metadata={})
    ours = job(metadata)
    calls = (
        lambda tenant: metadata.objects.get(tenant, made.id),
        lambda tenant: metadata.objects.delete(tenant, made.id),
        lambda tenant: metadata.uploads.get(tenant, upload.id),
        lambda tenant: metadata.uploads.parts(tenant, upload.id),
        lambda tenant: metadata.uploads.append(tenant, upload.id, 0, "part", 1),
        lambda tenant: metadata.uploads.complete(tenant, upload.id, digest),
        lambda tenant: metadata.uploads.end(tenant, upload.id),
        lambda tenant: metadata.jobs.get(tenant, ours.id),
        lambda tenant: metadata.jobs.delete(tenant, ours.id),
        lambda tenant: job(metadata, tenant=tenant, inputs={"model": digest}),
    )
    for call in calls:
        with pytest.raises(NotFoundError):
            call("other")
    assert metadata.objects.list("other").rows == metadata.jobs.list("other").rows == ()
    assert metadata.objects.get("acme", made.id) == made and metadata.uploads.get("acme", upload.id) == upload


@pytest.mark.parametrize("id", ["", "mod_1", "x" * 1000, "mod_\0", "con_" + "0" * 26, "mod_" + "O" * 26, "mod_é"])
def test_what_cannot_be_an_identifier_is_not_found(metadata: Metadata, id: str) -> None:
    for read in (metadata.objects.get, metadata.objects.delete, metadata.uploads.get, metadata.jobs.get):
        with pytest.raises(NotFoundError) as caught:
            read("acme", id)
        assert len(str(caught.value)) < 150


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "x" * 256])
def test_texts_that_cannot_be_stored_are_refused_in_every_database(metadata: Metadata, blob: Blob, bad: str) -> None:
    digest = blob("a")
    model(metadata, digest)
    calls = (
        lambda: model(metadata, digest, name=bad),
        lambda: model(metadata, digest, media=bad),
        lambda: metadata.uploads.create("acme", "model", name=bad, length=1, metadata={}),
        lambda: job(metadata, idempotency_key=bad),
        lambda: job(metadata, inputs={bad: digest}),
        lambda: metadata.keys.create("acme", "b" * 64, bad),
        lambda: metadata.keys.create(bad, "b" * 64),
    )
    for call in calls:
        with pytest.raises(TextError):
            call()


def test_json_keeps_every_text(metadata: Metadata) -> None:
    request = {"name": "\0 \ud800 ✓", "numbers": [1, 2.5, -1e300, 2**60], "empty": {}, "none": None}
    assert metadata.jobs.get("acme", job(metadata, request=request).id).request == request


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object(), b"x"], ids=["nan", "inf", "object", "bytes"])
def test_what_is_no_json_is_refused(metadata: Metadata, blob: Blob, bad: object) -> None:
    digest, made = blob("a"), job(metadata)
    calls = (
        lambda: model(metadata, digest, description={"x": bad}),
        lambda: metadata.uploads.create("acme", "model", name="", length=1, metadata={"x": bad}),
        lambda: job(metadata, request={"x": bad}),
        lambda: metadata.jobs.finish(made.id, "failed", error={"x": bad}),
        lambda: metadata.jobs.finish(made.id, "succeeded", result={"x": bad}),
    )
    for call in calls:
        with pytest.raises(TextError, match="cannot be written as JSON"):
            call()
    assert metadata.jobs.get("acme", made.id) == made


def test_an_unknown_tenant_can_have_nothing(metadata: Metadata, blob: Blob) -> None:
    for call in (lambda: model(metadata, blob("a"), "nobody"), lambda: job(metadata, tenant="nobody")):
        with pytest.raises(NotFoundError, match="graphpass keys create"):
            call()


# Pages


def test_pages_are_newest_first_and_stable_under_inserts_and_deletes(metadata: Metadata) -> None:
    jobs = [job(metadata, number).id for number in range(10)]
    seen, after = [], None
    for _ in range(10):
        page = metadata.jobs.list("acme", after=after, limit=3)
        seen += [row.id for row in page.rows]
        job(metadata, 100)
        metadata.jobs.finish(seen[-1], "cancelled")
        metadata.jobs.delete("acme", seen[-1])  # the row that the cursor names
        after = page.after
        if after is None:
            break
    assert seen == jobs[::-1]


@pytest.mark.slow
@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 5), inserts=st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_every_row_that_was_there_is_seen_once(metadata: Metadata, limit: int, inserts: list[int]) -> None:
    here = {job(metadata).id for _ in range(4)}
    known = {row.id for row in metadata.jobs.list("acme", limit=200).rows}
    seen, after = [], None
    for number in itertools.chain(inserts, itertools.repeat(0)):
        page = metadata.jobs.list("acme", after=after, limit=limit)
        seen += [row.id for row in page.rows]
        for _ in range(number):
            job(metadata)
        if (after := page.after) is None:
            break
    assert here <= known == set(seen) and len(seen) == len(known)


def test_the_last_full_page_has_no_cursor_and_filters_apply(metadata: Metadata, blob: Blob) -> None:
    for number in range(4):
        model(metadata, blob(f"{number}"))
        job(metadata, number)
    metadata.objects.create("acme", "dataset", name="", digest=blob("0"), media="", description={})
    assert metadata.objects.list("acme", kind="model", limit=4).after is None
    assert [row.kind for row in metadata.objects.list("acme", kind="dataset").rows] == ["dataset"]
    first = metadata.jobs.list("acme", limit=1).rows[0]
    metadata.jobs.start(first.id)
    assert [row.id for row in metadata.jobs.list("acme", states=("running",)).rows] == [first.id]
    assert len(metadata.jobs.list("acme", states=("queued", "running")).rows) == 4
    assert metadata.jobs.list("acme", kind="sweep").rows == ()
    assert len(metadata.jobs.list("acme", limit=0).rows) == 1


def test_pages_have_room_for_so_many_bytes_and_for_one_row_always(metadata: Metadata, blob: Blob) -> None:
    sizes = [10, 700_000, 300_000, 100, 3_000_000, 10, 500_000]
    made = [model(metadata, blob(f"{n}"), description={"x": "x" * size}).id for n, size in enumerate(sizes)]
    pages, after = [], None
    while not pages or after:
        page = metadata.objects.list("acme", after=after, limit=200)
        pages.append([row.id for row in page.rows])
        after = page.after
    assert [id for page in pages for id in page] == made[::-1]
    assert [len(page) for page in pages] == [2, 1, 4]
    assert rows.PAGE_BYTES == 2**20
    requests = [job(metadata, request={"include": ["x" * 200_000]}).id for _ in range(7)]
    page = metadata.jobs.list("acme")
    assert [row.id for row in page.rows] == requests[: -len(page.rows) - 1 : -1] and len(page.rows) == 5


@pytest.mark.parametrize("cursor", ["", "x", "\0", "1 OR 1"])
def test_a_cursor_that_is_none_is_refused(metadata: Metadata, cursor: str) -> None:
    with pytest.raises(TextError, match="is not the cursor of a page"):
        metadata.jobs.list("acme", after=cursor)


# Jobs


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


# Idempotency


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


def race(count: int, call: Callable[[int], object]) -> list[object]:
    """What each of `count` threads got from one call at the same moment: a result or a ServiceError."""
    barrier = threading.Barrier(count)

    def one(number: int) -> object:
        barrier.wait()
        try:
            return call(number)
        except ServiceError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def test_racing_requests_with_one_key_make_one_job(metadata: Metadata) -> None:
    def create(_: int) -> tuple[Job, bool]:
        return metadata.jobs.create("acme", "sweep", request={}, inputs={}, idempotency_key="k")

    found = race(8, create)
    assert len({made.id for made, _ in found}) == 1
    assert [new for _, new in found].count(True) == 1


# Quotas


def test_racing_requests_cannot_pass_the_quota_of_waiting_jobs(metadata: Metadata) -> None:
    found = race(8, lambda number: job(metadata, number, quota=Quota(queued=3)))
    assert sum(isinstance(each, Job) for each in found) == 3
    error = next(each for each in found if isinstance(each, LimitError))
    assert (error.quota, error.limit, error.used) == ("queued", 3, 3)
    assert str(error).startswith("3 jobs are waiting, 1 more would be over the quota of 3; wait")
    assert metadata.keys.usage("acme") == Usage(0, 3, 0, 3)
    assert isinstance(job(metadata, tenant="other", quota=Quota(queued=3)), Job)


def test_racing_jobs_cannot_pass_the_quota_of_running_ones(metadata: Metadata) -> None:
    jobs = [job(metadata, number).id for number in range(6)]
    found = race(6, lambda number: metadata.jobs.start(jobs[number], Quota(running=2)))
    assert sum(isinstance(each, Job) for each in found) == 2
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
    """Of bodies that do not say how long they are."""
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


def digest(text: str) -> str:
    """What `blob` gives."""
    return (text.encode().hex() * 64)[:64]


def release(metadata: Metadata) -> None:
    """What `blob` reserved."""
    with metadata.database.write() as connection:
        connection.execute(sa.delete(tables.reservations))


# Uploads


def test_an_upload_grows_at_its_end_only(metadata: Metadata, blob: Blob) -> None:
    made = metadata.uploads.create("acme", "dataset", name="d.npz", length=10, metadata={"a": "b"}, expires=NOW + TTL)
    assert metadata.uploads.get("acme", made.id) == made and made.offset == 0
    assert metadata.uploads.append("acme", made.id, 0, "one", 4).offset == 4
    for offset, size in ((0, 4), (5, 1), (4, 7)):
        with pytest.raises(OffsetError) as caught:
            metadata.uploads.append("acme", made.id, offset, "two", size)
        assert caught.value.offset == 4
    with pytest.raises(OffsetError):
        metadata.uploads.complete("acme", made.id, blob("a"))
    metadata.uploads.append("acme", made.id, 4, "two", 6)
    assert metadata.uploads.parts("acme", made.id) == ("one", "two")
    with pytest.raises(StorageUnavailableError):
        metadata.uploads.complete("acme", made.id, "e" * 64)
    assert metadata.uploads.complete("acme", made.id, blob("a")).sha256 == blob("a")
    with pytest.raises(OffsetError, match="is complete"):
        metadata.uploads.append("acme", made.id, 10, "three", 0)


def test_of_racing_pieces_one_is_taken(metadata: Metadata) -> None:
    made = metadata.uploads.create("acme", "model", name="", length=100, metadata={})
    found = race(6, lambda number: metadata.uploads.append("acme", made.id, 0, f"part{number}", 10 + number))
    taken = [each for each in found if not isinstance(each, OffsetError)]
    assert len(taken) == 1
    assert metadata.uploads.parts("acme", made.id) == (f"part{taken[0].offset - 10}",)
