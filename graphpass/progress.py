"""The function that long work calls to report its progress."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""What is done, how much of it, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """The default: progress is not reported."""
