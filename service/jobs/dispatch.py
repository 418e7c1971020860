"""Sends jobs to their queues, cancels them, and reads what they report, also in a process that runs no jobs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from dbos import DBOSClient, error
from sqlalchemy.exc import SQLAlchemyError

from graphpass.options.providers import provider_name
from service.jobs.engine import CONVERT, GPU, VERSION, reached
from service.storage.records import JobRecord

EVENTS = "events"  # the stream of a workflow
WORK_CLASS, WORK_NAME = "Work", "work"
BATCH = 500  # ids in one query


def queue_of(request: Mapping[str, Any]) -> str:
    """The queue of a job."""
    return GPU if provider_name(request["options"].get("provider") or "") == "cuda" else CONVERT


class Dispatcher:
    """A client of the engine. All methods but `events` block.

    They raise StorageUnavailableError where the engine's database does not answer.
    """

    def __init__(self, client: DBOSClient, poll_seconds: float = 0.3):
        self._client, self._poll = client, poll_seconds

    @reached
    def send(self, job: JobRecord) -> None:
        """Put a job on its queue. The job's id is the workflow's id, so sending a job again changes nothing."""
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

    @reached
    def cancel(self, id: str) -> None:
        """Cancel a job and its shards. What runs ends because the job is over (service/jobs/cancelling.py)."""
        self._client.cancel_workflow(id, cancel_children=True)

    @reached
    def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """The engine's states of these jobs: ENQUEUED, PENDING, SUCCESS, ERROR, CANCELLED or
        MAX_RECOVERY_ATTEMPTS_EXCEEDED. Jobs that the engine does not know are left out.
        """
        found: dict[str, str] = {}
        for start in range(0, len(ids), BATCH):
            some = list(ids[start : start + BATCH])
            known = self._client.list_workflows(workflow_ids=some, load_input=False, load_output=False)
            found |= {workflow.workflow_id: workflow.status for workflow in known}
        return found

    @reached
    def failure(self, id: str) -> str:
        """The text of the error that a workflow ended with; "" if there was none."""
        found = self._client.list_workflows(workflow_ids=[id], load_input=False)
        return str(found[0].error or "") if found else ""

    @reached
    def forget(self, ids: list[str]) -> None:
        """Remove workflows with their shards and streams."""
        if ids:
            self._client.delete_workflows(ids, delete_children=True)

    @reached
    def ping(self) -> None:
        """Raises where the engine's database does not answer."""
        self._client.check_connection()

    async def events(self, id: str, offset: int) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """Numbered events from `offset` on, as they come, until the job is over or the database does not answer."""
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
