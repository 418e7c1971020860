"""Where `graphpass` begins: Ctrl+C ends it in one line from the first moment on, while modules are imported."""

import os
import signal
from types import FrameType


def main() -> None:
    """Import the command line and run it.

    An exception is no way to interrupt imports: it could come anywhere in anybody's module, and be taken for a fault.
    """
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where it is to be ignored
    if heard:
        signal.signal(signal.SIGINT, end)
    from graphpass.cli.app import main as run

    try:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:  # before `run` is ready for it, or after it was
        end()


def end(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """Say that it was interrupted, and end at once."""
    os.write(2, b"graphpass: error: interrupted\n")
    os._exit(128 + number)  # as of shells, and of the command line when it runs
