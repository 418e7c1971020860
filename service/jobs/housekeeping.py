"""What keeps promises after a crash: jobs without a workflow are sent, and ended workflows end their jobs.

What is reserved for bytes that this process is writing is renewed. What has expired goes. Every process may do it, at
any time, beside others: all of it may be repeated.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from service.jobs.dispatch import Dispatcher
from service.problems import JobError
from service.settings import Settings
from service.storage.blobs import Blobs
from service.storage.garbage import sweep
from service.storage.metadata import Metadata

RENEW_EVERY, JOBS_EVERY, SWEEP_EVERY = 20.0, 5.0, 600.0
NEW = timedelta(seconds=2)  # whoever accepted a job is about to send it
ENDED = {  # workflows always finish their job; these did not
    "SUCCESS": "the job ended without an answer",
    "ERROR": "the job ended without an answer",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "the job took its worker down again and again",
}
log = logging.getLogger(__name__)


def reconcile(metadata: Metadata, dispatcher: Dispatcher, settings: Settings) -> int:
    """Send jobs that have no workflow; finish those whose workflow ended without them. How many were touched."""
    touched, now = 0, datetime.now(UTC)
    jobs = metadata.jobs.unfinished()
    states = dispatcher.states([job.id for job in jobs])
    for job in jobs:
        state = states.get(job.id)
        if state is None and now - job.created > NEW:
            dispatcher.send(job)
        elif state == "CANCELLED":
            metadata.jobs.finish(job.id, "cancelled", expires=settings.result_expiry(now))
        elif state in ENDED:
            error = JobError("internal", ENDED[state], "send it again; if it stays, tell the operator the job's id")
            metadata.jobs.finish(job.id, "failed", error=error.to_json(), expires=settings.result_expiry(now))
        else:
            continue
        touched += 1
    return touched


def tidy(metadata: Metadata, blobs: Blobs, dispatcher: Dispatcher, settings: Settings) -> None:
    """Remove what has expired, and the workflows of jobs that are gone."""
    now = datetime.now(UTC)
    swept = sweep(metadata, blobs, now, timedelta(minutes=settings.garbage_grace_minutes))
    if swept.objects or swept.uploads or swept.jobs or swept.blobs:
        log.info("swept", extra=vars(swept))
    if settings.result_ttl_hours:
        dispatcher.forget_before(now - timedelta(hours=settings.result_ttl_hours + 1))


class Housekeeper(threading.Thread):
    """Does all of it, every now and then; what fails is logged and tried again."""

    def __init__(self, renew: Callable[[], object], jobs: Callable[[], object], sweep: Callable[[], object]):
        super().__init__(name="housekeeper", daemon=True)
        self._ended = threading.Event()
        self._tasks = [(renew, RENEW_EVERY), (jobs, JOBS_EVERY), (sweep, SWEEP_EVERY)]

    def run(self) -> None:
        """Until stopped."""
        waited = [every for _, every in self._tasks]  # all at once after a start
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
        """Stop after what is being done."""
        self._ended.set()
