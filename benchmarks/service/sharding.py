"""An evaluation of 10,000 images: one process as a whole, then two workers in shards. Equal figures, and the times.

    python -m benchmarks.service.sharding [--samples 10000] [--shard 2500]

ResNet-20 on the test images of CIFAR-10 (benchmarks/assets.py fetches them), one thread a worker, one job or shard at a
time in each. Times are those of the job, from running to succeeded, which need two free cores; and processor time of
the busier worker with its tasks, which tells what two free cores would allow where there are none. Fails where any
figure differs in any bit. Prints one line.
"""

import argparse
import os
import tempfile
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.datasets import cifar10_calibration, cifar10_evaluation
from tests.service.running import ROOT, Server, Worker, finished, upload
from tests.service.servers import Postgres

OPTIONS = {"time_steps": 4, "method": "max", "limit": 128}
TIMED = ("latency_ms", "provenance")  # of an evaluation: measured by the clock, or its date
WITHIN = 600.0


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--shard", type=int, default=2500, help="samples in a shard")
    given = parser.parse_args()
    postgres = Postgres()
    try:
        with tempfile.TemporaryDirectory() as folder, postgres.database() as url:
            shared = {"DATABASE_URL": url, "STORE_URL": f"file://{folder}/blobs", "WORKERS": "1", "JOB_THREADS": "1"}
            run(Path(folder), shared, given.samples, given.shard)
    finally:
        postgres.remove()


def run(folder: Path, shared: dict[str, str], samples: int, shard: int) -> None:
    """Both ways, on the same network and data."""
    with Server(folder, QUEUES="none", **shared) as server:
        server.key = server.new_key("acme")
        server.http = server.client(server.key)
        model = upload(server.http, "model", ROOT / "benchmarks" / "trained" / "resnet20.onnx")["id"]
        calibration = upload(server.http, "dataset", cifar10_calibration(), "calibration.npz")["id"]
        dataset = upload(server.http, "dataset", cifar10_evaluation(), "evaluation.npz")["id"]
        with Worker(folder, "alone", **shared, SHARD_SAMPLES=str(samples)) as alone:
            made = job(server, "conversions", {"model": model, "calibration": calibration, "options": OPTIONS})
            compared = {"ann": model, "snn": made["id"], "dataset": dataset, "options": {"limit": samples}}
            before = processor(alone)
            whole = job(server, "evaluations", compared)
            busy = processor(alone) - before
        with ExitStack() as stack:
            workers = [
                stack.enter_context(Worker(folder, name, **shared, SHARD_SAMPLES=str(shard)))
                for name in ("first", "second")
            ]
            befores = [processor(worker) for worker in workers]
            shards = job(server, "evaluations", compared)
            busiest = max(processor(worker) - before for worker, before in zip(workers, befores, strict=True))
    if figures(whole) != figures(shards):
        raise SystemExit("the figures differ")
    one, two = seconds(whole), seconds(shards)
    print(
        f"evaluation of {samples:,} images: one worker {one:.1f} s, two workers in shards of {shard:,} {two:.1f} s "
        f"({two / one:.2f} of it); processor time {busy:.1f} s, the busier of two {busiest:.1f} s "
        f"({busiest / busy:.2f} of it); all figures equal, bit for bit (top-1 {figures(whole)['snn']['top1']:.4f})"
    )


def job(server: Server, collection: str, asked: dict[str, Any]) -> dict[str, Any]:
    """A job that succeeds."""
    answer = server.http.post(f"/v1/{collection}", json=asked).raise_for_status()
    found = finished(server.http, answer.headers["Location"], WITHIN)
    if found["state"] != "succeeded":
        raise SystemExit(f"{found['id']}: {found['error']}")
    return found


def figures(job: dict[str, Any]) -> dict[str, Any]:
    """All that does not come from a clock."""
    return {name: value for name, value in job["result"]["evaluation"].items() if name not in TIMED}


def processor(worker: Worker) -> float:
    """Seconds of processor time of a worker and of the tasks that it has ended."""
    assert worker.process is not None
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # utime, stime, cutime, cstime


def seconds(job: dict[str, Any]) -> float:
    """How long it ran."""
    started, ended = (datetime.fromisoformat(job[name]) for name in ("started", "finished"))
    return (ended - started).total_seconds()


if __name__ == "__main__":
    main()
