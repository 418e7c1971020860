"""Expiry and garbage: what is deleted, what stays, and that a blob which is just being used again is never deleted."""

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from service.errors import NotFoundError, StorageError, StorageUnavailableError
from service.storage import tables, uploads
from service.storage.accounts import Account, settle
from service.storage.blobs import Blobs
from service.storage.garbage import Swept, adopt, sweep
from service.storage.ledger import Reservation
from service.storage.local import LocalBlobs
from service.storage.metadata import Metadata

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
LATER = NOW + 3 * HOUR  # everything that the tests hold is older than the grace period then
NOTHING = Swept(0, 0, 0, 0, 0)


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    """A store in a folder."""
    return LocalBlobs(tmp_path / "blobs")


def put(metadata: Metadata, blobs: Blobs, data: bytes, room: Reservation | None = None) -> str:
    """Store a blob for acme, to which only the reservation of its writer refers."""
    with blobs.writer(room or metadata.ledger.reserve("acme", len(data))) as writer:
        writer.write(data)
        writer.commit()
        return writer.digest


def model(metadata: Metadata, digest: str, **more: Any) -> str:
    fields = {"name": "", "media": "", "description": {}}
    return metadata.objects.create("acme", "model", digest=digest, **fields, **more)[0].id


def test_what_is_being_stored_goes_after_the_grace_period(metadata: Metadata, blobs: LocalBlobs) -> None:
    """It is deleted when its writer gives no sign of life for that long, or releases it."""
    digest = put(metadata, blobs, b"abc")
    assert metadata.ledger.total() == (1, 3)
    assert sweep(metadata, blobs, NOW, HOUR) == NOTHING
    sweep(metadata, blobs, LATER, HOUR)
    assert not blobs.exists(digest) and metadata.ledger.total() == (0, 0)
    with Account(metadata, blobs, "acme") as account:
        assert put(metadata, blobs, b"abc", account.reserve(3)) == digest and blobs.exists(digest)
    assert not blobs.exists(digest) and metadata.ledger.total() == (0, 0)


def test_every_kind_of_reference_keeps_a_blob(metadata: Metadata, blobs: LocalBlobs) -> None:
    with Account(metadata, blobs, "acme") as account:
        digests = [put(metadata, blobs, bytes([number]), account.reserve(1)) for number in range(7)]
        kept = model(metadata, digests[0], whole_description=digests[5])
        gone = model(metadata, digests[1])
        job = metadata.jobs.create("acme", "sweep", request={}, inputs={"model": digests[1]})[0]
        metadata.jobs.pin(job.id, {"part": digests[6]})
        metadata.objects.delete("acme", gone)
        done = metadata.jobs.create("acme", "sweep", request={}, inputs={})[0]
        metadata.jobs.finish(done.id, "succeeded", artifacts={"report": digests[2]})
        upload = metadata.uploads.create("acme", "model", name="", length=0, metadata={})
        metadata.uploads.complete("acme", upload.id, digests[3])
        assert settle(metadata, blobs) == (0, 0)
    assert [blobs.exists(digest) for digest in digests] == [True, True, True, True, False, True, True]
    assert sweep(metadata, blobs, LATER, HOUR) == NOTHING
    metadata.objects.delete("acme", kept)
    metadata.jobs.finish(job.id, "failed", error={})
    metadata.jobs.delete("acme", done.id)
    metadata.uploads.end("acme", upload.id)
    assert sweep(metadata, blobs, LATER, HOUR) == Swept(0, 0, 0, 6, 6)


def test_what_has_expired_goes_with_its_blobs(metadata: Metadata, blobs: LocalBlobs) -> None:
    with Account(metadata, blobs, "acme") as account:
        digests = [put(metadata, blobs, bytes([number]), account.reserve(1)) for number in range(4)]
        model(metadata, digests[0], expires=NOW + HOUR)
        model(metadata, digests[1], expires=NOW + 5 * HOUR)
        model(metadata, digests[2])
        upload = metadata.uploads.create("acme", "model", name="", length=9, metadata={}, expires=NOW + HOUR)
        uploads.append(metadata, blobs, "acme", upload.id, 0, b"abc")
        done, running = (metadata.jobs.create("acme", "sweep", request={}, inputs={})[0].id for _ in range(2))
        metadata.jobs.finish(done, "succeeded", artifacts={"report": digests[3]}, expires=NOW + HOUR)
    assert sweep(metadata, blobs, NOW, HOUR) == NOTHING
    assert sweep(metadata, blobs, LATER, HOUR) == Swept(1, 1, 1, 2, 2)
    assert list(blobs.uploads()) == []
    assert [row.id for row in metadata.jobs.list("acme").rows] == [running]
    for read in (metadata.uploads.get, metadata.uploads.parts):
        with pytest.raises(NotFoundError):
            read("acme", upload.id)


