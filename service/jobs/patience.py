"""Waiting for what is missing: no accepted job fails because a machine is short of something, or a store away."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.errors import ShortageError, StorageDamagedError, StorageError
from service.shortage import short_of

R = TypeVar("R")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between attempts
log = logging.getLogger(__name__)


def passes(error: BaseException) -> bool:
    """Whether another attempt is worth it, however long that takes."""
    away = isinstance(error, StorageError | ShortageError | OSError) or short_of(error) != ""
    return away and not isinstance(error, StorageDamagedError)


async def _silent(text: str) -> None:
    pass


async def patiently(
    attempt: Callable[[], Awaitable[R]],
    tell: Callable[[str], Awaitable[None]] = _silent,
    within: float | None = None,
) -> R:
    """What attempt() gives, tried again as long as what it raises may pass, for so many seconds at most.

    tell: gets the reason, once as long as it stays the same.
    """
    began, pause, reported = time.monotonic(), FIRST_PAUSE, ""
    while True:
        try:
            return await attempt()
        except Exception as error:
            if not passes(error) or (within is not None and time.monotonic() - began > within):
                raise
            reason = str(error)
            if reason != reported:
                log.warning("%s; waiting", reason)
                reported = reason if await _report(tell, _public(error)) else ""
        await asyncio.sleep(pause * random.uniform(0.75, 1.25))
        pause = min(2 * pause, LONGEST_PAUSE)


def _public(error: Exception) -> str:
    """What is missing, in words that name nothing of the machine."""
    if isinstance(error, StorageError):
        return error.public[0]
    if isinstance(error, ShortageError):
        return error.what
    return f"the machine is short of {short_of(error) or 'something'}"


async def _report(tell: Callable[[str], Awaitable[None]], reason: str) -> bool:
    """Whether it could be told."""
    try:
        await tell(f"{reason}; waiting")
    except Exception as error:
        if not passes(error):
            raise
        return False
    return True
