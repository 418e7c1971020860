"""Waiting for what is missing for a while.

No accepted job fails because a machine is short of something, or because a store does not answer.
"""

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
    """Whether the cause of an error may pass by itself, so that another attempt may succeed."""
    away = isinstance(error, StorageError | ShortageError | OSError) or short_of(error) != ""
    return away and not isinstance(error, StorageDamagedError)


async def _silent(text: str) -> None:
    pass


async def patiently(
    attempt: Callable[[], Awaitable[R]],
    report: Callable[[str], Awaitable[None]] = _silent,
    within: float | None = None,
) -> R:
    """Return what attempt() returns. Where it raises an error that may pass, wait and try again.

    report: gets the reason for waiting, once for as long as it stays the same. within: most seconds, None for any
    number; then the error is raised.
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
                reported = reason if await _reached(report, _public(error)) else ""
        await asyncio.sleep(pause * random.uniform(0.75, 1.25))
        pause = min(2 * pause, LONGEST_PAUSE)


def _public(error: Exception) -> str:
    """What is missing, in words for users, which name no part of the machine."""
    if isinstance(error, StorageError):
        return error.public[0]
    if isinstance(error, ShortageError):
        return error.what
    return f"the machine is short of {short_of(error) or 'something'}"


async def _reached(report: Callable[[str], Awaitable[None]], reason: str) -> bool:
    """Report the reason. Returns whether that succeeded; errors that may pass are no failure of the job."""
    try:
        await report(f"{reason}; waiting")
    except Exception as error:
        if not passes(error):
            raise
        return False
    return True
