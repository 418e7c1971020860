"""What a job reports, as server-sent events that may be resumed, from whatever process the job runs in.

event: state      {"state": "running"}            the last one is a final state
event: progress   {"stage", "done", "total", "seconds_left"}
event: log        {"text"}
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from service.api.context import Service, ServiceDependency, Watcher, problems
from service.api.jobs import job_of
from service.api.responses import COLLECTIONS
from service.api.strictness import StrictRoute
from service.errors import NotFoundError, StorageError
from service.storage.records import FINISHED, JobKind

ALIVE_SECONDS = 15.0  # between comments, which keep proxies from closing the connection
LOOK_SECONDS = 0.5
LastId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Go on after this event.", pattern=r"^[0-9]{1,9}$")
]
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events until the job is finished.",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string", "description": "Its number: what Last-Event-ID takes."},
                        "event": {"type": "string", "enum": ["state", "progress", "log"]},
                        "data": {"type": "string", "description": "JSON."},
                    },
                    "required": ["id", "event", "data"],
                },
                "example": 'id: 7\nevent: progress\ndata: {"stage": "calibrate", "done": 2, "total": 5}\n\n',
            }
        },
    }
}


def routes(kind: JobKind) -> APIRouter:
    """The events of jobs of one kind."""
    router = APIRouter(prefix=f"/v1/{COLLECTIONS[kind]}", tags=[COLLECTIONS[kind]], route_class=StrictRoute)

    @router.get(
        "/{id}/events",
        summary="Watch it",
        response_class=StreamingResponse,
        responses=problems("not-found", also=STREAM),
    )
    async def events(id: str, service: ServiceDependency, tenant: Watcher, last: LastId = None) -> StreamingResponse:
        """Progress as server-sent events. The browser's EventSource cannot send a key: read it with fetch."""
        await asyncio.to_thread(job_of, service, tenant, id, kind)
        body = _beating(_events(service, tenant, id, int(last) + 1 if last else 0))
        return StreamingResponse(
            body, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )

    return router


async def _events(service: Service, tenant: str, id: str, offset: int) -> AsyncIterator[str]:
    """All events from `offset` on. The last one says the final state, even where no worker could write it."""
    last_state = ""
    while True:
        async for number, value in service.dispatcher.events(id, offset):
            offset = number + 1
            last_state = value["state"] if value["event"] == "state" else last_state
            yield _text(number, value)
        try:
            job = await asyncio.to_thread(service.metadata.jobs.get, tenant, id)
        except NotFoundError:  # deleted while it was watched
            return
        except StorageError:  # away for a while
            await asyncio.sleep(LOOK_SECONDS)
            continue
        if job.state in FINISHED:
            if last_state != job.state:
                yield _text(offset, {"event": "state", "state": job.state, "error": job.error})
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _beating(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """The events, and a comment every ALIVE_SECONDS while there are none."""
    yield ": graphpass\n\n"
    waiting: asyncio.Task[str] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({waiting}, timeout=ALIVE_SECONDS)
            if not done:
                yield ": still there\n\n"
                continue
            try:
                text = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield text
    finally:
        if waiting is not None:
            waiting.cancel()


def _text(number: int, value: dict[str, Any]) -> str:
    data = {name: each for name, each in value.items() if name != "event"}
    return f"id: {number}\nevent: {value['event']}\ndata: {json.dumps(data)}\n\n"
