"""How a command ends that is ended from outside."""

import os
import signal
from types import FrameType


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl+C does: its temporary files go. A second one ends it at once."""

    def ended(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.write(2, f"graphpass: error: ended by {signal.Signals(number).name}\n".encode())
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # Windows has no SIGHUP
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, ended)
