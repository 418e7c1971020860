"""Blobs on their way out: they stay on the tenant's account until the last byte is sent, whatever is deleted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from starlette.concurrency import iterate_in_threadpool

from service.api.context import Service
from service.errors import NotFoundError, StorageError
from service.storage.accounts import Account


async def kept(service: Service, tenant: str, digest: str, content: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The content of a blob, which the tenant bears while it is read, so that no reader holds bytes of nobody."""
    account = Account(service.metadata, service.blobs, tenant)
    try:
        with suppress(NotFoundError, StorageError):  # it is read all the same, as far as it is there
            await asyncio.to_thread(account.keep, digest)
        async for chunk in iterate_in_threadpool(content):
            yield chunk
    finally:
        await asyncio.shield(asyncio.to_thread(account.close))
