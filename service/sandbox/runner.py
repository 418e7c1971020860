"""Run one task of tasks.py in a fresh, confined process.

    folder/in    what the task reads; every file argument of a task is a path relative to it
    folder/out   what the task leaves for its caller
    folder/tmp   scratch; removed when the task ends

Nothing else of the caller's is within reach of the child. This module imports neither onnx nor numpy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Limits:
    """What one task may use.

    memory_bytes: private memory (RLIMIT_DATA). cpu_seconds: of all threads together. wall_seconds: from start to end.
    file_bytes: largest file, and all that the task writes together. files: most files that an archive unpacks to.
    """

    memory_bytes: int = 4 << 30
    cpu_seconds: int = 3600
    wall_seconds: float = 3600.0
    file_bytes: int = 8 << 30
    files: int = 10_000


@dataclass(frozen=True)
class Succeeded:
    """What the task returned: a JSON object, as documented in tasks.py."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """Why there is no result.

    type: a fault of what the user gave: invalid-model, unsupported-model, invalid-data, invalid-options, coverage,
    calibration, plan, verification; or a limit: memory-limit, time-limit, output-limit; or crashed (the process died of
    a signal), internal (a fault of graphpass or of its installation). All but internal come back on a second try.
    what, remedy: in words of the user, naming files as the user did. where: the file argument or the limit, "" if none.
    """

    type: str
    what: str
    remedy: str = ""
    where: str = ""


async def run(
    task: str, arguments: Mapping[str, Any], folder: Path, limits: Limits, progress: Progress
) -> Succeeded | Failed:
    """Run a task of tasks.TASKS on files beneath `folder`.

    progress gets {"stage": str, "done": int, "total": int} and {"log": str}, in the caller's event loop.
    When cancelled, or over its time, the whole process group is killed before this returns (well below a second).
    """
    raise NotImplementedError
