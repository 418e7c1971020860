"""Work runs only as long as somebody wants its result.

When a job is cancelled or deleted, or another process takes it over, its work is stopped here within a second.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")
EVERY = 0.3  # seconds between two questions whether the work is wanted
log = logging.getLogger(__name__)


class UnwantedError(Exception):
    """The job is finished, cancelled or gone, or another process has it."""


async def while_wanted(work: Coroutine[Any, Any, R], wanted: Callable[[], bool]) -> R:
    """Await the work and return its result. Once it is no longer wanted it is cancelled: UnwantedError.

    wanted: called in a thread every EVERY seconds. If it raises, the work goes on, since nobody said otherwise.
    """
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=EVERY)
            if done:
                return task.result()
            if not await _ask(wanted):
                raise UnwantedError("nobody waits for this any more")
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _ask(wanted: Callable[[], bool]) -> bool:
    try:
        return await asyncio.to_thread(wanted)
    except Exception as error:
        log.debug("cannot ask whether work is wanted: %s", error)
        return True
