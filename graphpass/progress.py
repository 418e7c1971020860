"""What long work calls with how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""What is done, how much of it, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """For those who do not want to know."""
