"""Bodies on their way into blobs, and the look of the sandbox at what they hold."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api.context import Service
from service.jobs.running import Outcome, run_task
from service.problems import ProblemError, too_large
from service.storage.records import ObjectKind, StoredObject

SMALL = 2**16  # bytes of a JSON body
NAME_BYTES = 120  # of a file name in the sandbox
TASKS: dict[ObjectKind, str] = {"model": "describe_model", "dataset": "describe_dataset"}
CONNECTED_EVERY = 1.0  # seconds between looks whether somebody waits for a description
CHUNK = 2**18  # bytes that are hashed and written at a time


async def chunks(request: Request, most: int, size: int = CHUNK) -> AsyncIterator[bytes]:
    """The body in chunks of about `size`. Problems: too-large, as soon as that is known; malformed-request."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_large(most)
    held, total = bytearray(), 0
    try:
        async for part in request.stream():
            total += len(part)
            if total > most:
                raise too_large(most)
            held += part
            if len(held) >= size:
                yield bytes(held)
                held.clear()
    except ClientDisconnect as error:
        raise ProblemError("malformed-request", "the body ended early", "send it again") from error
    if held:
        yield bytes(held)


async def read_small(request: Request) -> bytes:
    """A JSON body. Problem: too-large."""
    return b"".join([chunk async for chunk in chunks(request, SMALL)])


async def receive(request: Request, service: Service, tenant: str) -> str:
    """Stream the body into a blob: its digest. Problems: too-large, storage-quota, malformed-request."""
    most = int(service.settings.max_upload_bytes)
    if quota := service.settings.quota.bytes:
        room = quota - (await asyncio.to_thread(service.metadata.keys.usage, tenant)).bytes
        if room < most and _length(request) > room:
            raise ProblemError(
                "storage-quota", f"{max(room, 0):,} of {quota:,} bytes are left", "delete models, datasets or jobs"
            )
    with service.blobs.writer() as writer:
        async for chunk in chunks(request, most):
            await asyncio.to_thread(writer.write, chunk)
        if writer.size == 0:
            raise ProblemError("invalid-request", "the body is empty", "send the file as the body")
        await asyncio.to_thread(writer.commit)
        return writer.digest


async def describe_and_store(
    service: Service,
    tenant: str,
    kind: ObjectKind,
    name: str,
    digest: str,
    origin: str = "",
    request: Request | None = None,
) -> tuple[StoredObject, bool]:
    """Have the sandbox describe a committed blob, and make it the tenant's. False: it was there, described, already.

    request: who waits for it; one that has gone away does not keep its turn. Problems: what the sandbox finds wrong
    with it; storage-quota; unavailable, where it waited for its turn for too long.
    """
    settings = service.settings
    expires = settings.upload_expiry(datetime.now(UTC))
    objects = service.metadata.objects
    if known := await asyncio.to_thread(lambda: objects.again(tenant, kind, digest, expires=expires)):
        return known, False
    seconds = min(settings.job_seconds, settings.describe_seconds)
    short = settings.model_copy(update={"job_seconds": seconds})
    task, place = TASKS[kind], f"{kind}/{name}"

    begun = asyncio.Event()

    async def describe() -> Outcome:
        begun.set()
        with service.metrics.task(task) as tally:
            found = await run_task(task, {"file": place}, {place: digest}, settings=short, blobs=service.blobs)
            tally.ended(found.error.type if found.error else "succeeded")
            return found

    turn = service.places.run(tenant, "description", describe, within=settings.describe_wait_seconds)
    found = await _answered(turn, begun, request)
    if found.error:
        raise ProblemError(found.error.type, found.error.what, found.error.remedy, where=found.error.where)
    return await asyncio.to_thread(
        lambda: objects.create(
            tenant,
            kind,
            name=name,
            digest=digest,
            media="application/octet-stream",
            description=found.result,
            origin=origin,
            expires=expires,
            quota=settings.quota,
        )
    )


async def _answered(turn: Coroutine[Any, Any, Outcome], begun: asyncio.Event, request: Request | None) -> Outcome:
    """What a description gives, unless whoever asked for it goes away before it has begun."""
    task = asyncio.ensure_future(turn)
    try:
        while not (await asyncio.wait({task}, timeout=CONNECTED_EVERY))[0]:
            if request is not None and not begun.is_set() and await request.is_disconnected():
                raise ProblemError("malformed-request", "the connection was closed", "send it again, and wait")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


def file_name(given: str | None, default: str) -> str:
    """A harmless file name: its last part, of letters, digits, space and `._-+`."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", given or ""))[-1]
    kept = "".join(letter if letter.isalnum() or letter in " ._-+" else "_" for letter in last).strip(" .")
    while len(kept.encode("utf-8", "replace")) > NAME_BYTES:
        kept = kept[1:]  # the end tells what it is
    return kept or default


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0
