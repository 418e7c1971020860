"""Chores that repair what a crash left behind, so that accepted jobs are finished and finished ones cost nothing.

Every unfinished job gets a workflow that runs or waits, and no other job keeps one. Reservations of bytes that this
process is writing are renewed. What has expired is deleted. Every process does all of this, at any time and beside
others: each chore may be repeated.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from service.jobs import engine
from service.jobs.dispatch import Dispatcher, queue_of
from service.jobs.queues import Queues
from service.problems import JobError
from service.settings import Settings
from service.shortage import says_short
from service.storage.blobs import Blobs
from service.storage.garbage import sweep
from service.storage.metadata import Metadata
from service.storage.records import UNFINISHED, JobRecord

RENEW_EVERY, JOBS_EVERY, SWEEP_EVERY = 20.0, 5.0, 600.0
NEW = timedelta(seconds=2)  # whoever accepted a job is about to send it
RESTARTS = 3  # of a job whose workflow ended without finishing it
STRANDED = 20.0  # seconds after which a process executes what it has taken
PAGE = 500  # workflows in one query
KILLER = "the job took its worker down again and again"
UNANSWERED = "the job ended without an answer"
log = logging.getLogger(__name__)


class Reconciler:
    """Compares the jobs that people see with the workflows of the engine, and mends what a crash left between them."""

    def __init__(self, metadata: Metadata, dispatcher: Dispatcher, queues: Queues, settings: Settings):
        self._metadata, self._dispatcher, self._queues, self._settings = metadata, dispatcher, queues, settings
        self._restarts: Counter[str] = Counter()
        self._over: set[str] = set()
        self._stranded: set[str] = set()

    def jobs(self) -> int:
        """Send jobs that have no workflow, and restart those whose workflow ended without finishing them.

        Returns how many.
        """
        now = datetime.now(UTC)
        unfinished = self._metadata.jobs.unfinished()
        states = self._dispatcher.states([job.id for job in unfinished])
        return sum(self._mend(job, states.get(job.id), now) for job in unfinished)

    def _mend(self, job: JobRecord, state: str | None, now: datetime) -> bool:
        is_new = timedelta(0) <= now - job.created <= NEW  # a job from the future is not: the clock was set back
        if state in ("ENQUEUED", "PENDING", "DELAYED") or (state is None and is_new):
            return False
        if state is None:
            self._dispatcher.send(job)
            return True
        if self._metadata.jobs.tenant_of(job.id) is None:  # finished meanwhile
            return False
        if state == "CANCELLED":
            self._metadata.jobs.finish(job.id, "cancelled", expires=self._settings.result_expiry(now))
        elif state == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
            self._fail(job, KILLER, now)
        else:
            reason = self._dispatcher.failure(job.id)
            self._restarts[job.id] += not says_short(reason)
            log.warning("job %s: its workflow ended (%s)", job.id, reason or state)
            if self._restarts[job.id] > RESTARTS:
                self._fail(job, UNANSWERED, now)
            else:
                self._dispatcher.forget([job.id])
                self._dispatcher.send(job)
        return True

    def _fail(self, job: JobRecord, what: str, now: datetime) -> None:
        error = JobError("internal", what, "send it again; if it fails again, tell the operator the job's id")
        self._metadata.jobs.finish(job.id, "failed", error=error.to_json(), expires=self._settings.result_expiry(now))

    def workflows(self) -> int:
        """Cancel the workflows of jobs that are over. Returns how many there were.

        There are some where the process that cancelled a job died on the way, or where the engine did not answer.
        """
        started = list(self._queues.jobs())
        over = set(started)
        for start in range(0, len(started), PAGE):
            over -= self._metadata.jobs.among(started[start : start + PAGE], UNFINISHED)
        twice, self._over = over & self._over, over  # in two looks: it may be about to end
        for id in twice:
            self._dispatcher.cancel(id)
        return len(twice)

    def stranded(self) -> int:
        """Start workflows that this process has taken and does not execute. Returns how many there were.

        There are some where the machine was short of something at that moment.
        """
        missing = self._queues.started_before(STRANDED) - engine.executing()
        twice, self._stranded = missing & self._stranded, missing
        for id in twice:
            log.warning("workflow %s was taken and not started; it starts now", id)
            engine.start_again(id, self._settings.executor_id)
        return len(twice)

    def forget(self) -> int:
        """Remove the workflows of jobs that are gone. Returns how many."""
        gone, after = 0, ""
        while some := self._queues.ended(after, PAGE):
            absent = set(some) - self._metadata.jobs.among(some)
            self._dispatcher.forget(sorted(absent))
            gone, after = gone + len(absent), some[-1]
        return gone


def take_over(owner: str, metadata: Metadata, queues: Queues) -> None:
    """Put the workflows that a process had taken back on the queues of all processes, when it is gone."""
    engine.recover(owner)
    queues.give_back(owner, {job.id: queue_of(job.request) for job in metadata.jobs.unfinished()})


def tidy(metadata: Metadata, blobs: Blobs, settings: Settings) -> None:
    """Remove what has expired, and the bytes that nothing refers to."""
    swept = sweep(metadata, blobs, datetime.now(UTC), timedelta(minutes=settings.garbage_grace_minutes))
    if swept.objects or swept.uploads or swept.jobs or swept.blobs:
        log.info("swept", extra=vars(swept))


class Housekeeper(threading.Thread):
    """A thread that runs each task every so many seconds.

    A task that fails is logged and runs again at its next turn.
    """

    def __init__(self, *tasks: tuple[Callable[[], object], float]):
        super().__init__(name="housekeeper", daemon=True)
        self._ended = threading.Event()
        self._tasks = tasks

    def run(self) -> None:
        """Run the tasks until stopped, all of them at once after a start."""
        waited = [every for _, every in self._tasks]
        while True:
            for index, (task, every) in enumerate(self._tasks):
                if waited[index] >= every:
                    waited[index] = 0
                    try:
                        task()
                    except Exception:
                        log.exception("housekeeping failed; it is tried again")
            if self._ended.wait(JOBS_EVERY):
                return
            waited = [seconds + JOBS_EVERY for seconds in waited]

    def stop(self) -> None:
        """Stop once the current task is done."""
        self._ended.set()
