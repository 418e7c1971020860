"""What ends a job through no fault of its files, in words for its owner."""

from graphpass.wording import counted
from service.errors import ShortageError, StorageError
from service.jobs.cancelling import UnwantedError
from service.problems import JobError


def fault_of(error: BaseException) -> JobError:
    """A fault of the machinery."""
    if isinstance(error, StorageError):
        return JobError("unavailable", *error.public)
    if isinstance(error, ShortageError):
        return JobError("unavailable", error.what, error.remedy)
    if isinstance(error, UnwantedError):
        return JobError("internal", "the job is over", "send it again")
    what = f"the service could not run this ({type(error).__name__})"
    return JobError("internal", what, "try again; if it fails again, tell the operator the job's id")


def deadly(deaths: int) -> JobError:
    """Its worker died so often in one step of it."""
    return JobError(
        "worker-died",
        f"the worker died {counted(deaths, 'time')} while it ran this job",
        "give a smaller model or less data; send it again if the worker was stopped from outside",
    )
