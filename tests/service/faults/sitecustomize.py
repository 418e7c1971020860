"""Faults when a service makes something durable. Python imports this by itself where it is on PYTHONPATH.

FAULTS names a folder. While it has a file `armed`, moments are counted, and appended to `moments` with what they are:

    trace               nothing happens
    kill N MOMENT       SIGKILL at the Nth moment of this name
    full S N MOMENT     from that moment on every write fails for S seconds, as on a disk that is full

A moment is `before` or `after` the commit of a transaction that has changed something, or `before` a file is synced,
moved or linked. tests/service/faulty.py arms and reads.
"""

import errno
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

CHANGES = ("INSERT", "UPDATE", "DELETE")


class Faults:
    """Counts moments."""

    def __init__(self, folder: Path):
        self._folder, self._lock, self._process = folder, threading.Lock(), os.getpid()
        self._armed, self._count, self._full_until = "", Counter[str](), 0.0

    def moment(self, name: str) -> bool:
        """Whether the write has to fail. Does not return where the process is killed."""
        with self._lock:
            if os.getpid() != self._process or not self._look():
                return False
            self._count[name] += 1
            kind, *rest = self._armed.split(None, 2 + self._armed.startswith("full"))
            is_due = rest[-2:] == [str(self._count[name]), name]
            with (self._folder / "moments").open("a") as file:
                file.write(f"{self._count[name]} {name}{f' : {kind}' if is_due else ''}\n")
            if is_due and kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            if is_due and kind == "full":
                self._full_until = time.monotonic() + float(rest[0])
            return name.startswith("before") and time.monotonic() < self._full_until

    def _look(self) -> bool:
        """Whether a fault is armed now."""
        try:
            armed = (self._folder / "armed").read_text()
        except OSError:
            armed = ""
        if armed != self._armed:
            self._armed, self._count, self._full_until = armed, Counter(), 0.0
        return bool(armed)


def install(faults: Faults) -> None:
    """Hooks around SQLAlchemy's commits, and the calls that make files durable."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.default import DefaultDialect

    changed: dict[int, list[str]] = {}

    @event.listens_for(Engine, "after_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        words = statement.split(None, 3)
        if not words or words[0].upper() not in CHANGES or (cursor.rowcount == 0 and "RETURNING" not in statement):
            return
        table = words[1] if words[0].upper() == "UPDATE" else words[2]
        name = table.partition("(")[0].rpartition(".")[2].replace('"', "")
        changed.setdefault(id(connection.connection.dbapi_connection), []).append(f"{words[0].upper()}-{name}")

    commit, rollback = DefaultDialect.do_commit, DefaultDialect.do_rollback

    def do_commit(self: Any, connection: Any) -> None:
        name = "+".join(dict.fromkeys(changed.pop(id(getattr(connection, "dbapi_connection", connection)), ())))
        if name and faults.moment(f"before {name}"):
            raise self.loaded_dbapi.OperationalError("database or disk is full")
        commit(self, connection)
        if name:
            faults.moment(f"after {name}")

    def do_rollback(self: Any, connection: Any) -> None:
        changed.pop(id(getattr(connection, "dbapi_connection", connection)), None)
        rollback(self, connection)

    DefaultDialect.do_commit, DefaultDialect.do_rollback = do_commit, do_rollback  # type: ignore[method-assign]
    for name in ("fsync", "replace", "link"):
        setattr(os, name, _around(name, getattr(os, name), faults))


def _around(name: str, call: Any, faults: Faults) -> Any:
    def around(*arguments: Any, **more: Any) -> Any:
        if faults.moment(f"before {name}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return call(*arguments, **more)

    return around


if "FAULTS" in os.environ:
    install(Faults(Path(os.environ["FAULTS"])))
