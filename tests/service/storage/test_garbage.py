"""Expiry and garbage: what goes, what stays, and that a blob that is just being used again never goes."""

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.errors import NotFoundError, StorageError, StorageUnavailableError
from service.storage import tables, uploads
from service.storage.blobs import Blobs
from service.storage.garbage import Swept, adopt, sweep
from service.storage.local import LocalBlobs
from service.storage.metadata import Metadata

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
LATER = NOW + 3 * HOUR  # everything that the tests hold is older than the grace period then
NOTHING = Swept(0, 0, 0, 0, 0)


@pytest.fixture
def blobs(metadata: Metadata, tmp_path: Path) -> LocalBlobs:
    """A store on the ledger of the metadata."""
    return LocalBlobs(tmp_path / "blobs", metadata.ledger)


def put(blobs: Blobs, data: bytes) -> str:
    with blobs.writer() as writer:
        writer.write(data)
        writer.commit()
        return writer.digest


def model(metadata: Metadata, digest: str, expires: datetime | None = None) -> str:
    fields = {"name": "", "media": "", "description": {}}
    return metadata.objects.create("acme", "model", digest=digest, expires=expires, **fields)[0].id


def test_what_nothing_refers_to_goes_after_the_grace_period(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = put(blobs, b"abc")
    assert metadata.ledger.total() == (1, 3)
    assert sweep(metadata, blobs, NOW, HOUR) == NOTHING
    assert sweep(metadata, blobs, LATER, HOUR) == Swept(0, 0, 0, 1, 3)
    assert not blobs.exists(digest) and metadata.ledger.total() == (0, 0)
    assert sweep(metadata, blobs, LATER, HOUR) == NOTHING
    assert put(blobs, b"abc") == digest and blobs.exists(digest)


def test_every_kind_of_reference_keeps_a_blob(metadata: Metadata, blobs: LocalBlobs) -> None:
    digests = [put(blobs, bytes([number])) for number in range(5)]
    kept = model(metadata, digests[0])
    gone = model(metadata, digests[1])
    job = metadata.jobs.create("acme", "sweep", request={}, inputs={"model": digests[1]})[0]
    metadata.objects.delete("acme", gone)
    done = metadata.jobs.create("acme", "sweep", request={}, inputs={})[0]
    metadata.jobs.finish(done.id, "succeeded", artifacts={"report": digests[2]})
    upload = metadata.uploads.create("acme", "model", name="", length=0, metadata={})
    metadata.uploads.complete("acme", upload.id, digests[3])
    assert sweep(metadata, blobs, LATER, HOUR).blobs == 1
    assert [blobs.exists(digest) for digest in digests] == [True, True, True, True, False]
    metadata.objects.delete("acme", kept)
    metadata.jobs.finish(job.id, "failed", error={})
    metadata.jobs.delete("acme", done.id)
    metadata.uploads.delete("acme", upload.id)
    assert sweep(metadata, blobs, LATER, HOUR) == Swept(0, 0, 0, 4, 4)


def test_what_has_expired_goes_with_its_blobs(metadata: Metadata, blobs: LocalBlobs) -> None:
    digests = [put(blobs, bytes([number])) for number in range(4)]
    model(metadata, digests[0], NOW + HOUR)
    model(metadata, digests[1], NOW + 5 * HOUR)
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
    blobs.put_part("upl_" + "0" * 26, "one", b"abc")
    sweep(metadata, blobs, NOW, HOUR)
    assert list(blobs.uploads()) == [upload.id]


def test_holding_again_renews_the_grace_period(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = put(blobs, b"abc")
    with metadata.database.write() as connection:
        connection.execute(sa.update(tables.blobs).values(held=NOW - 3 * HOUR))
    assert metadata.ledger.unreferenced(NOW - HOUR, 10) == (digest,)
    put(blobs, b"abc")  # between the collector's list and its look at the blob
    assert metadata.ledger.collect(digest, NOW - HOUR, blobs.delete) is None
    assert blobs.exists(digest)


def test_a_reference_made_after_the_list_was_read_is_seen(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = put(blobs, b"abc")
    assert metadata.ledger.unreferenced(LATER, 10) == (digest,)
    model(metadata, digest)
    assert metadata.ledger.collect(digest, LATER, blobs.delete) is None
    assert blobs.exists(digest)


def test_an_upload_waits_for_the_collection_of_the_same_bytes(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = put(blobs, b"abc")
    uploading = threading.Thread(target=lambda: model(metadata, put(blobs, b"abc")))

    def remove(digest: str) -> None:
        uploading.start()
        time.sleep(0.3)  # the upload comes as far as it can
        blobs.delete(digest)

    assert metadata.ledger.collect(digest, LATER, remove) == 3
    uploading.join()
    assert blobs.exists(digest) and metadata.ledger.total() == (1, 3)
    assert sweep(metadata, blobs, LATER, HOUR) == NOTHING


def test_a_reference_that_is_not_committed_yet_is_respected(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = put(blobs, b"abc")
    with ThreadPoolExecutor(1) as thread:
        with metadata.database.write() as connection:
            values = {"id": "mod_" + "0" * 26, "tenant": "acme", "kind": "model", "name": "", "digest": digest}
            rest = {"size": 3, "media": "", "description": {}, "origin": "", "created": NOW, "expires": None}
            connection.execute(sa.insert(tables.objects).values(**values, **rest))
            collecting = thread.submit(metadata.ledger.collect, digest, LATER, blobs.delete)
            time.sleep(0.3)
        assert collecting.result() is None
    assert blobs.exists(digest)


def test_a_blob_that_cannot_be_removed_is_collected_the_next_time(metadata: Metadata, blobs: LocalBlobs) -> None:
    digest = put(blobs, b"abc")

    def refuse(digest: str) -> None:
        raise StorageUnavailableError("no", "later")

    with pytest.raises(StorageError):
        metadata.ledger.collect(digest, LATER, refuse)
    assert metadata.ledger.total() == (1, 3)
    assert sweep(metadata, blobs, LATER, HOUR).blobs == 1


def test_sweeps_beside_each_other_share_the_work(metadata: Metadata, blobs: LocalBlobs) -> None:
    for number in range(30):
        put(blobs, bytes([number]))
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: sweep(metadata, blobs, LATER, HOUR), range(3)))
    assert sum(each.blobs for each in found) == 30
    sweep(metadata, blobs, LATER, HOUR)
    assert list(blobs.listing()) == []


def test_under_any_order_of_events_an_object_has_its_bytes(metadata: Metadata, blobs: LocalBlobs) -> None:
    """Four clients upload, use and delete the same three blobs while a collector without any grace runs."""
    data = [bytes([number]) * 10 for number in range(3)]
    clients = 4
    done = threading.Event()
    made = []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            try:
                id = model(metadata, put(blobs, chance.choice(data)))
                made.append(id)
                if chance.random() < 0.7:
                    metadata.objects.delete("acme", id)
            except (NotFoundError, StorageUnavailableError):
                continue  # deleted by another client; collected between upload and use, as there is no grace

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


def test_blobs_that_a_backup_of_the_database_does_not_know_are_adopted(metadata: Metadata, blobs: LocalBlobs) -> None:
    known, unknown = put(blobs, b"abc"), put(blobs, b"defg")
    with metadata.database.write() as connection:
        connection.execute(sa.delete(tables.blobs).where(tables.blobs.c.digest == unknown))
    assert adopt(metadata, blobs) == 1 and adopt(metadata, blobs) == 0
    assert metadata.ledger.total() == (2, 7)
    model(metadata, known)
    assert sweep(metadata, blobs, LATER, HOUR) == Swept(0, 0, 0, 1, 4)