def test_pieces_without_an_upload_go_and_others_stay(metadata: Metadata, blobs: LocalBlobs) -> None:
    upload = metadata.uploads.create("acme", "model", name="", length=9, metadata={})
    uploads.append(metadata, blobs, "acme", upload.id, 0, b"abc")
    with blobs.turn("upl_" + "0" * 26):
        blobs.put_part("upl_" + "0" * 26, "one", 0, b"abc")
    sweep(metadata, blobs, NOW, HOUR)
    assert list(blobs.uploads()) == [upload.id]


def test_an_upload_counts_until_its_pieces_are_gone(
    metadata: Metadata, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = metadata.uploads.create("acme", "model", name="", length=9, metadata={})
    uploads.append(metadata, blobs, "acme", upload.id, 0, b"abc")

    def fail(_: str) -> None:
        raise StorageUnavailableError("away", "wait")

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "drop_parts", fail)
        with pytest.raises(StorageUnavailableError):
            uploads.discard(metadata, blobs, "acme", upload.id)
    with pytest.raises(NotFoundError):
        metadata.uploads.get("acme", upload.id)
    assert metadata.keys.usage("acme").bytes == 9
    sweep(metadata, blobs, NOW, HOUR)
    assert metadata.keys.usage("acme").bytes == 0 and list(blobs.uploads()) == []


def test_a_piece_that_comes_when_its_upload_has_ended_is_not_kept(metadata: Metadata, blobs: LocalBlobs) -> None:
    upload = metadata.uploads.create("acme", "model", name="", length=9, metadata={})
    put_part = blobs.put_part

    def overtaken(*arguments: Any) -> None:
        metadata.uploads.end("acme", upload.id)
        put_part(*arguments)

    blobs.put_part = overtaken  # type: ignore[method-assign]
    with pytest.raises(NotFoundError):
        uploads.append(metadata, blobs, "acme", upload.id, 0, b"abc")
    sweep(metadata, blobs, NOW, HOUR)
    assert list(blobs.uploads()) == [] and metadata.keys.usage("acme").bytes == 0


