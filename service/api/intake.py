"""Stores the bodies of requests as blobs, and has the sandbox describe what they hold.

Bytes are reserved on the tenant's account before they are written. A model or dataset belongs to a tenant only once it
is described: what is refused is deleted before the answer is sent.
"""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api.context import Service
from service.errors import QuotaError
from service.jobs.running import TaskOutcome, run_task
from service.problems import ProblemError, ended_early, too_large
from service.storage.accounts import Account
from service.storage.blobs import Room
from service.storage.records import ObjectKind, StoredObject

SMALL = 2**16  # bytes of a JSON body
NAME_BYTES = 120  # of a file name in the sandbox
TASKS: dict[ObjectKind, str] = {"model": "describe_model", "dataset": "describe_dataset"}
CONNECTED_EVERY = 1.0  # seconds between looks whether the caller still waits for a description
CHUNK = 2**18  # bytes that are hashed and written at a time
DESCRIPTION = "description.json"  # what the sandbox writes where its answer is a summary


async def chunks(request: Request, most: int, size: int = CHUNK) -> AsyncIterator[bytes]:
    """The body in chunks of about `size`. Problems: too-large, as soon as that is known; malformed-request."""
    if _length(request) > most:
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
        raise ended_early() from error
    if held:
        yield bytes(held)


async def read_small(request: Request) -> bytes:
    """The body of a request that sends JSON. Problem: too-large."""
    return b"".join([chunk async for chunk in chunks(request, SMALL)])


def account_of(service: Service, tenant: str) -> Account:
    """The tenant's account, as a context in which something is stored."""
    return Account(service.metadata, service.blobs, tenant, service.settings.quota)


async def create_from_body(
    request: Request, service: Service, tenant: str, kind: ObjectKind, name: str
) -> tuple[StoredObject, bool]:
    """Make an object of the body. Returns it, and False if the tenant had it already.

    Problems: too-large, malformed-request; storage-quota, as soon as there is no room for the next chunk; what the
    sandbox finds wrong with it.
    """
    most = int(service.settings.max_upload_bytes)
    async with account_of(service, tenant) as account:
        if _length(request) > most:
            raise too_large(most)
        try:
            room = await asyncio.to_thread(account.reserve, _length(request))
            digest, known = await _receive(request, service, tenant, kind, room, most)
        except QuotaError as error:
            raise ProblemError("storage-quota", error.what, error.remedy) from error
        return (known, False) if known else await _describe(request, service, account, tenant, kind, name, digest)


async def _receive(
    request: Request, service: Service, tenant: str, kind: ObjectKind, room: Room, most: int
) -> tuple[str, StoredObject | None]:
    """Stream the body into a blob. Returns its digest, and the tenant's object of these bytes if there is one."""
    with service.blobs.writer(room) as writer:
        async for chunk in chunks(request, most):
            await asyncio.to_thread(writer.write, chunk)
        if writer.size == 0:
            raise ProblemError("invalid-request", "the body is empty", "send the file as the body")
        if known := await _again(service, tenant, kind, writer.digest):
            return writer.digest, known
        await asyncio.to_thread(writer.commit)
        return writer.digest, None


async def create_from_upload(
    request: Request, service: Service, tenant: str, kind: ObjectKind, name: str, digest: str, origin: str
) -> tuple[StoredObject, bool]:
    """Make an object of a complete upload, as of a body. Raises NotFoundError where its bytes are gone."""
    if known := await _again(service, tenant, kind, digest):
        return known, False
    async with account_of(service, tenant) as account:
        await asyncio.to_thread(account.keep, digest)
        return await _describe(request, service, account, tenant, kind, name, digest, origin)


async def create_from_file(
    request: Request, service: Service, tenant: str, kind: ObjectKind, path: Path, origin: str
) -> tuple[StoredObject, bool]:
    """Make an object of a file of the service, as of a body."""
    async with account_of(service, tenant) as account:
        digest = await asyncio.to_thread(account.store, path)
        if known := await _again(service, tenant, kind, digest):
            return known, False
        return await _describe(request, service, account, tenant, kind, path.name, digest, origin)


async def _again(service: Service, tenant: str, kind: ObjectKind, digest: str) -> StoredObject | None:
    expires = service.settings.upload_expiry(datetime.now(UTC))
    return await asyncio.to_thread(lambda: service.metadata.objects.again(tenant, kind, digest, expires=expires))


async def _describe(
    request: Request,
    service: Service,
    account: Account,
    tenant: str,
    kind: ObjectKind,
    name: str,
    digest: str,
    origin: str = "",
) -> tuple[StoredObject, bool]:
    """Have the sandbox describe a blob that the account keeps, and make it the tenant's.

    request: whose caller waits for this; a caller who goes away loses the turn. Problems: what the sandbox finds wrong
    with it; storage-quota; unavailable, where it waited for its turn for too long.
    """
    settings = service.settings
    seconds = min(settings.job_seconds, settings.describe_seconds)
    short = settings.model_copy(update={"job_seconds": seconds})
    task, place = TASKS[kind], f"{kind}/{name}"

    start = asyncio.Event()

    async def describe() -> TaskOutcome:
        start.set()
        with service.metrics.task(task) as tally:
            found = await run_task(
                task,
                {"file": place},
                {place: digest},
                settings=short,
                blobs=service.blobs,
                rooms=service.rooms,
                keep=account.store_all,
            )
            tally.ended(found.error.type if found.error else "succeeded")
            return found

    turn = service.places.run(tenant, "description", describe, within=settings.describe_wait_seconds)
    found = await _while_connected(turn, start, request)
    if found.error:
        raise ProblemError(found.error.type, found.error.what, found.error.remedy, where=found.error.where)
    if kind == "dataset":
        _require_count(found.result.get("samples"), settings.max_samples)
    expires = settings.upload_expiry(datetime.now(UTC))
    return await asyncio.to_thread(
        lambda: service.metadata.objects.create(
            tenant,
            kind,
            name=name,
            digest=digest,
            media="application/octet-stream",
            description=found.result,
            whole_description=found.files.get(DESCRIPTION),
            origin=origin,
            expires=expires,
            quota=settings.quota,
        )
    )


async def _while_connected(
    turn: Coroutine[Any, Any, TaskOutcome], start: asyncio.Event, request: Request
) -> TaskOutcome:
    """Await a description, and give it up if the caller goes away before it has started."""
    task = asyncio.ensure_future(turn)
    try:
        while not (await asyncio.wait({task}, timeout=CONNECTED_EVERY))[0]:
            if not start.is_set() and await request.is_disconnected():
                raise ProblemError("malformed-request", "the connection was closed", "send it again, and wait")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


def _require_count(samples: object, most: int) -> None:
    """Refuse a dataset without samples or with too many. Problem: invalid-data."""
    if not isinstance(samples, int) or not 0 < samples <= most:
        raise ProblemError(
            "invalid-data",
            f"it claims to have {samples!s:.40} samples; at most {most:,} are taken",
            "give fewer, or have the operator raise GRAPHPASS_MAX_SAMPLES",
            where="file",
        )


def file_name(given: str | None, default: str) -> str:
    """A harmless file name, neither hidden nor like an option: its last part, of letters, digits, space and `._-+`."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", given or ""))[-1]
    kept = "".join(letter if letter.isalnum() or letter in " ._-+" else "_" for letter in last)
    kept = kept.rstrip(" .").lstrip(" .-")
    while len(kept.encode("utf-8", "replace")) > NAME_BYTES:
        kept = kept[1:]  # the end says what kind of file it is
    return kept or default


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0
