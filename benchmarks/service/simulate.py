"""What the service carries: the cost of a conversion for each part, measured, and queues at more load, simulated.

    python -m benchmarks.service.simulate measure [--jobs 60]     costs, and the simulation against two workers
    python -m benchmarks.service.simulate run --per-hour 1000 [--workers 2] [--places 2] [--apis 1] [--seconds 10]

`measure` starts PostgreSQL, one API process and two workers with one place and one thread each, and sends conversions
of the example at random times (Poisson). It prints processor seconds, transactions and bytes a conversion, without what
the processes do when idle. Processor seconds hardly depend on what else the machine does. Then it simulates the same
arrivals with the same running times, and compares how long jobs wait for a place. A place is taken for the running time
and for the time that a free worker needs to take a job up, which is measured on jobs that come one by one.

`run` simulates arrivals for some hours of the service. A conversion takes, in this order: the API (upload, start,
reading progress and result), the database, a place of a worker, the store. Times of API and database are exponential,
the running time has a gamma distribution. Prints the utilisation of each part, and waiting times.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import simpy

from tests.service.running import FINISHED, Server, Worker, example, finished
from tests.service.servers import Postgres

OPTIONS = {"limit": 32, "method": "max", "time_steps": 1}
WARM = 6  # conversions until imports and pools have grown
LOAD = 0.75  # of the two workers, while arrivals are measured
SETTLE, IDLE = 5.0, 15.0  # seconds until processes are idle, and in which they are measured
POLL = 1.0  # seconds between two readings of a job's state
HOURS = 3.0  # that are simulated, at most
CUSTOMERS = 60_000  # and conversions


@dataclass(frozen=True)
class Costs:
    """One conversion, as docs/scaling.md has it measured: processor seconds, and bytes in and out of the store."""

    api: float = 0.0
    database: float = 0.0
    stored: float = 0.0
    variation: float = 0.0  # of the running time: standard deviation / mean


@dataclass(frozen=True)
class Machines:
    """How many of each: API processes of one core, workers, places of one core each, cores of the database, store."""

    apis: int = 1
    workers: int = 2
    places: int = 2
    database_cores: int = 2
    store_bytes_per_second: float = 100e6


@dataclass(frozen=True)
class Simulated:
    """Seconds that conversions waited for a place, and from start to end; the share of time that each part works."""

    waits: list[float]
    totals: list[float]
    busy: dict[str, float]


def simulate(
    arrivals: Sequence[float],
    running: Callable[[], float],
    machines: Machines,
    costs: Costs,
    chance: random.Random,
) -> Simulated:
    """Conversions through API, database, a place and the store, in order of arrival at each."""
    environment = simpy.Environment()
    capacities = {
        "API": machines.apis,
        "database": machines.database_cores,
        "places": machines.workers * machines.places,
        "store": 1,
    }
    parts = {name: simpy.Resource(environment, capacity) for name, capacity in capacities.items()}
    worked = dict.fromkeys(parts, 0.0)
    waits: list[float] = []
    totals: list[float] = []

    def through(part: str, seconds: float) -> Iterator[Any]:
        with parts[part].request() as turn:
            asked = environment.now
            yield turn
            if part == "places":
                waits.append(environment.now - asked)
            worked[part] += seconds
            yield environment.timeout(seconds)

    def conversion(arrival: float) -> Iterator[Any]:
        yield environment.timeout(arrival)
        for part, seconds in (
            ("API", _some(costs.api, chance)),
            ("database", _some(costs.database, chance)),
            ("places", running()),
            ("store", costs.stored / machines.store_bytes_per_second),
        ):
            if seconds:
                yield from through(part, seconds)
        totals.append(environment.now - arrival)

    for arrival in arrivals:
        environment.process(conversion(arrival))
    environment.run()
    span = max(environment.now, 1e-9)
    return Simulated(waits, totals, {name: worked[name] / (capacities[name] * span) for name in parts})


def _some(mean: float, chance: random.Random) -> float:
    return chance.expovariate(1 / mean) if mean else 0.0


def poisson(per_second: float, count: int, chance: random.Random) -> list[float]:
    """Times of arrivals, in seconds."""
    times, now = [], 0.0
    for _ in range(count):
        now += chance.expovariate(per_second)
        times.append(now)
    return times


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def run(given: argparse.Namespace) -> None:
    """Simulate and print."""
    chance = random.Random(0)
    machines = Machines(given.apis, given.workers, given.places, given.database_cores)
    count = max(200, min(CUSTOMERS, int(given.per_hour * HOURS)))
    shape = 1 / given.variation**2
    found = simulate(
        poisson(given.per_hour / 3600, count, chance),
        lambda: chance.gammavariate(shape, given.seconds / shape),
        machines,
        Costs(given.api, given.database, given.stored),
        chance,
    )
    busy = ", ".join(f"{name} {share:.1%}" for name, share in found.busy.items())
    print(
        f"{given.per_hour:,} an hour, {given.seconds:g} s each, {machines.workers} × {machines.places} places: {busy}; "
        f"wait for a place p50 {quantile(found.waits, 0.5):.1f} s, p95 {quantile(found.waits, 0.95):.1f} s; "
        f"in all p95 {quantile(found.totals, 0.95):.1f} s",
        flush=True,
    )


def measure(given: argparse.Namespace) -> None:
    """Measure two workers, and simulate the same."""
    postgres = Postgres()
    try:
        with tempfile.TemporaryDirectory() as name, postgres.database() as url, ExitStack() as stack:
            folder = Path(name)
            shared = {"DATABASE_URL": url, "STORE_URL": f"file://{folder}/blobs", "WORKERS": "1", "JOB_THREADS": "1"}
            shared |= {"QUOTA_RUNNING": "0", "QUOTA_QUEUED": "0"}
            server = stack.enter_context(Server(folder, QUEUES="none", **shared))
            server.key = server.new_key("acme")
            server.http = server.client(server.key)
            alone = _idle(lambda: _reading(server, [], url))["transactions"]
            workers = [stack.enter_context(Worker(folder, each, **shared)) for each in ("first", "second")]
            print(f"transactions a second of an API process that is idle: {alone:.1f}")
            _measured(server, workers, url, given.jobs)
    finally:
        postgres.remove()


def _reading(server: Server, workers: Sequence[Worker], url: str) -> dict[str, float]:
    """What has been used up to now: processor seconds, and what the database counts."""
    processes = [each.process.pid for each in (server, *workers) if each.process]
    api, *others = map(_processor, processes)
    return {"API": api, "workers and their children": sum(others), **_database(url)}


def _idle(reading: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Use in a second without work."""
    time.sleep(SETTLE)
    before = reading()
    time.sleep(IDLE)
    return {name: (value - before[name]) / IDLE for name, value in reading().items()}


