"""Alternating timings of several calls, and the machine that they ran on.

Every round times each call once, A, B, A, B …, and a ratio is the median of the ratios of all rounds, so that other
work of the machine affects both sides alike. Calls on several threads run in separate processes (`OtherProcess`).
"""

import argparse
import math
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

SHORTEST = 0.004  # least seconds of one turn, which has as many calls as that takes
PAUSE = 0.002  # seconds before a turn
LONG_PAUSE = 0.1  # the same for calls on several threads: threads of the call before spin until then


@dataclass(frozen=True)
class Effort:
    """How long to measure one set of calls: about `seconds`, with `least` to `most` rounds."""

    seconds: float
    least: int
    most: int


FULL = Effort(1.0, 5, 31)
QUICK = Effort(0.5, 5, 11)


@dataclass(frozen=True)
class CallTimes:
    """Seconds of one call, by round."""

    seconds: NDArray[np.float64]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def milliseconds(self) -> str:
        """Median (quartiles), ms."""
        return spread(1e3 * self.seconds)

    def over(self, other: "CallTimes") -> float:
        """Median over the rounds of this call's seconds by the other's."""
        return float(np.median(self.seconds / other.seconds))

    def ratio(self, other: "CallTimes") -> str:
        """Median (quartiles) over the rounds of this call's seconds by the other's."""
        return spread(self.seconds / other.seconds)


def spread(values: NDArray[np.float64]) -> str:
    """Median (lower quartile–upper quartile), to two decimals or three digits."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    digits = 2 if median < 10 else 1 if median < 100 else 0
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


class OtherProcess:
    """A call in a separate process, which waits between its turns.

    In one process, sessions on several threads slow each other down by up to a half, however long the pause is.
    """

    def __init__(self, make: Callable[[], Callable[[], object]]):
        """make: makes the call there; it must be picklable."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, make), daemon=True).start()
        theirs.close()

    def take(self, count: int) -> float:
        """Seconds of this many calls there."""
        self._pipe.send(count)
        seconds: float = self._pipe.recv()
        return seconds

    def close(self) -> None:
        """End the process."""
        self._pipe.close()


def _serve(pipe: Connection, make: Callable[[], Callable[[], object]]) -> None:
    call = make()
    with suppress(EOFError):  # closed
        while True:
            pipe.send(_seconds(call, pipe.recv()))


def _seconds(
    call: Callable[[], object] | OtherProcess, count: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    if isinstance(call, OtherProcess):
        return call.take(count)
    started = clock()
    for _ in range(count):
        call()
    return clock() - started


def alternate(
    calls: Mapping[str, Callable[[], object] | OtherProcess],
    effort: Effort,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, CallTimes]:
    """Times of the calls in turns. Each is called twice before, and once untimed in each turn of several calls.

    clock: of seconds; time.process_time for calls on one thread beside other work. Other processes have their own.
    """
    counts = {}
    total = 0.0
    pause = LONG_PAUSE if any(isinstance(call, OtherProcess) for call in calls.values()) else PAUSE
    for name, call in calls.items():
        _seconds(call, 1)
        once = _seconds(call, 1, clock)
        counts[name] = max(1, math.ceil(SHORTEST / once))
        total += once * (counts[name] + (counts[name] > 1)) + pause
    rounds = max(effort.least, min(effort.most, int(effort.seconds / total)))
    seconds = {name: np.empty(rounds) for name in calls}
    for index in range(rounds):
        for name, call in calls.items():
            time.sleep(pause)
            if counts[name] > 1:
                _seconds(call, 1)
            seconds[name][index] = _seconds(call, counts[name], clock) / counts[name]
    return {name: CallTimes(values) for name, values in seconds.items()}


def alternate_made(
    makers: Mapping[str, Callable[[], Callable[[], object]]], threads: int, effort: Effort
) -> dict[str, CallTimes]:
    """`alternate` of calls on so many threads: each is made here, or, on several, in a process of its own.

    makers: make the calls; they must be picklable.
    """
    if threads == 1:
        return alternate({name: make() for name, make in makers.items()}, effort)
    with ExitStack() as stack:
        calls = {name: stack.enter_context(closing(OtherProcess(make))) for name, make in makers.items()}
        return alternate(calls, effort)


def machine() -> str:
    """One line: processor, cores, onnxruntime, date, and the load of other work as the measurement starts."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    vector = next((flag for flag in ("avx512_vnni", "avx512f", "avx2") if flag in flags), "")
    return (
        f"Machine: {model or platform.machine()}{f' ({vector})' if vector else ''}, {os.cpu_count()} cores, "
        f"onnxruntime {ort.__version__}, {date.today()}; load average {os.getloadavg()[0]:.1f} at the start. "
        "Medians (quartiles) of alternating runs.\n"
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def arguments(
    description: str | None, names: Iterable[str] = (), threads: int = 0, folder: str = "", steps: Sequence[int] = ()
) -> argparse.Namespace:
    """The command line: --quick, --threads if it has a default here, and names to choose from if there are any.

    folder: what --folder keeps. steps: of --time-steps, which is None where it is not given.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds, under a minute")
    if threads:
        parser.add_argument("--threads", type=int, default=threads, help=f"intra-op threads, default {threads}")
    if folder:
        parser.add_argument("--folder", type=Path, help=f"keep {folder} here, and take them from here")
    if steps:
        parser.add_argument("--time-steps", type=_numbers, metavar="T,…", help=f"default {','.join(map(str, steps))}")
    known = list(names)
    if known:
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default all")
    found = parser.parse_args()
    unknown = sorted(set(getattr(found, "names", ())) - set(known))
    if unknown:
        parser.error(f"unknown name {unknown[0]!r}, choose from {', '.join(known)}")
    return found
