"""What was raised inside the sandbox, as the failure that its user is told."""

import errno
import sys
import traceback
from collections.abc import Iterator

from graphpass import errors
from service.sandbox.bounds import TEXT, shortened
from service.sandbox.outcome import Failed, out_of_memory, out_of_room, says_no_memory
from service.sandbox.workplace import Workplace

FULL = {errno.ENOSPC, errno.EDQUOT}
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
)


class LimitError(Exception):
    """More than a task may use, seen before it is used."""

    def __init__(self, failure: Failed):
        super().__init__(failure.what)
        self.failure = failure


def failure_of(error: BaseException, place: Workplace) -> Failed:
    """The failure that an exception is; a traceback of what is unexpected goes to stderr."""
    chain = list(_chain(error))
    if any(isinstance(each, MemoryError) or says_no_memory(str(each)) for each in chain):
        return out_of_memory(place.limits)
    if any(isinstance(each, OSError) and each.errno == errno.EFBIG for each in chain):
        return out_of_room(place.limits)
    if any(isinstance(each, OSError) and (each.errno in FULL or NOWHERE in str(each)) for each in chain):
        return Failed("unavailable", "no space left for the files of the task", "make room and try again")
    if isinstance(error, LimitError):
        return error.failure
    for kind, name in TYPES:
        if isinstance(error, kind):
            what = " ".join(place.told(error.what).split())
            return Failed(name, shortened(what, TEXT), shortened(place.told(error.remedy), TEXT), place.role_in(what))
    traceback.print_exception(error, file=sys.stderr)
    text = shortened(place.told(" ".join(str(error).split())), 300)
    return Failed("internal", f"unexpected {type(error).__name__}: {text}", "report this")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised for."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