def test_whoever_stores_the_same_bytes_meanwhile_keeps_them(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = put(metadata, blobs, b"abc")  # which is never released
    with Account(metadata, blobs, "acme") as account:
        put(metadata, blobs, b"abc", account.reserve(3))
    assert metadata.ledger.collect("acme", digest, blobs.delete) is None
    assert blobs.exists(digest)


def test_a_reference_made_after_the_list_was_read_is_seen(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = charged(metadata, blobs, b"abc")
    assert metadata.ledger.unreferenced(10) == (("acme", digest),)
    model(metadata, digest)
    assert metadata.ledger.collect("acme", digest, blobs.delete) is None
    assert blobs.exists(digest)


def charged(metadata: Metadata, blobs: LocalBlobs, data: bytes) -> str:
    """A blob that is charged to acme without a reference, as after a process died that had released its reservation."""
    room = metadata.ledger.reserve("acme", len(data))
    digest = put(metadata, blobs, data, room)
    with metadata.database.write() as connection:
        connection.execute(sa.delete(tables.reservations).where(tables.reservations.c.id == room.id))
    return digest


def test_an_upload_waits_for_the_collection_of_the_same_bytes(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = charged(metadata, blobs, b"abc")
    uploading = threading.Thread(target=lambda: model(metadata, put(metadata, blobs, b"abc")))

    def remove(digest: str) -> None:
        uploading.start()
        time.sleep(0.3)  # the upload comes as far as it can
        blobs.delete(digest)

    assert metadata.ledger.collect("acme", digest, remove) == 3
    uploading.join()
    assert blobs.exists(digest) and metadata.ledger.total() == (1, 3)
    assert sweep(metadata, blobs, NOW, HOUR) == NOTHING


def test_a_reference_that_is_not_committed_yet_is_respected(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = charged(metadata, blobs, b"abc")
    with ThreadPoolExecutor(1) as thread:
        with metadata.database.write() as connection:
            values = {"id": "mod_" + "0" * 26, "tenant": "acme", "kind": "model", "name": "", "digest": digest}
            rest = {"size": 3, "media": "", "description": {}, "origin": "", "created": NOW, "expires": None}
            connection.execute(sa.insert(tables.objects).values(**values, **rest))
            collecting = thread.submit(metadata.ledger.collect, "acme", digest, blobs.delete)
            time.sleep(0.3)
        assert collecting.result() is None
    assert blobs.exists(digest)


def test_a_blob_that_cannot_be_removed_is_collected_the_next_time(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = charged(metadata, blobs, b"abc")

    def refuse(digest: str) -> None:
        raise StorageUnavailableError("no", "later")

    with pytest.raises(StorageError):
        metadata.ledger.collect("acme", digest, refuse)
    assert metadata.ledger.total() == (1, 3) and metadata.keys.usage("acme").bytes == 3
    assert sweep(metadata, blobs, NOW, HOUR).blobs == 1


def test_a_reservation_that_cannot_be_released_now_is_released_by_housekeeping(
    metadata: Metadata, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a request does not depend on the release of its reservation."""

    def refuse(digest: str) -> None:
        raise StorageUnavailableError("no", "later")

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "delete", refuse)
        with Account(metadata, blobs, "acme") as account:
            put(metadata, blobs, b"abc", account.reserve(3))
    assert metadata.keys.usage("acme").bytes == 3
    assert sweep(metadata, blobs, NOW, HOUR).blobs == 1


def test_sweeps_beside_each_other_share_the_work(metadata: Metadata, blobs: LocalBlobs) -> None:
    for number in range(30):
        charged(metadata, blobs, bytes([number]))
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: sweep(metadata, blobs, LATER, HOUR), range(3)))
    assert sum(each.blobs for each in found) == 30
    sweep(metadata, blobs, LATER, HOUR)
    assert list(blobs.listing()) == []


def test_under_any_order_of_events_an_object_has_its_bytes(metadata: Metadata, blobs: LocalBlobs) -> None:
    """Four clients upload, use and delete the same three blobs beside a collector without a grace period."""
    data = [bytes([number]) * 10 for number in range(3)]
    clients = 4
    done = threading.Event()
    made = []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            try:
                with Account(metadata, blobs, "acme") as account:
                    id = model(metadata, put(metadata, blobs, chance.choice(data), account.reserve(10)))
                made.append(id)
                if chance.random() < 0.7:
                    metadata.objects.delete("acme", id)
            except (NotFoundError, StorageUnavailableError):
                continue  # deleted by another client; given up by the collector, as there is no grace

    def collector() -> None:
        while not done.is_set():
            sweep(metadata, blobs, datetime.now(UTC) + HOUR, HOUR)

    with ThreadPoolExecutor(clients + 1) as threads:
        collecting = threads.submit(collector)
        list(threads.map(client, range(clients)))
        done.set()
        collecting.result()
    assert made
    for row in metadata.objects.list("acme").rows:
        assert hashlib.sha256(b"".join(blobs.read(row.digest))).hexdigest() == row.digest
    settle(metadata, blobs)
    assert sum(size for _, size in blobs.listing()) == metadata.keys.usage("acme").bytes


def test_blobs_that_a_backup_of_the_database_does_not_know_are_adopted(metadata: Metadata, blobs: LocalBlobs) -> None:
    known, unknown = charged(metadata, blobs, b"abc"), charged(metadata, blobs, b"defg")
    model(metadata, known)
    with metadata.database.write() as connection:
        for table in (tables.charges, tables.blobs):
            connection.execute(sa.delete(table).where(table.c.digest == unknown))
    assert adopt(metadata, blobs) == 1 and adopt(metadata, blobs) == 0
    assert metadata.ledger.total() == (2, 7)
    assert sweep(metadata, blobs, NOW, HOUR) == NOTHING  # who stores it within the grace period keeps it
    assert sweep(metadata, blobs, LATER, HOUR) == Swept(0, 0, 0, 1, 4)
    assert [digest for digest, _ in blobs.listing()] == [known]


def test_an_adopted_blob_is_whose_who_stores_it(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = charged(metadata, blobs, b"abc")
    with metadata.database.write() as connection:
        connection.execute(sa.delete(tables.charges))
        connection.execute(sa.delete(tables.blobs))
    adopt(metadata, blobs)
    model(metadata, put(metadata, blobs, b"abc"))
    assert metadata.ledger.drop(digest, LATER, blobs.delete) is None
    sweep(metadata, blobs, LATER, HOUR)
    assert blobs.exists(digest) and metadata.keys.usage("acme").bytes == 3
