"""Kill loop: the whole service is killed with SIGKILL at random times while jobs run. Accepted = finished, all correct.

    python -m benchmarks.service.kills                          SQLite, one process
    python -m benchmarks.service.kills --postgres               PostgreSQL, an API process and two workers
    python -m benchmarks.service.kills --postgres --crash       … and PostgreSQL itself is stopped at once for 5 s

Every job must succeed, and its files must be complete and the same as those of an undisturbed run. Prints one line.
"""

import argparse
import hashlib
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.service.running import FINISHED, Server, Worker, example
from tests.service.servers import Postgres

OPTIONS = {"limit": 64, "method": "max"}
RETRIES = (httpx.TransportError,)


@contextmanager
def processes(folder: Path, postgres: Postgres | None) -> Iterator[tuple[Server, list[Worker]]]:
    """One process on SQLite; on PostgreSQL an API process and two workers that share a folder of blobs."""
    with ExitStack() as stack:
        if postgres is None:
            yield stack.enter_context(Server(folder, QUOTA_QUEUED="0")), []
            return
        shared = {"DATABASE_URL": stack.enter_context(postgres.database()), "STORE_URL": f"file://{folder}/blobs"}
        server = stack.enter_context(Server(folder, QUEUES="none", QUOTA_QUEUED="0", **shared))
        server.key = server.new_key("acme")
        server.http = server.client(server.key)
        yield server, [stack.enter_context(Worker(folder, name, **shared)) for name in ("w1", "w2")]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--crash", action="store_true", help="stop PostgreSQL at once for 5 s, too")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    postgres = Postgres() if given.postgres or given.crash else None
    try:
        with tempfile.TemporaryDirectory() as folder, processes(Path(folder), postgres) as (server, workers):
            run(server, workers, given.jobs, given.kills, chance, postgres if given.crash else None)
    finally:
        if postgres:
            postgres.remove()


def run(
    server: Server, workers: list[Worker], jobs: int, kills: int, chance: random.Random, crash: Postgres | None
) -> None:
    """Send jobs continuously, kill all processes at random times, and compare the results."""
    ids = example(server.http)
    began, sent, killed = time.monotonic(), {}, 0
    pause = 4.0
    next_kill = time.monotonic() + chance.uniform(0.5, pause)
    while len(sent) < jobs or killed < kills:
        if len(sent) < jobs:
            number = len(sent)
            asked = {
                "model": ids["model"],
                "calibration": ids["calibration"],
                "options": {**OPTIONS, "time_steps": 1 + number % 4},
            }
            if number % 3 == 0:
                asked["evaluation"] = ids["evaluation"]
            try:
                answer = server.http.post("/v1/conversions", json=asked, headers={"Idempotency-Key": f"job-{number}"})
                if answer.status_code == 202:
                    sent[answer.headers["Location"]] = number
            except RETRIES:
                pass
        if time.monotonic() > next_kill and killed < kills:
            for process in (*workers, server):
                process.kill()
            killed += 1
            if crash is not None and killed == kills // 2:
                crash.stop("immediate")
                time.sleep(5)
                crash.start()
            for process in (server, *workers):
                process.up()
            next_kill = time.monotonic() + chance.uniform(0.5, pause)
        time.sleep(chance.uniform(0.0, 0.2))
    print(f"{killed} kills, {len(sent)} jobs accepted; waiting for the rest", flush=True)
    if crash is not None:
        crash.stop("immediate")
        time.sleep(5)
        crash.start()
    answers = {}
    deadline = time.monotonic() + 900
    while len(answers) < len(sent) and time.monotonic() < deadline:
        for url in sent:
            if url not in answers and (job := server.http.get(url).json()).get("state") in FINISHED:
                answers[url] = job
        time.sleep(0.5)
    check(server, sent, answers)
    took = time.monotonic() - began
    states = sorted({job["state"] for job in answers.values()})
    print(
        f"{killed} kills: {len(sent)} accepted, {len(answers)} finished {states}, all files complete "
        f"and equal; {took:.0f} s"
    )


def check(server: Server, sent: dict[str, int], answers: dict[str, dict[str, object]]) -> None:
    """All succeeded; equal requests gave equal networks, and the files are what the digests say."""
    missing = set(sent) - set(answers)
    assert not missing, f"never finished: {missing}"
    networks: dict[int, set[str]] = {}
    for url, number in sent.items():
        job = answers[url]
        assert job["state"] == "succeeded", job
        artifacts = job["artifacts"]
        assert isinstance(artifacts, dict)
        expected = {"snn.onnx", "plan.json"} | ({"report.html", "report.json"} if number % 3 == 0 else set())
        assert expected <= set(artifacts), job
        made = server.http.get(f"{url}/artifact").content
        assert hashlib.sha256(made).hexdigest() == artifacts["snn.onnx"]
        networks.setdefault(number % 4, set()).add(artifacts["snn.onnx"])
    assert all(len(digests) == 1 for digests in networks.values()), networks


if __name__ == "__main__":
    main()
