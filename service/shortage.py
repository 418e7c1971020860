"""Recognises errors that mean that the machine is short of something for a while.

Nobody is at fault then, and another attempt may succeed: jobs wait, and requests are answered 503.
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
    """What the machine is short of, if an error or one of its causes says so; "" otherwise."""
    for each in causes(error):
        if isinstance(each, OSError) and (words := SHORT.get(each.errno or 0)):
            return words
        if isinstance(each, RuntimeError) and NO_THREAD in str(each):
            return SHORT[errno.EAGAIN]
        if isinstance(each, MemoryError):
            return SHORT[errno.ENOMEM]
    return ""


def says_short(text: str) -> bool:
    """Whether the text of an error, which is all that was kept of it, means the same."""
    return NO_THREAD in text or "MemoryError" in text or any(os.strerror(number) in text for number in SHORT)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
