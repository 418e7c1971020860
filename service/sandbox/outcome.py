"""What comes of a task, and the failures of its three limits in words for the user."""

from dataclasses import dataclass
from typing import Any

from service.sandbox.limits import Limits


@dataclass(frozen=True)
class Succeeded:
    """What the task returned: a JSON object, as documented in tasks.py."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """Why there is no result.

    type: a fault of what the user gave: invalid-model, unsupported-model, invalid-data, invalid-options, coverage,
    calibration, plan, verification; or a limit: memory-limit, time-limit, output-limit; or crashed (the process died of
    a signal); or unavailable (this machine is short of room, files, processes or memory for a while); or internal (a
    fault of graphpass or of its installation).
    what, remedy: in words of the user, naming files as the user did. where: the file argument or the limit, "" if none.
    by_system: neither the task nor its limits ended it, but the system, which may have had others in mind.
    """

    type: str
    what: str
    remedy: str = ""
    where: str = ""
    by_system: bool = False


SandboxOutcome = Succeeded | Failed


def out_of_memory(limits: Limits) -> Failed:
    return Failed(
        "memory-limit",
        f"it needs more than the {size(limits.memory_bytes)} of memory that are allowed",
        "give a smaller model or smaller samples",
        "memory_bytes",
    )


def out_of_time(limits: Limits) -> Failed:
    return Failed(
        "time-limit",
        f"it was not done after the {limits.wall_seconds:g} seconds that are allowed",
        "give a smaller model or less data",
        "wall_seconds",
    )


def out_of_processor_time(limits: Limits) -> Failed:
    return Failed(
        "time-limit",
        f"it used up the {limits.cpu_seconds} seconds of processor time that are allowed",
        "give a smaller model or less data",
        "cpu_seconds",
    )


def out_of_room(limits: Limits, what: str = "it writes") -> Failed:
    return Failed(
        "output-limit",
        f"{what} more than the {size(limits.file_bytes)} that are allowed",
        "give a smaller model or less data",
        "file_bytes",
    )


def size(count: float) -> str:
    """Bytes in words.

    >>> size(1536 << 20)
    '1.5 GiB'
    """
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