def _measured(server: Server, workers: Sequence[Worker], url: str, jobs: int) -> None:
    ids = example(server.http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": OPTIONS}

    def start() -> str:
        return str(server.http.post("/v1/conversions", json=asked).raise_for_status().headers["Location"])

    warm = [finished(server.http, start()) for _ in range(WARM)]
    usual = statistics.median(_running(job) for job in warm)

    taking = statistics.median(_waiting(job) for job in warm)

    def reading() -> dict[str, float]:
        return _reading(server, workers, url)

    idle = _idle(reading)

    chance = random.Random(0)
    arrivals = poisson(LOAD * len(workers) / (usual + taking), jobs, chance)
    before, began = reading(), time.monotonic()
    urls: list[str] = []
    waiting: list[str] = []
    polls = 0
    while len(urls) < jobs or waiting:
        now = time.monotonic() - began
        while len(urls) < jobs and arrivals[len(urls)] <= now:
            urls.append(start())
            waiting.append(urls[-1])
        for each in list(waiting):
            polls += 1
            if server.http.get(each).raise_for_status().json()["state"] in FINISHED:
                waiting.remove(each)
        due = arrivals[len(urls)] - (time.monotonic() - began) if len(urls) < jobs else POLL
        time.sleep(max(0.0, min(POLL, due)))
    took, after = time.monotonic() - began, reading()

    done = [server.http.get(each).raise_for_status().json() for each in urls]
    failed = [job["id"] for job in done if job["state"] != "succeeded"]
    if failed:
        raise SystemExit(f"{len(failed)} of {jobs} conversions failed: {failed[0]}")
    load = os.getloadavg()[0]
    print(f"{jobs} conversions in {took:.0f} s, {polls / jobs:.1f} readings of the state each; load {load:.0f}")
    for name in before:
        used = after[name] - before[name] - idle[name] * took
        print(f"{name}: {used / jobs:.4g} a conversion, {idle[name]:.4g} a second when idle", flush=True)
    _compare(done, len(workers), taking)


def _compare(done: Sequence[dict[str, Any]], workers: int, taking: float) -> None:
    """How long the jobs waited, and how long they wait in a simulation of the same arrivals and running times."""
    created = [_time(job["created"]) for job in done]
    running = [_running(job) for job in done]
    waits = [_waiting(job) for job in done]
    order = iter(taking + each for each in running)
    machines = Machines(workers=workers, places=1)
    found = simulate([each - created[0] for each in created], lambda: next(order), machines, Costs(), random.Random(0))
    variation = statistics.stdev(running) / statistics.mean(running)
    print(
        f"running {statistics.mean(running):.2f} s, deviation/mean {variation:.2f}; "
        f"taken up after {taking:.2f} s; places busy {found.busy['places']:.0%}"
    )
    for name, values in (("measured", waits), ("simulated", [taking + wait for wait in found.waits])):
        print(
            f"wait for a place, {name}: mean {statistics.mean(values):.2f} s, p50 {quantile(values, 0.5):.2f} s, "
            f"p95 {quantile(values, 0.95):.2f} s",
            flush=True,
        )


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _running(job: dict[str, Any]) -> float:
    return _time(job["finished"]) - _time(job["started"])


def _waiting(job: dict[str, Any]) -> float:
    return _time(job["started"]) - _time(job["created"])


def _processor(pid: int) -> float:
    """Processor seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _database(url: str) -> dict[str, float]:
    """Processor seconds of all of PostgreSQL's processes, transactions, and MB of this database."""
    with psycopg.connect(url) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        found = connection.execute(
            "SELECT xact_commit, pg_database_size(datname) FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert found
    postmaster = int((Path(folder) / "postmaster.pid").read_text().split()[0])
    backends = (Path("/proc") / str(postmaster) / "task" / str(postmaster) / "children").read_text().split()
    return {
        "database": _processor(postmaster) + sum(_processor(int(pid)) for pid in backends),
        "transactions": float(found[0]),
        "MB in the database": found[1] / 1e6,
    }


def main() -> None:
    """Measure, or simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--jobs", type=int, default=60)
    measuring.set_defaults(function=measure)
    running = commands.add_parser("run")
    running.add_argument("--per-hour", type=int, required=True)
    running.add_argument("--seconds", type=float, default=10.0, help="running time of a conversion on one core")
    running.add_argument("--variation", type=float, default=0.5, help="its standard deviation / mean")
    running.add_argument("--apis", type=int, default=1)
    running.add_argument("--workers", type=int, default=2)
    running.add_argument("--places", type=int, default=2, help="of each worker")
    running.add_argument("--database-cores", type=int, default=2)
    running.add_argument("--api", type=float, default=0.0, help="processor seconds of the API a conversion")
    running.add_argument("--database", type=float, default=0.0, help="processor seconds of the database a conversion")
    running.add_argument("--stored", type=float, default=0.0, help="bytes to and from the store a conversion")
    running.set_defaults(function=run)
    given = parser.parse_args()
    given.function(given)


if __name__ == "__main__":
    main()
