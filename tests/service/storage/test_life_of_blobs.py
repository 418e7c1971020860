"""Any sequence of uploads, jobs, deletions and sweeps beside a model of them: what is referred to is there, no more."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from service.settings import load_settings
from service.storage.garbage import sweep
from service.storage.local import LocalBlobs
from service.storage.metadata import open_metadata
from tests.properties import examples

HOUR = timedelta(hours=1)
MEMORY = Path("/dev/shm")  # syncing costs nothing there
DATA = st.integers(0, 4).map(lambda number: bytes([number]) * (number + 1))


class LifeOfBlobs(RuleBasedStateMachine):
    """The model: who refers to which digest."""

    objects = Bundle("objects")
    running = Bundle("running")
    finished = Bundle("finished")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.metadata = open_metadata(load_settings(data_dir=self._folder.name))
        self.metadata.keys.create("acme", "0" * 64)
        self.blobs = LocalBlobs(Path(self._folder.name) / "blobs", self.metadata.ledger)
        self.refers: dict[str, set[str]] = {}
        self.stored: dict[str, int] = {}

    def teardown(self) -> None:
        """Close the database."""
        self.metadata.close()
        self._folder.cleanup()

    def put(self, data: bytes) -> str:
        """Store bytes."""
        with self.blobs.writer() as writer:
            writer.write(data)
            writer.commit()
        self.stored[writer.digest] = len(data)
        return writer.digest

    @rule(data=DATA)
    def store_and_forget(self, data: bytes) -> None:
        """An upload that is given up."""
        self.put(data)

    @rule(target=objects, data=DATA)
    def upload(self, data: bytes) -> str:
        """A model; the same bytes give the same one."""
        digest = self.put(data)
        made, _ = self.metadata.objects.create("acme", "model", name="", digest=digest, media="", description={})
        self.refers[made.id] = {digest}
        return made.id

    @rule(id=objects)
    def delete_object(self, id: str) -> None:
        """It may be gone already, since two uploads may have given one."""
        if self.refers.pop(id, None):
            self.metadata.objects.delete("acme", id)

    @rule(target=running, ids=st.lists(objects, max_size=3))
    def start(self, ids: list[str]) -> str:
        """A job on objects that are there."""
        inputs = {id: next(iter(self.refers[id])) for id in ids if id in self.refers}
        job, _ = self.metadata.jobs.create("acme", "sweep", request={}, inputs=inputs)
        self.refers[job.id] = set(inputs.values())
        return job.id

    @rule(id=running, data=DATA)
    def pin(self, id: str, data: bytes) -> None:
        """A part of a job's result."""
        digest = self.put(data)
        self.metadata.jobs.pin(id, {digest: digest})
        self.refers[id] |= {digest}

    @rule(target=finished, id=consumes(running), files=st.lists(DATA, max_size=2))
    def finish(self, id: str, files: list[bytes]) -> str:
        """A job with its files."""
        artifacts = {f"{number}": self.put(data) for number, data in enumerate(files)}
        self.metadata.jobs.finish(id, "succeeded", artifacts=artifacts)
        self.refers[id] = set(artifacts.values())
        return id

    @rule(id=consumes(finished))
    def delete_job(self, id: str) -> None:
        """A finished job."""
        self.metadata.jobs.delete("acme", id)
        del self.refers[id]

    @rule()
    def sweep_at_once(self) -> None:
        """Within the grace period nothing goes."""
        assert sweep(self.metadata, self.blobs, datetime.now(UTC), HOUR).blobs == 0

    @rule()
    def sweep_later(self) -> None:
        """After it everything goes that nothing refers to."""
        wanted = set().union(*self.refers.values())
        gone = {digest: size for digest, size in self.stored.items() if digest not in wanted}
        swept = sweep(self.metadata, self.blobs, datetime.now(UTC) + 2 * HOUR, HOUR)
        assert (swept.blobs, swept.bytes) == (len(gone), sum(gone.values()))
        self.stored = {digest: size for digest, size in self.stored.items() if digest in wanted}

    @invariant()
    def the_store_is_what_it_should_be(self) -> None:
        """No blob too few, none too many, and the tenant's bytes add up."""
        assert dict(self.blobs.listing()) == self.stored
        assert self.metadata.ledger.total() == (len(self.stored), sum(self.stored.values()))
        kept = [digest for id, digests in self.refers.items() if id.startswith("mod_") for digest in digests]
        assert self.metadata.keys.usage("acme").bytes >= sum(self.stored[digest] for digest in kept)


TestLifeOfBlobs = LifeOfBlobs.TestCase
TestLifeOfBlobs.settings = examples(8, stateful_step_count=20)
