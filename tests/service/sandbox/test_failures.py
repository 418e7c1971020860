"""Exceptions inside the sandbox: those of the task's own limits, and those of a machine that is short of something."""

import errno
import mmap
import threading
from pathlib import Path
from unittest import mock

import pytest

from graphpass.errors import ModelError
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


def test_a_model_that_could_not_be_copied_for_want_of_memory_is_not_broken() -> None:
    """Protobuf says only that it failed, and whoever read the model takes that for a fault of the model."""
    error = ModelError("net.onnx: graphpass cannot read it (EncodeError: Failed to serialize proto)", "check it")
    error.__cause__ = ValueError("Failed to serialize proto")
    assert failed(error) == "memory-limit"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.ENFILE])
def test_full_disks_and_tables_of_files_are_the_machines(number: int) -> None:
    assert failed(OSError(number, "full")) == "unavailable"
    unclear = ValueError("in the words of a library")
    unclear.__cause__ = OSError(number, "full")
    assert failed(unclear) == "unavailable"
