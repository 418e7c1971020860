"""Reads blobs for answers: in turns, and charged to their tenant until the last byte is sent."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import to_thread

from service.api.context import Service
from service.errors import NotFoundError, StorageError
from service.storage.accounts import Account

PIECE = 2**18  # bytes of memory that a slow reader holds, twice at most
P = ParamSpec("P")
R = TypeVar("R")


async def in_turn(service: Service, function: Callable[P, R], *arguments: P.args, **more: P.kwargs) -> R:
    """Call a function in one of the threads that read from the store: if it hangs, threads for the database do not."""
    return await to_thread.run_sync(partial(function, *arguments, **more), limiter=service.reading)


async def blob_stream(
    service: Service, tenant: str, digest: str, pieces: Sequence[tuple[bytes, int, int]]
) -> AsyncIterator[bytes]:
    """Stream pieces (head, start, end): of each the head, then bytes [start, end) of the blob.

    The blob is charged to its tenant meanwhile, unless it fits into memory and is read at once. Raises NotFoundError
    and StorageError before it returns where it cannot begin.
    """
    _, start, end = pieces[0]
    if len(pieces) == 1 and end - start <= PIECE:
        whole = await in_turn(service, lambda: b"".join(service.blobs.read(digest, start, end, PIECE)))
        return _at_once(whole)
    first = await in_turn(service, service.blobs.read, digest, start, end, PIECE)
    return _kept(service, tenant, digest, pieces, first)


async def _at_once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _kept(
    service: Service, tenant: str, digest: str, pieces: Sequence[tuple[bytes, int, int]], first: Iterator[bytes]
) -> AsyncIterator[bytes]:
    async with Account(service.metadata, service.blobs, tenant) as account:
        with suppress(NotFoundError, StorageError):  # it is sent all the same, as far as it is there
            await asyncio.to_thread(account.keep, digest)
        for index, (head, start, end) in enumerate(pieces):
            if head:
                yield head
            if start < end:
                read = first if index == 0 else await in_turn(service, service.blobs.read, digest, start, end, PIECE)
                while chunk := await in_turn(service, next, read, b""):
                    yield chunk
