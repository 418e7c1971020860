"""What a crash leaves between jobs and workflows is repaired, once, and nothing else is touched."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from service.jobs import engine, housekeeping
from service.jobs.housekeeping import RESTARTS, Housekeeper, Reconciler
from service.settings import load_settings
from service.storage.metadata import Metadata
from service.storage.records import JobRecord


class RecordingEngine:
    """Dispatcher and queues in one: workflows by id with their states, and a record of what is done to them."""

    def __init__(self) -> None:
        self.workflows: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.done: list[str] = []
        self.started: set[str] = set()

    def states(self, ids: list[str]) -> dict[str, str]:
        return {id: self.workflows[id] for id in ids if id in self.workflows}

    def failure(self, id: str) -> str:
        return self.failures.get(id, "")

    def send(self, job: JobRecord) -> None:
        self.done.append("send")
        self.workflows[job.id] = "ENQUEUED"

    def cancel(self, id: str) -> None:
        self.done.append("cancel")
        self.workflows[id] = "CANCELLED"

    def forget(self, ids: list[str]) -> None:
        for id in ids:
            self.done.append("forget")
            del self.workflows[id]

    def jobs(self) -> set[str]:
        return {id for id, state in self.workflows.items() if state in ("ENQUEUED", "PENDING")}

    def ended(self, after: str, limit: int) -> list[str]:
        return sorted(id for id, state in self.workflows.items() if id > after and id not in self.jobs())[:limit]

    def started_before(self, seconds: float) -> set[str]:
        return self.started


Make = Callable[..., JobRecord]


@pytest.fixture
def make(metadata: Metadata, blob: Callable[[str], str]) -> Make:
    """Makes jobs of acme that are an hour old."""

    def made(state: str = "queued") -> JobRecord:
        job, _ = metadata.jobs.create("acme", "conversion", request={"options": {}}, inputs={})
        if state == "running":
            metadata.jobs.start(job.id)
        elif state != "queued":
            metadata.jobs.finish(job.id, state)  # type: ignore[arg-type]
        return job

    return made


@pytest.fixture
def reconciler(metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reconciler:
    """A reconciler with an engine of its own, `reconciler._queues`."""
    found = RecordingEngine()
    monkeypatch.setattr(housekeeping, "NEW", timedelta(seconds=-1))
    return Reconciler(metadata, found, found, load_settings(data_dir=tmp_path))  # type: ignore[arg-type]


def engine_of(reconciler: Reconciler) -> RecordingEngine:
    """The engine of a reconciler."""
    return reconciler._dispatcher  # type: ignore[return-value]


def state(metadata: Metadata, job: JobRecord) -> str:
    """The state of a job, as people see it."""
    return metadata.jobs.get("acme", job.id).state


def test_accepted_and_never_sent(reconciler: Reconciler, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make()
    monkeypatch.setattr(housekeeping, "NEW", timedelta(minutes=1))
    assert reconciler.jobs() == 0  # whoever accepted it is about to
    monkeypatch.setattr(housekeeping, "NEW", timedelta(seconds=-1))
    assert reconciler.jobs() == 1 and engine_of(reconciler).workflows == {job.id: "ENQUEUED"}
    assert reconciler.jobs() == 0


def test_accepted_and_never_sent_before_the_clock_was_set_back(
    reconciler: Reconciler, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that starts with a clock which is behind."""
    job = make()
    monkeypatch.setattr(housekeeping, "NEW", timedelta(seconds=2))
    monkeypatch.setattr(housekeeping, "datetime", Mock(now=lambda zone: datetime.now(zone) - timedelta(hours=3)))
    assert reconciler.jobs() == 1 and engine_of(reconciler).workflows == {job.id: "ENQUEUED"}


