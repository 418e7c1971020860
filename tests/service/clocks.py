"""Clocks for tests of what takes time."""

from dataclasses import dataclass


@dataclass
class ManualClock:
    """A clock that stands still until a test sets `now`, in seconds."""

    now: float

    def __call__(self) -> float:
        return self.now
