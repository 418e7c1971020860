"""What jobs wait for, and their error where they waited in vain."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import _utils

from service.errors import ShortageError, StorageFullError
from service.jobs import engine
from service.jobs.faults import fault_of
from service.settings import load_settings

FULL = StorageFullError("no space left in /data", "make room and try again")


def test_the_error_of_a_job_that_waited_in_vain() -> None:
    error = fault_of(FULL)
    assert (error.type, error.what, error.remedy) == ("unavailable", *FULL.public)
    assert "/data" not in error.what + error.remedy
    assert fault_of(ShortageError("the machine is short of memory", "")).type == "unavailable"
    assert fault_of(ValueError("ours")).type == "internal"


def test_the_engine_takes_a_full_disk_for_a_lock(tmp_path: Path) -> None:
    """DBOS waits where its own function, called here, says that an error is a lock."""
    jobs = engine.sqlite_engine(load_settings(data_dir=tmp_path))
    engine._wait_for_room(jobs)
    with jobs.connect() as connection:
        connection.execute(sa.text("CREATE TABLE t (x BLOB)"))
        connection.commit()
        connection.execute(sa.text("PRAGMA max_page_count = 3"))
        with pytest.raises(sa.exc.OperationalError, match=r"locked \(database or disk is full\)") as caught:
            connection.execute(sa.text("INSERT INTO t VALUES (zeroblob(100000))"))
        assert _utils.retriable_sqlite_exception(caught.value)
        connection.rollback()
        with pytest.raises(sa.exc.OperationalError, match="no such table") as caught:
            connection.execute(sa.text("SELECT * FROM absent"))
        assert not _utils.retriable_sqlite_exception(caught.value)
    jobs.dispose()