@pytest.mark.parametrize("ended", ["ERROR", "SUCCESS"])
def test_a_workflow_that_ended_without_its_job(
    reconciler: Reconciler, metadata: Metadata, make: Make, ended: str
) -> None:
    """It is restarted a few times, or without end where the machine was short of something."""
    job, found = make("running"), engine_of(reconciler)
    found.failures[job.id] = "OperationalError: [Errno 24] Too many open files"
    for _ in range(3 * RESTARTS):
        found.workflows[job.id] = ended
        assert reconciler.jobs() == 1 and found.done[-2:] == ["forget", "send"]
    found.failures[job.id] = "ValueError: ours"
    for _ in range(RESTARTS):
        found.workflows[job.id] = ended
        assert reconciler.jobs() == 1 and state(metadata, job) == "running"
    found.workflows[job.id] = ended
    assert reconciler.jobs() == 1 and state(metadata, job) == "failed"
    error = metadata.jobs.get("acme", job.id).error
    assert error is not None and error["type"] == "internal" and "without an answer" in error["what"]


def test_a_job_that_finished_while_it_was_looked_at_stays_as_it_is(
    reconciler: Reconciler, metadata: Metadata, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, found = make("running"), engine_of(reconciler)

    def finishes(ids: list[str]) -> dict[str, str]:
        metadata.jobs.finish(job.id, "succeeded")
        return {job.id: "SUCCESS"}

    monkeypatch.setattr(found, "states", finishes)
    assert reconciler.jobs() == 0 and found.done == [] and state(metadata, job) == "succeeded"


def test_ends_of_workflows_that_end_a_job(reconciler: Reconciler, metadata: Metadata, make: Make) -> None:
    jobs = {"CANCELLED": make("running"), "MAX_RECOVERY_ATTEMPTS_EXCEEDED": make("running")}
    engine_of(reconciler).workflows = {job.id: ended for ended, job in jobs.items()}
    assert reconciler.jobs() == 2
    assert [state(metadata, job) for job in jobs.values()] == ["cancelled", "failed"]


def test_workflows_of_jobs_that_are_over_are_cancelled_in_the_second_look(
    reconciler: Reconciler, metadata: Metadata, make: Make
) -> None:
    found = engine_of(reconciler)
    going, over = make("running"), make("cancelled")
    found.workflows = {going.id: "PENDING", over.id: "PENDING", "con_of_a_database_of_before": "ENQUEUED"}
    assert reconciler.workflows() == 0 and reconciler.workflows() == 2
    assert found.workflows[going.id] == "PENDING" and found.workflows[over.id] == "CANCELLED"
    ending = make("succeeded")
    found.workflows[ending.id] = "PENDING"
    assert reconciler.workflows() == 0
    found.workflows[ending.id] = "SUCCESS"
    assert reconciler.workflows() == 0 and found.workflows[ending.id] == "SUCCESS"


def test_what_was_taken_and_not_started_is_started(reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch) -> None:
    restarted: list[str] = []
    monkeypatch.setattr(engine, "executing", lambda: {"con_runs"})
    monkeypatch.setattr(engine, "start_again", lambda id, executor: restarted.append(id))
    engine_of(reconciler).started = {"con_runs", "con_stranded"}
    assert reconciler.stranded() == 0 and reconciler.stranded() == 1 and restarted == ["con_stranded"]
    engine_of(reconciler).started = {"con_runs"}
    assert reconciler.stranded() == 0


def test_workflows_of_jobs_that_are_gone_are_forgotten(
    reconciler: Reconciler, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "PAGE", 2)
    kept = [make("succeeded") for _ in range(3)]
    found = engine_of(reconciler)
    found.workflows = {job.id: "SUCCESS" for job in kept} | {f"con_gone_{number}": "CANCELLED" for number in range(3)}
    found.workflows["con_waits"] = "ENQUEUED"
    assert reconciler.forget() == 3 and set(found.workflows) == {job.id for job in kept} | {"con_waits"}


def test_what_fails_is_logged_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    done: list[datetime] = []

    def fails() -> None:
        done.append(datetime.now(UTC))
        raise OSError("away")

    keeper = Housekeeper((fails, 5.0), (lambda: done.append(datetime.now(UTC)), 600.0))
    keeper.start()
    keeper.stop()
    keeper.join(10)
    assert len(done) == 2 and "housekeeping failed" in caplog.text
