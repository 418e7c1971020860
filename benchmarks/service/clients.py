"""Many clients list and poll while jobs run, and a large upload: times of answers, errors, memory of the server.

    python -m benchmarks.service.clients [--clients 200] [--seconds 30] [--upload 1500]      (MB; 0: none)

Prints one line for each.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.service.running import Server, example

OPTIONS = {"limit": 64, "method": "max", "time_steps": 2}
PATHS = ("/v1/jobs?limit=20", "/v1/models", "/v1/datasets", "/v1/conversions?state=succeeded")
PIECE = 2**16


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two requests of a client")
    parser.add_argument("--upload", type=int, default=1500, help="MB")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), QUOTA_QUEUED="0", QUOTA_BYTES="0") as server:
        poll(server, given.clients, given.seconds, given.every)
        if given.upload:
            upload(server, given.upload * 10**6)


def poll(server: Server, clients: int, seconds: float, every: float) -> None:
    """Clients that each ask every few seconds, while jobs run one after another."""
    ids = example(server.http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": OPTIONS}
    jobs = [server.http.post("/v1/conversions", json=asked).headers["Location"] for _ in range(int(seconds))]
    times: list[float] = []
    errors: list[str] = []
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        chance = random.Random(number)
        with server.client(server.key) as http:
            time.sleep(chance.uniform(0, every))
            while time.monotonic() < until:
                began = time.monotonic()
                path = chance.choice((*PATHS, chance.choice(jobs)))
                try:
                    answer = http.get(path)
                    if answer.status_code != 200:
                        errors.append(f"{path}: {answer.status_code}")
                except httpx.HTTPError as error:
                    errors.append(f"{path}: {error!r}")
                times.append(time.monotonic() - began)
                time.sleep(max(0.0, every - (time.monotonic() - began)))

    before = memory(server)
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    p50, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    print(
        f"{clients} clients, {len(times)} requests in {seconds:g} s: {len(errors)} errors, p50 {p50:.0f} ms, "
        f"p99 {p99:.0f} ms, largest {1000 * times[-1]:.0f} ms; server {before} -> {memory(server)} MiB",
        flush=True,
    )
    for error in sorted(set(errors))[:5]:
        print(error)


def upload(server: Server, size: int) -> None:
    """One large body. It is not a model, which the sandbox finds afterwards."""

    def body() -> Iterator[bytes]:
        piece = random.Random(0).randbytes(PIECE)
        for start in range(0, size, PIECE):
            yield piece[: size - start]

    peak, done = [memory(server)], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak.append(memory(server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
    answer = server.http.post("/v1/datasets", content=body(), headers=headers, timeout=600)
    took = time.monotonic() - began
    done.set()
    watcher.join()
    print(
        f"upload of {size / 1e6:.0f} MB: {took:.1f} s ({size / took / 1e6:.0f} MB/s), status {answer.status_code} "
        f"({answer.json()['type']}); server {peak[0]} MiB before, peak {max(peak)} MiB",
        flush=True,
    )


def memory(server: Server) -> int:
    """Resident memory of the server process without its children, MiB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) // 1024


if __name__ == "__main__":
    main()
