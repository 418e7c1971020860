"""What accounts say, with the disk as the judge: nothing is there that nobody bears, nor borne when it is gone."""

import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from service.errors import NotFoundError, QuotaError, StorageUnavailableError
from service.settings import Quota, load_settings
from service.storage import ledger, uploads
from service.storage.accounts import Account, settle
from service.storage.garbage import Swept, abandon, sweep
from service.storage.ledger import Reservation
from service.storage.local import LocalBlobs
from service.storage.metadata import Metadata, open_metadata
from tests.properties import examples

HOUR = timedelta(hours=1)
NOTHING = Swept(0, 0, 0, 0, 0)
MEMORY = Path("/dev/shm")  # syncing costs nothing there
TENANTS = ("acme", "other")
QUOTA = Quota(bytes=60)
TENANT = st.sampled_from(TENANTS)
DATA = st.integers(0, 4).map(lambda number: bytes([number]) * (5 * number + 1))
FIELDS = {"name": "", "media": "", "description": {}}


def on_disk(folder: Path) -> int:
    """Bytes of all files, of which several may be one."""
    files = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(files.values())


class Accounts(RuleBasedStateMachine):
    """Two tenants that store the same few blobs: uploads, resumable ones, jobs; refused, deleted, expired, interrupted.

    The model: which digests each row of which tenant refers to, and what else is counted.
    """

    objects = Bundle("objects")
    begun = Bundle("begun")
    running = Bundle("running")
    finished = Bundle("finished")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.metadata = open_metadata(load_settings(data_dir=self._folder.name))
        for tenant in TENANTS:
            self.metadata.keys.create(tenant, tenant.encode().hex().ljust(64, "0"))
        self.root = Path(self._folder.name) / "blobs"
        self.blobs = LocalBlobs(self.root)
        self.refers: dict[tuple[str, str], dict[str, int]] = {}  # tenant and row → digests and sizes
        self.counted: dict[tuple[str, str], int] = {}  # tenant and row → bytes that are announced, or reserved
        self.sent: dict[tuple[str, str], bytes] = {}  # of uploads that are not complete
        self.uploads: set[tuple[str, str]] = set()
        self.expired: set[tuple[str, str]] = set()
        self.dead: list[tuple[Reservation, AbstractContextManager[object] | None]] = []

    def teardown(self) -> None:
        """Close everything."""
        for _, context in self.dead:
            if context:
                context.__exit__(None, None, None)
        self.metadata.close()
        self._folder.cleanup()

    def account(self, tenant: str, job: str = "") -> Account:
        """An open one."""
        return Account(self.metadata, self.blobs, tenant, QUOTA, job)

    def used(self, tenant: str, besides: tuple[str, str] | None = None) -> int:
        """What the model says that a tenant has."""
        blobs = {d: n for (owner, _), digests in self.refers.items() if owner == tenant for d, n in digests.items()}
        others = sum(n for row, n in self.counted.items() if row[0] == tenant and row != besides)
        return sum(blobs.values()) + others + sum(room.granted for room, _ in self.dead if room.tenant == tenant)

    def charged(self, tenant: str) -> set[str]:
        """Digests that a tenant bears."""
        return {digest for (owner, _), digests in self.refers.items() if owner == tenant for digest in digests}

    @rule(target=objects, tenant=TENANT, data=DATA, announced=st.booleans(), accepted=st.booleans())
    def upload(self, tenant: str, data: bytes, announced: bool, accepted: bool) -> tuple[str, str]:
        """A body, with its length before it or not; what is refused leaves nothing."""
        fits = self.used(tenant) + len(data) <= QUOTA.bytes
        try:
            with self.account(tenant) as account:
                with self.blobs.writer(account.reserve(len(data) if announced else 0)) as writer:
                    writer.write(data)
                    writer.commit()
                assert fits
                if accepted:
                    made, _ = self.metadata.objects.create(tenant, "model", digest=writer.digest, **FIELDS)
                    self.refers[tenant, made.id] = {writer.digest: len(data)}
                    return tenant, made.id
        except QuotaError:
            assert not fits
        return tenant, ""

    @rule(object=objects, expires=st.booleans())
    def delete_object(self, object: tuple[str, str], expires: bool) -> None:
        """It may be gone already, since two uploads may have given one."""
        tenant, id = object
        if not self.refers.pop(object, None):
            return
        self.metadata.objects.delete(tenant, id)
        settle(self.metadata, self.blobs, tenant)

    @rule(target=begun, tenant=TENANT, data=DATA)
    def begin(self, tenant: str, data: bytes) -> tuple[str, str, bytes]:
        """A resumable upload."""
        try:
            made = self.metadata.uploads.create(
                tenant, "model", name="", length=len(data), metadata={}, expires=datetime.now(UTC) + HOUR, quota=QUOTA
            )
        except QuotaError:
            assert self.used(tenant) + len(data) > QUOTA.bytes
            return tenant, "", b""
        self.counted[tenant, made.id], self.sent[tenant, made.id] = len(data), b""
        self.uploads.add((tenant, made.id))
        return tenant, made.id, data

    @rule(upload=begun, size=st.integers(1, 9))
    def send(self, upload: tuple[str, str, bytes], size: int) -> None:
        """A piece, perhaps the last one: then its bytes are a blob."""
        tenant, id, data = upload
        if (tenant, id) not in self.sent:
            return
        sent = self.sent[tenant, id]
        piece = data[len(sent) : len(sent) + size]
        uploads.append(self.metadata, self.blobs, tenant, id, len(sent), piece)
        self.sent[tenant, id] = sent + piece
        if sent + piece == data:
            done = uploads.complete(self.metadata, self.blobs, tenant, id)
            assert done.sha256 is not None
            self.refers[tenant, id] = {done.sha256: len(data)}
            del self.sent[tenant, id], self.counted[tenant, id]

    @rule(target=objects, upload=begun)
    def use(self, upload: tuple[str, str, bytes]) -> tuple[str, str]:
        """A model of an upload that is complete: from now on the model alone keeps its bytes."""
        tenant, id, data = upload
        if (tenant, id) not in self.refers:
            return tenant, ""
        (digest,) = self.refers[tenant, id]
        with self.account(tenant) as account:
            account.keep(digest)
            made, _ = self.metadata.objects.create(tenant, "model", digest=digest, origin=id, **FIELDS)
        for owner, other in [row for row in self.refers if row[0] == tenant and row[1].startswith("upl_")]:
            if digest in self.refers[owner, other]:
                del self.refers[owner, other]
        self.refers[tenant, made.id] = {digest: len(data)}
        return tenant, made.id

    @rule(upload=consumes(begun))
    def give_up(self, upload: tuple[str, str, bytes]) -> None:
        """An upload, in whatever state."""
        tenant, id, _ = upload
        if id and (tenant, id) not in self.expired:
            uploads.discard(self.metadata, self.blobs, tenant, id)
            self.uploads.discard((tenant, id))
            for of in (self.refers, self.counted, self.sent):
                of.pop((tenant, id), None)

    @rule(target=running, inputs=st.lists(objects, min_size=1, max_size=2), reserved=st.integers(0, 20))
    def start(self, inputs: list[tuple[str, str]], reserved: int) -> tuple[str, str]:
        """A job on objects of one tenant that are there."""
        tenant = inputs[0][0]
        digests = {id: d for owner, id in inputs if owner == tenant for d in self.refers.get((owner, id), {})}
        try:
            job, _ = self.metadata.jobs.create(
                tenant, "sweep", request={}, inputs=digests, reserved=reserved, quota=QUOTA
            )
        except QuotaError:  # so few bytes are LEAST, or fewer
            assert self.used(tenant) + reserved > QUOTA.bytes
            return tenant, ""
        sizes = {digest: self.refers[tenant, id][digest] for id, digest in digests.items()}
        self.refers[tenant, job.id], self.counted[tenant, job.id] = sizes, reserved
        return tenant, job.id

    @rule(target=finished, job=consumes(running), files=st.lists(DATA, max_size=2), pins=st.booleans())
    def finish(self, job: tuple[str, str], files: list[bytes], pins: bool) -> tuple[str, str]:
        """With files, which take what was reserved for them first; it fails where there is no room for more."""
        tenant, id = job
        if not id:
            return job
        names, room = {f"{number}": data for number, data in enumerate(files)}, self.used(tenant, besides=job)
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder, self.account(tenant, id) as account:
            for name, data in names.items():
                Path(folder, name).write_bytes(data)
            try:
                kept = dict(account.store_all(Path(folder)))
                if pins:
                    self.metadata.jobs.pin(id, {f"part/{name}": digest for name, digest in kept.items()})
                self.metadata.jobs.finish(id, "succeeded", artifacts=kept)
                self.refers[job] = {kept[name]: len(data) for name, data in names.items()}
            except QuotaError:
                assert room + sum(map(len, files)) > QUOTA.bytes
                self.metadata.jobs.finish(id, "failed", error={})
                self.refers[job] = {}
        settle(self.metadata, self.blobs, tenant)
        del self.counted[job]
        return job

    @rule(job=consumes(finished))
    def delete_job(self, job: tuple[str, str]) -> None:
        """A finished job."""
        tenant, id = job
        if id:
            self.metadata.jobs.delete(tenant, id)
            settle(self.metadata, self.blobs, tenant)
            del self.refers[job]

    @rule(tenant=TENANT, data=DATA, stage=st.sampled_from(["reserved", "written", "held", "placed"]))
    def die(self, tenant: str, data: bytes, stage: str) -> None:
        """The process dies while it stores something."""
        account = self.account(tenant)
        try:
            room = account.reserve(len(data))
        except QuotaError:
            return
        context = self.blobs.writer(room)
        self.dead.append((room, context if stage != "reserved" else None))
        if stage == "reserved":
            return
        writer = context.__enter__()
        writer.write(data)
        if stage == "written":
            return
        key = tenant, f"dead {room.id}"
        if stage == "placed":
            writer.commit()
        else:
            room.hold(writer.digest, len(data))
        self.refers[key] = {writer.digest: len(data)}

    @rule()
    def restart(self) -> None:
        """What dead processes reserved is given up, and what they wrote is removed."""
        abandon(self.metadata, self.blobs, datetime.now(UTC) + HOUR)
        for room, context in self.dead:
            self.refers.pop((room.tenant, f"dead {room.id}"), None)
            if context:
                context.__exit__(None, None, None)
        self.dead = []

    @rule()
    def sweep_now(self) -> None:
        """There is nothing to do: what is not referred to is gone, and others may still be writing."""
        assert sweep(self.metadata, self.blobs, datetime.now(UTC), HOUR) == NOTHING

    @rule()
    def sweep_after_the_uploads_have_expired(self) -> None:
        """They go, complete or not."""
        self.restart()
        gone = self.uploads - self.expired
        sweep(self.metadata, self.blobs, datetime.now(UTC) + 2 * HOUR, HOUR)
        self.expired |= gone
        for row in gone:
            for of in (self.refers, self.counted, self.sent):
                of.pop(row, None)

    @invariant()
    def accounts_bear_what_is_on_disk(self) -> None:
        """At every moment, at least; and nothing else when nothing is being written."""
        usage = {tenant: self.metadata.keys.usage(tenant).bytes for tenant in TENANTS}
        assert usage == {tenant: self.used(tenant) for tenant in TENANTS}
        assert max(usage.values()) <= QUOTA.bytes + max([0, *(room.granted for room, _ in self.dead)])
        disk = on_disk(self.root)
        assert disk <= sum(usage.values())
        if not self.dead:
            sizes = {digest: size for digests in self.refers.values() for digest, size in digests.items()}
            assert disk == sum(sizes.values()) + sum(map(len, self.sent.values()))
            assert dict(self.blobs.listing()) == sizes


TestAccounts = Accounts.TestCase
TestAccounts.settings = examples(6, stateful_step_count=25, phases=(Phase.reuse, Phase.generate))


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    """In a folder."""
    return LocalBlobs(tmp_path / "blobs")


def stored(metadata: Metadata, blobs: LocalBlobs, tenant: str, data: bytes, quota: Quota | None, announced: int) -> str:
    """The id of a model of these bytes."""
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
    """Eight at a time, of which three have room, whether they say how much they send or not."""
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
            assert metadata.keys.usage("acme").bytes <= quota.bytes + 3 * 10_000  # a blob that is being placed: twice

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


def on_disk_now(folder: Path) -> int:
    """As `on_disk`, while files come and go: those that went while it looked are left out."""

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
    """With and without its length; what had arrived is gone."""
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
    """How large they will be is a guess."""
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
    """Rows cost as well: a model, an upload and a job are one each."""
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
        with pytest.raises(StorageUnavailableError, match="has been given up; send it again"):
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
