"""Exceptions inside the sandbox: those of the task's own limits, and those of a machine that is short of something."""

import errno
import mmap
import threading
from pathlib import Path
from unittest import mock

import pytest

from service.sandbox import failures
from service.sandbox.failures import PROBE, SHORT, failure_of
from service.sandbox.limits import Limits
from service.sandbox.workplace import Workplace

ROOMY = Limits(memory_bytes=64 << 30)


def failed(error: BaseException) -> str:
    """The type of the failure of an exception."""
    place = Workplace(Path("/nowhere"), {}, ROOMY, lambda what, done, total: None, {})
    return failure_of(error, place).type


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), RuntimeError("std::bad_alloc")]
)
def test_no_memory_is_the_machines_where_it_has_none_for_anybody(error: BaseException) -> None:
    assert failed(error) == "memory-limit"
    with mock.patch.object(mmap, "mmap", side_effect=OSError(errno.ENOMEM, "Cannot allocate memory")):
        assert failed(error) == SHORT.type == "unavailable"
        with mock.patch.object(failures, "_allocated", return_value=ROOMY.memory_bytes - PROBE):  # its own limit
            assert failed(error) == "memory-limit"
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
        assert failed(error) == "unavailable"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.ENFILE])
def test_full_disks_and_tables_of_files_are_the_machines(number: int) -> None:
    assert failed(OSError(number, "full")) == "unavailable"
    unclear = ValueError("in the words of a library")
    unclear.__cause__ = OSError(number, "full")
    assert failed(unclear) == "unavailable"
