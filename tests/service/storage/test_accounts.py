"""Accounts compared with the disk: every byte there is charged to a tenant, and no byte that is gone is."""

import os
import tempfile
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from service.errors import QuotaError
from service.settings import Quota, load_settings
from service.storage import uploads
from service.storage.accounts import Account, settle
from service.storage.garbage import Swept, abandon, sweep
from service.storage.ledger import Reservation
from service.storage.local import LocalBlobs
from service.storage.metadata import open_metadata
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
    """Bytes of all files; several names of one file count once."""
    files = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(files.values())


class Accounts(RuleBasedStateMachine):
    """Two tenants store the same few blobs by uploads, resumable uploads and jobs, which are refused, deleted, expire
    or are interrupted.

    The model: which digests each row of which tenant refers to, and what else is counted.
    """

    objects = Bundle("objects")
    resumable = Bundle("resumable")
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
        self.held: dict[tuple[str, str], dict[str, int]] = {}  # of the dead, those whose bytes are not in place yet

    def teardown(self) -> None:
        """Close everything."""
        for _, context in self.dead:
            if context:
                context.__exit__(None, None, None)
        self.metadata.close()
        self._folder.cleanup()

    def account(self, tenant: str, job: str = "") -> Account:
        """An open account."""
        return Account(self.metadata, self.blobs, tenant, QUOTA, job)

    def used(self, tenant: str, besides: tuple[str, str] | None = None) -> int:
        """How many bytes a tenant has, by the model."""
        blobs = {d: n for (owner, _), digests in self.refers.items() if owner == tenant for d, n in digests.items()}
        others = sum(n for row, n in self.counted.items() if row[0] == tenant and row != besides)
        return sum(blobs.values()) + others + sum(room.granted for room, _ in self.dead if room.tenant == tenant)

    def counted_once(self) -> int:
        """Bytes that lie there twice and count once: held by a dead process, and stored by its tenant again."""
        found = {(row[0], each): size for row, digests in self.held.items() for each, size in digests.items()}
        return sum(size for (tenant, each), size in found.items() if self.owners(tenant, each) > 1)

    def owners(self, tenant: str, digest: str) -> int:
        """How many rows of a tenant refer to a digest."""
        return sum(digest in digests for (owner, _), digests in self.refers.items() if owner == tenant)

    def charged(self, tenant: str) -> set[str]:
        """The digests that are charged to a tenant."""
        return {digest for (owner, _), digests in self.refers.items() if owner == tenant for digest in digests}

    @rule(target=objects, tenant=TENANT, data=DATA, announced=st.booleans(), accepted=st.booleans())
    def upload(self, tenant: str, data: bytes, announced: bool, accepted: bool) -> tuple[str, str]:
        """Send a body, with or without its length in advance. A refused one leaves nothing."""
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
        """Delete an object, which may be gone already, since two uploads may have given one."""
        tenant, id = object
        if not self.refers.pop(object, None):
            return
        self.metadata.objects.delete(tenant, id)
        settle(self.metadata, self.blobs, tenant)

    @rule(target=resumable, tenant=TENANT, data=DATA)
    def begin(self, tenant: str, data: bytes) -> tuple[str, str, bytes]:
        """Begin a resumable upload."""
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

    @rule(upload=resumable, size=st.integers(1, 9))
    def send(self, upload: tuple[str, str, bytes], size: int) -> None:
        """Send a piece. After the last one the bytes are a blob."""
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

    @rule(target=objects, upload=resumable)
    def use(self, upload: tuple[str, str, bytes]) -> tuple[str, str]:
        """Make a model of an upload that is complete. From now on the model alone keeps its bytes."""
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

    @rule(upload=consumes(resumable))
    def give_up(self, upload: tuple[str, str, bytes]) -> None:
        """Give an upload up, in whatever state it is."""
        tenant, id, _ = upload
        if id and (tenant, id) not in self.expired:
            uploads.discard(self.metadata, self.blobs, tenant, id)
            self.uploads.discard((tenant, id))
            for of in (self.refers, self.counted, self.sent):
                of.pop((tenant, id), None)

    @rule(target=running, inputs=st.lists(objects, min_size=1, max_size=2), reserved=st.integers(0, 20))
    def start(self, inputs: list[tuple[str, str]], reserved: int) -> tuple[str, str]:
        """Start a job on objects of one tenant."""
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
        """Finish a job with files, for which its own reserve is used first.

        It fails where there is no room for more.
        """
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
        """Delete a finished job."""
        tenant, id = job
        if id:
            self.metadata.jobs.delete(tenant, id)
            settle(self.metadata, self.blobs, tenant)
            del self.refers[job]

    @rule(tenant=TENANT, data=DATA, stage=st.sampled_from(["reserved", "written", "held", "placed"]))
    def die(self, tenant: str, data: bytes, stage: str) -> None:
        """Have the process die while it stores something."""
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
            self.held[key] = {writer.digest: len(data)}
        self.refers[key] = {writer.digest: len(data)}

    @rule()
    def restart(self) -> None:
        """Start again: what dead processes reserved is released, and what they wrote is removed."""
        abandon(self.metadata, self.blobs, datetime.now(UTC) + HOUR)
        for room, context in self.dead:
            self.refers.pop((room.tenant, f"dead {room.id}"), None)
            if context:
                context.__exit__(None, None, None)
        self.dead, self.held = [], {}

    @rule()
    def sweep_now(self) -> None:
        """Sweep, which has nothing to do: everything has a reference, or somebody may still be writing it."""
        assert sweep(self.metadata, self.blobs, datetime.now(UTC), HOUR) == NOTHING

    @rule()
    def sweep_after_the_uploads_have_expired(self) -> None:
        """Sweep when uploads have expired: they are deleted, complete or not."""
        self.restart()
        gone = self.uploads - self.expired
        sweep(self.metadata, self.blobs, datetime.now(UTC) + 2 * HOUR, HOUR)
        self.expired |= gone
        for row in gone:
            for of in (self.refers, self.counted, self.sent):
                of.pop(row, None)

    @invariant()
    def accounts_bear_what_is_on_disk(self) -> None:
        """Accounts count at least what is on disk at every moment, and exactly that when nothing is being written.

        Of the same bytes that a tenant stores twice at once, the first has the charge, and the others a reservation
        until theirs are in place: so a file of the first counts no longer, until it is removed.
        """
        usage = {tenant: self.metadata.keys.usage(tenant).bytes for tenant in TENANTS}
        assert usage == {tenant: self.used(tenant) for tenant in TENANTS}
        assert max(usage.values()) <= QUOTA.bytes + max([0, *(room.granted for room, _ in self.dead)])
        disk = on_disk(self.root)
        assert disk <= sum(usage.values()) + self.counted_once()
        if not self.dead:
            sizes = {digest: size for digests in self.refers.values() for digest, size in digests.items()}
            assert disk == sum(sizes.values()) + sum(map(len, self.sent.values()))
            assert dict(self.blobs.listing()) == sizes


TestAccounts = Accounts.TestCase
TestAccounts.settings = examples(6, stateful_step_count=25, phases=(Phase.reuse, Phase.generate))


def test_what_takes_the_place_of_a_file_is_left_out(tmp_path: Path) -> None:
    metadata = open_metadata(load_settings(data_dir=tmp_path))
    metadata.keys.create("acme", "0" * 64)
    blobs, folder = LocalBlobs(tmp_path / "blobs"), tmp_path / "out"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"of another tenant")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "file").write_bytes(b"of the task")
    os.mkfifo(folder / "pipe")
    seen = mock.patch.multiple(Path, is_symlink=lambda path: False, is_file=lambda path: True)
    with seen, Account(metadata, blobs, "acme") as account:
        found = account.store_all(folder)
        assert [*found] == ["file"] and b"".join(blobs.read(found["file"])) == b"of the task"
    metadata.close()
