"""Sends jobs to their queues, cancels them, and reads what they report. Works in a process that runs none."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from dbos import DBOSClient, error
from sqlalchemy.exc import SQLAlchemyError

from service.errors import StorageUnavailableError
from service.jobs.engine import CONVERT, GPU, VERSION
from service.storage.records import Job

P = ParamSpec("P")
R = TypeVar("R")
EVENTS = "events"  # the stream of a workflow
WORK_CLASS, WORK_NAME = "Work", "work"
BATCH = 500  # ids in one query
DONE = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


def queue_of(request: Mapping[str, Any]) -> str:
    """The queue of a job."""
    return GPU if request["options"].get("provider") == "cuda" else CONVERT


def _reached(method: Callable[P, R]) -> Callable[P, R]:
    """Errors of the database become those of the service."""

    @wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except SQLAlchemyError as failure:
            reason = " ".join(str(getattr(failure, "orig", None) or failure).split())
            raise StorageUnavailableError(
                f"the engine of jobs does not answer: {reason}", "try again later", part="the engine of jobs"
            ) from failure

    return wrapped


class Dispatcher:
    """A client of the engine. Methods block, but for `events`. Without its database: StorageUnavailableError."""

    def __init__(self, client: DBOSClient, poll_seconds: float = 0.3):
        self._client, self._poll = client, poll_seconds

    @_reached
    def send(self, job: Job) -> None:
        """Put a job on its queue; its id is the workflow's, so that sending it again changes nothing."""
        self._client.enqueue(
            {
                "workflow_name": job.kind,
                "class_name": WORK_CLASS,
                "instance_name": WORK_NAME,
                "workflow_id": job.id,
                "queue_name": queue_of(job.request),
                "queue_partition_key": job.tenant,
                "app_version": VERSION,
            },
            job.id,
        )

    @_reached
    def cancel(self, id: str) -> None:
        """Cancel a job and its shards; what runs notices within a second, and kills its child."""
        self._client.cancel_workflow(id, cancel_children=True)

    @_reached
    def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """What the engine says of jobs: ENQUEUED, PENDING, DELAYED, or one of DONE. What it does not know is absent."""
        found: dict[str, str] = {}
        for start in range(0, len(ids), BATCH):
            some = list(ids[start : start + BATCH])
            known = self._client.list_workflows(workflow_ids=some, load_input=False, load_output=False)
            found |= {workflow.workflow_id: workflow.status for workflow in known}
        return found

    @_reached
    def forget(self, ids: list[str]) -> None:
        """Remove workflows with their shards and streams."""
        if ids:
            self._client.delete_workflows(ids, delete_children=True)

    @_reached
    def forget_before(self, time: datetime) -> None:
        """Remove workflows that ended before a time: their jobs have expired."""
        ended = self._client.list_workflows(
            status=DONE, completed_before=time.isoformat(), load_input=False, load_output=False, limit=1000
        )
        self.forget([workflow.workflow_id for workflow in ended])

    @_reached
    def owners(self) -> set[str]:
        """Executors that have running jobs or shards."""
        running = self._client.list_workflows(status="PENDING", load_input=False, load_output=False)
        return {workflow.executor_id for workflow in running if workflow.executor_id}

    @_reached
    def ping(self) -> None:
        """Raises where the engine's database does not answer."""
        self._client.check_connection()

    @_reached
    def queue_lengths(self) -> Mapping[str, int]:
        """How many jobs wait, by queue."""
        found: dict[str, int] = {}
        for workflow in self._client.list_queued_workflows(load_input=False, status="ENQUEUED"):
            name = workflow.queue_name or ""
            found[name] = found.get(name, 0) + 1
        return found

    async def events(self, id: str, offset: int) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """Numbered events from `offset` on, as they come, until the job is over or the database away."""
        try:
            async for value in self._client.read_stream_async(
                id, EVENTS, offset=offset, polling_interval_sec=self._poll
            ):
                yield offset, value
                offset += 1
        except (error.DBOSNonExistentWorkflowError, SQLAlchemyError):
            return

    def close(self) -> None:
        """Close its connections."""
        self._client.destroy()
