"""The effect of an attack on a well-behaved tenant: times of its uploads, jobs and downloads, with and without it."""

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.service.siege.networks import dense, samples
from tests.service.running import ROOT, Server, events

RATIO, MEMORY_MIB, RECOVERY_SECONDS = 3.0, 300, 30.0  # what is promised
DOWNLOADS = 30  # of one round
STEPS = ("upload", "job", "download")
SLACK_DESCRIPTORS = 16  # open files more than before, when an attack is over
PATIENCE = 120.0  # seconds for one request of the well-behaved tenant
OPTIONS = {"time_steps": 2, "method": "max"}


@dataclass
class StepTimes:
    """Seconds of each step, and errors."""

    steps: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    errors: list[str] = field(default_factory=list)

    def more(self, others: "StepTimes") -> None:
        """Add the times of other rounds."""
        for step in STEPS:
            self.steps[step] += others.steps[step]
        self.errors += others.errors

    def p99(self, step: str) -> float:
        """The 99th percentile, by rank."""
        found = sorted(self.steps[step])
        return found[math.ceil(0.99 * len(found)) - 1] if found else math.inf


class Neighbour:
    """The well-behaved tenant."""

    def __init__(self, http: httpx.Client):
        self.http, self.round = http, time.time_ns() % 2**40
        http.timeout = httpx.Timeout(PATIENCE)
        self.data = self._upload("datasets", samples(self.round))

    def _upload(self, collection: str, body: bytes) -> str:
        answer = self.http.post(f"/v1/{collection}", content=body)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def once(self, times: StepTimes) -> None:
        """One round: an upload, a job, and downloads of its result."""
        self.round += 1
        body = dense(self.round)
        with _timed(times, "upload"):
            model = self._upload("models", body)
        with _timed(times, "job"):
            asked = {"model": model, "calibration": self.data, "options": OPTIONS}
            answer = self.http.post("/v1/conversions", json=asked)
            answer.raise_for_status()
            job = answer.headers["Location"]
            last = [data["state"] for _, event, data in events(self.http, job) if event == "state"][-1]
        if last != "succeeded":
            times.errors.append(f"{job} {last}")
            return
        for _ in range(DOWNLOADS):
            with _timed(times, "download"):
                self.http.get(f"{job}/artifact").raise_for_status()
        for path in (job, f"/v1/models/{model}"):
            self.http.delete(path)

    def rounds(self, seconds: float) -> StepTimes:
        """Rounds until the time is over, one at least."""
        times, until = StepTimes(), time.monotonic() + seconds
        while True:
            try:
                self.once(times)
            except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
                times.errors.append(f"{type(error).__name__}: {error}"[:200])
            if time.monotonic() > until:
                return times


@contextmanager
def _timed(times: StepTimes, step: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    times.steps[step].append(time.monotonic() - began)


class Watch(threading.Thread):
    """The largest resident memory of the server's process, without its children, MiB."""

    def __init__(self, server: Server):
        super().__init__(daemon=True)
        self._server, self._ended, self.most = server, threading.Event(), 0

    def run(self) -> None:
        """Read the memory at short intervals."""
        while not self._ended.wait(0.05):
            self.most = max(self.most, resident(self._server))

    def stop(self) -> int:
        """End, and return the largest value."""
        self._ended.set()
        return self.most


def resident(server: Server) -> int:
    """Resident memory of the server's process, MiB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) // 1024


def descriptors(server: Server) -> int:
    """Files and connections that the server's process has open."""
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@contextmanager
def attacking(name: str, server: Server, key: str) -> Iterator[None]:
    """The attack, under way; at the end it is killed."""
    command = [sys.executable, "-m", "benchmarks.service.siege.hostile", name, server.url, key]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"the attack {name} ended by itself")
            yield
        finally:
            process.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class AttackResult:
    """The effect of one attack on the well-behaved tenant."""

    attack: str
    alone: StepTimes
    beside: StepTimes
    memory: int
    recovery: float

    def ratio(self, step: str) -> float:
        """How many times longer a step takes."""
        return self.beside.p99(step) / self.alone.p99(step)

    def broken(self, timed: bool = True) -> list[str]:
        """Promises that do not hold. timed: also promises of times, which other work on the machine may break, too."""
        found = [f"{step} × {self.ratio(step):.1f}" for step in STEPS if timed and not self.ratio(step) <= RATIO]
        found += [f"{self.memory} MiB"] if self.memory > MEMORY_MIB else []
        found += [f"recovered after {self.recovery:.0f} s"] if timed and not self.recovery <= RECOVERY_SECONDS else []
        return found + self.beside.errors[:3]

    def text(self) -> str:
        """As a row of HEADING."""
        times = [
            f"{1000 * self.alone.p99(step):.0f} / {1000 * self.beside.p99(step):.0f} (× {self.ratio(step):.1f})"
            for step in STEPS
        ]
        rounds = f"{len(self.beside.steps['job'])} of {len(self.alone.steps['job'])}"
        return f"| {self.attack} | {' | '.join(times)} | {rounds} | {self.memory} | {self.recovery:.0f} |"


HEADING = """| attack | upload | job | download | rounds | MiB | recovery, s |
|---|---|---|---|---|---|---|"""


def siege(server: Server, name: str, neighbour: Neighbour, key: str, seconds: float) -> AttackResult:
    """One attack. Half of the time alone is before it and half after it, since the machine may have other work, too."""
    alone = neighbour.rounds(seconds / 2)
    before = descriptors(server)
    watch = Watch(server)
    watch.start()
    with attacking(name, server, key):
        beside = neighbour.rounds(seconds)
    recovered = recovery(server, neighbour, alone, before)
    alone.more(neighbour.rounds(seconds / 2))
    return AttackResult(name, alone, beside, watch.stop(), recovered)


def recovery(server: Server, neighbour: Neighbour, alone: StepTimes, before: int) -> float:
    """Seconds until a round takes no longer than is promised, and files and connections are closed."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < 2 * RECOVERY_SECONDS:
        again = neighbour.rounds(0)
        quick = all(max(again.steps[step], default=math.inf) <= RATIO * alone.p99(step) for step in STEPS)
        if quick and not again.errors and descriptors(server) <= before + SLACK_DESCRIPTORS:
            return passed
    return math.inf
