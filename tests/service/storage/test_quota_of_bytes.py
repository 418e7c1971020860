"""The quota of bytes and what counts for it: races, bodies, jobs, entries, processes that died."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.errors import NotFoundError, QuotaError, StorageUnavailableError
from service.settings import Quota
from service.storage import ledger, uploads
from service.storage.accounts import Account, settle
from service.storage.garbage import abandon, sweep
from service.storage.local import LocalBlobs
from service.storage.metadata import Metadata
from tests.service.storage.test_accounts import FIELDS, HOUR, NOTHING, TENANTS, on_disk


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    """A store in a folder."""
    return LocalBlobs(tmp_path / "blobs")


def stored(metadata: Metadata, blobs: LocalBlobs, tenant: str, data: bytes, quota: Quota | None, announced: int) -> str:
    """Store a model of these bytes; its id."""
    with Account(metadata, blobs, tenant, quota) as account:
        with blobs.writer(account.reserve(announced)) as writer:
            for start in range(0, len(data), 1000):
                writer.write(data[start : start + 1000])
            writer.commit()
        return metadata.objects.create(tenant, "model", digest=writer.digest, **FIELDS)[0].id


@pytest.mark.parametrize("announced", [True, False])
def test_clients_beside_each_other_cannot_overdraw(
    metadata: Metadata, blobs: LocalBlobs, tmp_path: Path, announced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight clients at a time three have room, whether they say how much they send or not."""
    monkeypatch.setattr(ledger, "AHEAD", 3000)
    quota, seen, done = Quota(bytes=35_000), [0], threading.Event()
    barrier = threading.Barrier(8)

    def client(number: int) -> str | int:
        data = bytes([number]) * 10_000
        barrier.wait()
        try:
            return stored(metadata, blobs, "acme", data, quota, len(data) * announced)
        except QuotaError:
            return 0

    def watch() -> None:
        while not done.is_set():
            seen.append(on_disk_now(tmp_path / "blobs"))
            assert metadata.keys.usage("acme").bytes <= quota.bytes

    with ThreadPoolExecutor(9) as threads:
        watching = threads.submit(watch)
        found = list(threads.map(client, range(8)))
        done.set()
        watching.result()
    ids = [each for each in found if each]
    assert (len(ids) == 3) if announced else (1 <= len(ids) <= 3)
    assert max(seen) <= quota.bytes
    assert metadata.keys.usage("acme").bytes == on_disk(tmp_path / "blobs") == 10_000 * len(ids)
    metadata.objects.delete("acme", str(ids[0]))
    assert settle(metadata, blobs, "acme") == (1, 10_000)
    assert stored(metadata, blobs, "acme", b"x" * 10_000, quota, 0)


def test_a_blob_that_is_being_placed_counts_once(metadata: Metadata, blobs: LocalBlobs) -> None:
    """Somebody with room for the rest of the quota is not refused meanwhile; the same bytes again count until then."""
    quota = Quota(bytes=20)
    for counted in (10, 20):  # the second time the charge is there, and the written file beside it
        with Account(metadata, blobs, "acme", quota) as account:
            room = account.reserve(10)
            room.hold("a" * 64, 10)
            assert metadata.keys.usage("acme").bytes == counted
            room.settle()
            assert metadata.keys.usage("acme").bytes == 10
            metadata.objects.create("acme", "model", digest="a" * 64, **FIELDS)


def on_disk_now(folder: Path) -> int:
    """As `on_disk`, while files come and go: files that vanish meanwhile are left out."""

    def sizes() -> Iterator[tuple[int, int]]:
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    found = os.stat(os.path.join(place, name))
                except FileNotFoundError:
                    continue
                yield found.st_ino, found.st_size

    return sum(dict(sizes()).values())


def test_a_blob_of_two_tenants_counts_for_each_and_lives_with_the_last(metadata: Metadata, blobs: LocalBlobs) -> None:
    ours, theirs = (stored(metadata, blobs, tenant, b"x" * 100, None, 100) for tenant in TENANTS)
    assert [metadata.keys.usage(tenant).bytes for tenant in TENANTS] == [100, 100]
    assert metadata.ledger.total() == (1, 100)
    metadata.objects.delete("acme", ours)
    assert settle(metadata, blobs, "acme") == (0, 0)
    assert [metadata.keys.usage(tenant).bytes for tenant in TENANTS] == [0, 100]
    metadata.objects.delete("other", theirs)
    assert settle(metadata, blobs) == (1, 100) and list(blobs.listing()) == []


def test_a_body_stops_at_the_quota(metadata: Metadata, blobs: LocalBlobs, tmp_path: Path) -> None:
    """This holds with and without its length; what had arrived is deleted."""
    quota, large = Quota(bytes=5_000), b"x" * 100_000
    with pytest.raises(QuotaError, match="0 bytes are kept, 100,000 more would be over the quota of 5,000"):
        stored(metadata, blobs, "acme", large, quota, len(large))
    written: list[int] = []
    with Account(metadata, blobs, "acme", quota) as account, blobs.writer(account.reserve()) as writer:
        for _ in range(5):
            writer.write(large[:1000])
            written.append(on_disk(tmp_path / "blobs"))
        with pytest.raises(QuotaError, match="0 bytes are kept, 6,000 more would be over the quota of 5,000"):
            writer.write(large[:1000])
    assert written == [1000, 2000, 3000, 4000, 5000]
    assert on_disk(tmp_path / "blobs") == metadata.keys.usage("acme").bytes == 0


