"""Work goes on only as long as somebody wants it: what is cancelled, deleted or taken over ends here in a moment."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")
EVERY = 0.3  # seconds between looks
log = logging.getLogger(__name__)


class UnwantedError(Exception):
    """The job is finished, cancelled or gone, or another process has it."""


async def while_wanted(work: Coroutine[Any, Any, R], wanted: Callable[[], bool]) -> R:
    """What the work gives. It is cancelled once it is not wanted any more: UnwantedError.

    wanted: asked in a thread. What it raises says nothing: who cannot be asked may still want it.
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
