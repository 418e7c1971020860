"""Models and datasets of tenants: who sees what, what is kept, and pages of rows. On both databases."""

import itertools
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from service.errors import (
    NotFoundError,
    StorageUnavailableError,
    TextError,
)
from service.storage import rows
from service.storage.ids import PATTERN
from service.storage.metadata import Metadata
from tests.properties import examples
from tests.service.storage.stored import NOW, TTL, Blob, job, model


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
    """The examples share a database, so each has a tenant of its own."""
    tenant = uuid.uuid4().hex
    metadata.keys.create(tenant, 2 * tenant)
    here = {job(metadata, tenant=tenant).id for _ in range(4)}
    seen, after = [], None
    for number in itertools.chain(inserts, itertools.repeat(0)):
        page = metadata.jobs.list(tenant, after=after, limit=limit)
        seen += [row.id for row in page.rows]
        for _ in range(number):
            job(metadata, tenant=tenant)
        if (after := page.after) is None:
            break
    assert here == set(seen) and len(seen) == len(here)


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
