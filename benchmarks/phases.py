"""Processor time of a calibration by phase: each function below bears its own time, less that of phases inside it."""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from graphpass.calibration import calibrate
from graphpass.calibration.ranges import Reduced
from graphpass.calibration.sampling import Positions, SpikingSide
from graphpass.calibration.segments import Segment, TensorStore, Walk
from graphpass.maths import methods

ALL = "other"
PHASES: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("ANN", Reduced, ("__init__", "run")),
    ("SNN", Segment, ("run",)),
    ("opening", Walk, ("segment",)),
    ("keeping", TensorStore, ("put", "take_over", "get", "drop")),
    ("sampling", Positions, ("add_ann", "extend", "rows", "drawn")),
    ("sampling", SpikingSide, ("add", "finish")),
    ("λ", methods, ("choose_penalty",)),
    ("regression", methods, ("compensate", "refine", "mean_bias")),
    ("thresholds", calibrate, ("fit_site",)),
    ("baseline", calibrate, ("fit_quantiser",)),
)
NAMES = tuple(dict.fromkeys([*(name for name, _, _ in PHASES), ALL]))


class Stopwatch:
    """Seconds of processor time of this process, all its threads, by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running = [ALL]
        self._since = time.process_time()

    def switch(self) -> None:
        """What ran until now bears the time since the last switch."""
        now = time.process_time()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is the phase's."""

        @functools.wraps(work)
        def run(*given: Any, **named: Any) -> Any:
            self.switch()
            self._running.append(phase)
            try:
                return work(*given, **named)
            finally:
                self.switch()
                self._running.pop()

        return run


@contextmanager
def phases() -> Iterator[dict[str, float]]:
    """Seconds by phase of what runs inside, on one thread, complete at the end."""
    watch, patches = Stopwatch(), []
    for phase, owner, names in PHASES:
        patches += [patch.object(owner, name, watch.timed(phase, getattr(owner, name))) for name in names]
    for each in patches:
        each.start()
    try:
        yield watch.seconds
    finally:
        watch.switch()
        for each in patches:
            each.stop()
