"""Work for two workers: a job by one worker as a whole, then by two in shards. Compares results and times.

    python -m benchmarks.service.sharding [--only evaluation] [--only max] … [--samples 10000] [--shard 2500]

    evaluation      of 10,000 images of CIFAR-10 by ResNet-20, converted with method max
    max, optimal    a conversion of ResNet-20, calibrated on 10,000 images by this method; also by one worker in shards
    sweep           four conversions of ResNet-20 on 512 images, each evaluated on a shard's images

Data from benchmarks/assets.py; T = 4; one thread per worker, one job or shard at a time in each. Times are those of the
job, from running to succeeded, which need two free cores; and the processor time of the busier worker with its tasks,
which shows the gain with two free cores even if there are none. Fails if any file or figure differs in any bit, or if a
worker did not take part. Prints one line each.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.datasets import cifar10_calibration, cifar10_evaluation
from tests.service.running import ROOT, Command, Server, Worker, finished, upload
from tests.service.servers import Postgres

OPTIONS = {"time_steps": 4, "method": "max", "limit": 128}
SWEEP = {"time_steps": [1, 2, 4, 8], "method": ["max"], "calibration_limit": 512}
TIMED = ("latency_ms", "provenance")  # of an evaluation: measured by the clock, or its date
KINDS = ("evaluation", "max", "optimal", "sweep")
WITHIN = 1800.0


@dataclass(frozen=True)
class JobRun:
    """A job: its results, seconds from running to succeeded, and processor seconds of the busiest of its workers."""

    results: Any
    seconds: float
    busiest: float


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=KINDS, help="what to measure; default: all")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--shard", type=int, default=2500, help="samples in a shard")
    given = parser.parse_args()
    postgres = Postgres()
    try:
        with tempfile.TemporaryDirectory() as folder, postgres.database() as url:
            shared = {"DATABASE_URL": url, "STORE_URL": f"file://{folder}/blobs", "WORKERS": "1", "JOB_THREADS": "1"}
            for kind in given.only or KINDS:
                with Server(Path(folder), QUEUES="none", **shared) as server:
                    print(run(kind, Path(folder), server, shared, given.samples, given.shard), flush=True)
    finally:
        postgres.remove()


def run(kind: str, folder: Path, server: Server, shared: dict[str, str], samples: int, shard: int) -> str:
    """One kind, each way, on the same network and data; the line to print."""
    server.key = server.new_key("acme")
    server.http = server.client(server.key)
    model = upload(server.http, "model", ROOT / "benchmarks" / "trained" / "resnet20.onnx")["id"]
    images = samples if kind in ("max", "optimal") else 512
    data = {"model": model, "calibration": upload(server.http, "dataset", cifar10_calibration(images))["id"]}
    dataset = upload(server.http, "dataset", cifar10_evaluation())["id"]
    collection, asked = "conversions", {**data, "options": {**OPTIONS, "method": kind, "limit": samples}}
    if kind == "evaluation":
        with Worker(folder, "first", **shared) as worker:
            made = job(server, [worker], "conversions", {**data, "options": OPTIONS})[0]
        collection = "evaluations"
        asked = {"ann": model, "snn": made["id"], "dataset": dataset, "options": {"limit": samples}}
    elif kind == "sweep":
        collection, asked = "sweeps", {**data, "dataset": dataset, "options": {**SWEEP, "limit": shard}}

    def measured(names: Sequence[str], size: int) -> JobRun:
        with ExitStack() as stack:
            settings = {**shared, "SHARD_SAMPLES": str(size)}
            workers = [stack.enter_context(Worker(folder, name, **settings)) for name in names]
            found, busy = job(server, workers, collection, asked)
        if min(busy) < 1:
            raise SystemExit("a worker did not take part")
        return JobRun(results(found), seconds(found), max(busy))

    whole, split = measured(["first"], samples), measured(["first", "second"], shard)
    alone = measured(["first"], shard) if kind in ("max", "optimal") else None
    if any(other.results != whole.results for other in (split, alone) if other):
        raise SystemExit("the results differ")
    return (
        f"{kind}: one worker {whole.seconds:.1f} s, two workers {split.seconds:.1f} s "
        f"({split.seconds / whole.seconds:.2f} of it); processor time {whole.busiest:.1f} s, the busier of two "
        f"{split.busiest:.1f} s ({split.busiest / whole.busiest:.2f} of it); "
        + (f"one worker in shards {alone.seconds:.1f} s, {alone.busiest:.1f} s; " if alone else "")
        + "equal, bit for bit"
    )


def job(
    server: Server, workers: Sequence[Worker], collection: str, asked: dict[str, Any]
) -> tuple[dict[str, Any], list[float]]:
    """A job that succeeds, and the processor time that each worker took for it."""
    before = [processor(worker) for worker in workers]
    answer = server.http.post(f"/v1/{collection}", json=asked).raise_for_status()
    found = finished(server.http, answer.headers["Location"], WITHIN)
    if found["state"] != "succeeded":
        raise SystemExit(f"{found['id']}: {found['error']}")
    return found, [processor(worker) - start for worker, start in zip(workers, before, strict=True)]


def results(job: dict[str, Any]) -> Any:
    """All results that are not measured by a clock: figures of evaluations, or digests of files."""
    found = job["result"]
    evaluations = [row["evaluation"] for row in found["rows"]] if "rows" in found else [found.get("evaluation")]
    if evaluations == [None]:
        return job["artifacts"]
    return [{name: value for name, value in each.items() if name not in TIMED} for each in evaluations]


def processor(worker: Command) -> float:
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
