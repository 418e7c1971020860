"""Turns exceptions inside the sandbox into failures in words for the user."""

import errno
import mmap
import sys
import threading
import traceback
from pathlib import Path

from graphpass import errors
from service.sandbox.bounds import TEXT, shortened
from service.sandbox.limits import Limits
from service.sandbox.outcome import Failed, out_of_memory, out_of_room
from service.sandbox.workplace import Workplace
from service.shortage import causes

FULL = {errno.ENOSPC, errno.EDQUOT}
SHORT = Failed("unavailable", "the machine is short of memory, processes or open files", "try again later")
PROBE = 32 << 20  # bytes of memory that are asked for to see whether there are any
NOWHERE = "No usable temporary directory"  # as tempfile says that the disk is full

# The first class that fits; subclasses come first.
TYPES: tuple[tuple[type[errors.GraphpassError], str], ...] = (
    (errors.OptionError, "invalid-options"),
    (errors.UnsupportedModelError, "unsupported-model"),
    (errors.ModelError, "invalid-model"),
    (errors.SessionError, "invalid-model"),
    (errors.DataError, "invalid-data"),
    (errors.CalibrationError, "calibration"),
    (errors.PlanError, "plan"),
    (errors.VerificationError, "verification"),
    (errors.CoverageError, "coverage"),
    (errors.GoalError, "goal"),
)


class TaskLimitError(Exception):
    """A task would use more than it may, which is seen before it does."""

    def __init__(self, failure: Failed):
        super().__init__(failure.what)
        self.failure = failure


def failure_of(error: BaseException, place: Workplace) -> Failed:
    """The failure that an exception means. The traceback of an unexpected one goes to stderr."""
    chain = list(causes(error))
    if any(isinstance(each, MemoryError) or errors.says_no_memory(str(each)) for each in chain):
        return SHORT if _machine_is_short(place.limits) else out_of_memory(place.limits)
    if any(isinstance(each, OSError) and each.errno == errno.EFBIG for each in chain):
        return out_of_room(place.limits)
    if any(isinstance(each, OSError) and each.errno == errno.ENFILE for each in chain):
        return SHORT
    if any(isinstance(each, OSError) and (each.errno in FULL or NOWHERE in str(each)) for each in chain):
        return Failed("unavailable", "no space left for the files of the task", "make room and try again")
    if isinstance(error, TaskLimitError):
        return error.failure
    for kind, name in TYPES:
        if isinstance(error, kind):
            what = " ".join(place.without_folders(error.what).split())
            return Failed(
                name, shortened(what, TEXT), shortened(place.without_folders(error.remedy), TEXT), place.role_in(what)
            )
    traceback.print_exception(error, file=sys.stderr)
    text = shortened(place.without_folders(" ".join(str(error).split())), 300)
    return Failed("internal", f"unexpected {type(error).__name__}: {text}", "report this")


def _machine_is_short(limits: Limits) -> bool:
    """Whether there is no memory, or no thread, although the task's own limit leaves room for more than that."""
    if limits.memory_bytes - _allocated() < 4 * PROBE:
        return False
    try:
        mmap.mmap(-1, PROBE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    except (OSError, RuntimeError, MemoryError):
        return True
    return False


def _allocated() -> int:
    """Bytes that RLIMIT_DATA counts."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmData:")).split()[1]) * 1024
