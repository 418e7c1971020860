"""What a machine may be short of for a while: told apart here from all other errors, for every part of the service.

What was refused for such a reason is nobody's fault, and may succeed later: jobs wait, requests are answered 503.
"""

import errno
import os
from collections.abc import Iterator, Mapping

SHORT: Mapping[int, str] = {
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
    errno.EAGAIN: "processes and threads",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory for connections",
    errno.ENOSPC: "room on the disk",
    errno.EDQUOT: "room on the disk",
}
NO_THREAD = "can't start new thread"  # as Python says that the system refused one


def short_of(error: BaseException | None) -> str:
    """What the machine is short of if an error, or what it was raised for, says so; "" otherwise."""
    for each in causes(error):
        if isinstance(each, OSError) and (words := SHORT.get(each.errno or 0)):
            return words
        if isinstance(each, RuntimeError) and NO_THREAD in str(each):
            return SHORT[errno.EAGAIN]
        if isinstance(each, MemoryError):
            return SHORT[errno.ENOMEM]
    return ""


def says_short(text: str) -> bool:
    """Whether words say the same, of an error that was written down."""
    return NO_THREAD in text or "MemoryError" in text or any(os.strerror(number) in text for number in SHORT)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised for."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