def test_a_job_may_use_what_was_reserved_for_it_and_others_may_not(metadata: Metadata, blobs: LocalBlobs) -> None:
    quota = Quota(bytes=100)
    job, _ = metadata.jobs.create("acme", "sweep", request={}, inputs={}, reserved=60, quota=quota)
    assert metadata.keys.usage("acme").bytes == 60
    with pytest.raises(QuotaError):
        stored(metadata, blobs, "acme", b"x" * 41, quota, 41)
    with pytest.raises(QuotaError):
        metadata.jobs.create("acme", "sweep", request={}, inputs={}, reserved=41, quota=quota)
    with pytest.raises(QuotaError), Account(metadata, blobs, "acme", quota, job.id) as account:
        account.reserve(101)
    with Account(metadata, blobs, "acme", quota, job.id) as account:
        assert account.reserve(100).granted == 100
    metadata.jobs.finish(job.id, "succeeded")
    assert metadata.keys.usage("acme").bytes == 0


def test_a_job_is_accepted_with_what_is_left_for_its_files_unless_that_is_next_to_nothing(metadata: Metadata) -> None:
    """How large the files will be is a guess."""
    quota = Quota(bytes=100_000)
    first, _ = metadata.jobs.create("acme", "sweep", request={}, inputs={}, reserved=30_000, quota=quota)
    metadata.jobs.create("acme", "sweep", request={}, inputs={}, reserved=10**9, quota=quota)
    assert metadata.keys.usage("acme").bytes == 100_000
    with pytest.raises(QuotaError, match="100,000 bytes are kept, 65,536 more would be over the quota of 100,000"):
        metadata.jobs.create("acme", "sweep", request={}, inputs={}, reserved=10**9, quota=quota)
    metadata.jobs.finish(first.id, "cancelled")
    with pytest.raises(QuotaError, match="70,000 bytes are kept, 65,536 more"):
        metadata.jobs.create("acme", "sweep", request={}, inputs={}, reserved=10**9, quota=quota)
    metadata.jobs.create("acme", "sweep", request={}, inputs={}, reserved=30_000, quota=quota)


def test_entries_have_a_quota(metadata: Metadata, blobs: LocalBlobs) -> None:
    """Rows cost as well: a model, an upload and a job count one each."""
    quota = Quota(entries=3)
    metadata.objects.create("acme", "model", digest=_charged(metadata, "a"), quota=quota, **FIELDS)
    upload = metadata.uploads.create("acme", "model", name="", length=1, metadata={}, quota=quota)
    metadata.jobs.create("acme", "sweep", request={}, inputs={}, quota=quota)
    assert metadata.keys.usage("acme").entries == 3
    calls = (
        lambda: metadata.objects.create("acme", "model", digest=_charged(metadata, "b"), quota=quota, **FIELDS),
        lambda: metadata.uploads.create("acme", "model", name="", length=1, metadata={}, quota=quota),
        lambda: metadata.jobs.create("acme", "sweep", request={}, inputs={}, quota=quota),
    )
    for call in calls:
        with pytest.raises(QuotaError, match="3 models, datasets, uploads and jobs are kept, 1 more would be over"):
            call()
    metadata.objects.create("acme", "model", digest=_charged(metadata, "a"), quota=quota, **FIELDS)  # the same one
    uploads.discard(metadata, blobs, "acme", upload.id)
    metadata.jobs.create("acme", "sweep", request={}, inputs={}, quota=quota)


def _charged(metadata: Metadata, letter: str) -> str:
    metadata.ledger.reserve("acme", 0).hold(letter * 64, 1)
    return letter * 64


def test_reservations_of_a_process_that_lives_are_not_given_up(metadata: Metadata, blobs: LocalBlobs) -> None:
    others = metadata.ledger.renew()
    with ExitStack() as stack:
        account = stack.enter_context(Account(metadata, blobs, "acme"))
        writer = stack.enter_context(blobs.writer(account.reserve(3)))
        writer.write(b"abc")
        later = datetime.now(UTC) + 2 * HOUR
        metadata.ledger.renew()
        assert sweep(metadata, blobs, datetime.now(UTC) + HOUR / 2, HOUR) == NOTHING
        writer.commit()
        assert sweep(metadata, blobs, datetime.now(UTC) + HOUR / 2, HOUR) == NOTHING
        assert blobs.exists(writer.digest)
        abandon(metadata, blobs, later)  # as if nobody had renewed them
        assert not blobs.exists(writer.digest)
        with pytest.raises(StorageUnavailableError, match="the write was abandoned; send it again"):
            account._reservations[0].need(1000)
        with pytest.raises(StorageUnavailableError, match="send them again"):
            metadata.objects.create("acme", "model", digest=writer.digest, **FIELDS)
    assert metadata.ledger.renew() == others


def test_what_is_kept_has_to_be_there(metadata: Metadata, blobs: LocalBlobs) -> None:
    id = stored(metadata, blobs, "acme", b"abc", None, 3)
    digest = metadata.objects.get("acme", id).digest
    with Account(metadata, blobs, "other") as account, pytest.raises(NotFoundError, match="no longer there"):
        account.keep(digest)
    with Account(metadata, blobs, "acme") as account:
        account.keep(digest)
        metadata.objects.delete("acme", id)
        assert settle(metadata, blobs, "acme") == (0, 0) and blobs.exists(digest)
    assert not blobs.exists(digest)
