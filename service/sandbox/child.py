"""The confined process: reads a request from stdin, confines itself, runs the task, answers on stdout; then the next.

Only the standard library and this package's own small modules are imported before the process is confined.
"""

import faulthandler
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.sandbox.bounds import LOG, shortened
from service.sandbox.confinement import confine
from service.sandbox.limits import Limits
from service.sandbox.outcome import Failed

Tasks = Mapping[str, Callable[[Any], dict[str, Any]]]
PROGRESS_INTERVAL = 0.1  # seconds between two messages of one stage


def main(load_tasks: Callable[[], Tasks]) -> None:
    """Run the tasks that stdin asks for, out of a table that is imported once the process is confined."""
    channel = _Channel(os.dup(1))
    os.dup2(2, 1)  # whatever libraries print goes to stderr: it is no message
    faulthandler.enable()
    request = json.loads(sys.stdin.buffer.readline())
    folder, limits = Path(request["folder"]), Limits(**request["limits"])
    try:
        confined = confine(folder, limits, int(sys.argv[1]))
    except OSError as error:
        remedy = "run the service on Linux with seccomp, on x86-64 or arm64"
        channel.send({"failed": asdict(Failed("internal", f"the task cannot be confined here ({error})", remedy))})
        os._exit(1)
    from service.sandbox.failures import failure_of
    from service.sandbox.workplace import Lasting, Workplace

    lasting = Lasting()
    while True:
        place = Workplace(folder, request["arguments"], limits, channel.progress, confined, lasting)
        _report_warnings(channel, place.without_folders)
        try:
            result = load_tasks()[request["task"]](place)
            channel.flush()
            channel.send({"result": result})
        except BaseException as error:  # whatever a library raises: the caller gets an answer
            channel.send({"failed": asdict(failure_of(error, place))})
        if not (line := sys.stdin.buffer.readline()):
            os._exit(0)  # nothing is left to do, and threads of onnxruntime need no goodbye
        request = json.loads(line)


def _report_warnings(channel: "_Channel", words: Callable[[str], str]) -> None:
    """Send the warnings of a task, each once."""
    warnings.simplefilter("default")
    warnings.showwarning = lambda message, *_, **__: channel.send(
        {"log": shortened(f"warning: {words(str(message))}", LOG)}
    )


class _Channel:
    """Sends messages to the caller, each as one line of JSON."""

    def __init__(self, descriptor: int):
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._stage = ""
        self._sent = 0.0
        self._waiting: dict[str, Any] = {}

    def send(self, message: Mapping[str, Any]) -> None:
        line = memoryview(json.dumps(message, allow_nan=False).encode() + b"\n")
        while line:
            line = line[self._file.write(line) :]

    def flush(self) -> None:
        """Send the message that waits, if any."""
        if self._waiting:
            self.send(self._waiting)
            self._waiting = {}

    def progress(self, what: str, done: int, total: int) -> None:
        """Send progress of a stage, at most once in PROGRESS_INTERVAL: a message that comes sooner may wait for
        `flush`.
        """
        message, now = {"stage": what, "done": int(done), "total": int(total)}, time.monotonic()
        if what != self._stage:
            self.flush()
        elif now - self._sent < PROGRESS_INTERVAL:
            self._waiting = message
            return
        self.send(message)
        self._stage, self._sent, self._waiting = what, now, {}


def _tasks() -> Tasks:
    from service.sandbox.table import TASKS

    return TASKS


if __name__ == "__main__":
    main(_tasks)
