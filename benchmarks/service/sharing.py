"""What the rows of a sweep and the trials of a search share: processor time with children that go on with the next task
of their job, and with a fresh child for every task.

    python -m benchmarks.service.sharing [--only sweep] [--only search] [--workers 1]

ResNet-20 on CIFAR-10, 512 images for calibration and the first 2,000 for the evaluation; one thread a child. The sweep
has 2 codes × 3 T × 2 methods, the search a largest loss of 1 point. Processor time is that of a real server with its
children, from the request to the end of the job. Fails if any figure differs.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.datasets import cifar10_calibration, cifar10_evaluation
from benchmarks.service.sharding import TIMED, WITHIN, processor
from tests.service.running import ROOT, Server, finished, upload

SETTLED = 1.0  # seconds until the last child of a job has ended
IMAGES = 2000
OPTIONS: dict[str, dict[str, Any]] = {
    "sweep": {
        "coding": ["rate", "phase"],
        "time_steps": [2, 4, 8],
        "method": ["optimal", "max"],
        "limit": IMAGES,
    },
    "search": {"max_drop": 1.0},
}
COLLECTIONS = {"sweep": "sweeps", "search": "searches"}
FRESH = "import service.jobs.rooms\n\nservice.jobs.rooms.REST = 0.0\n"


def main() -> None:
    """Measure, and print one line a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(OPTIONS))
    parser.add_argument("--workers", type=int, default=1, help="children at a time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(FRESH)
        for kind in given.only or OPTIONS:
            fresh, resting = (measured(kind, Path(folder), given.workers, each) for each in (folder, ""))
            if fresh[0] != resting[0]:
                raise SystemExit(f"{kind}: the results differ")
            share = resting[1] / fresh[1]
            print(f"{kind}: fresh children {fresh[1]:.1f} s, resting {resting[1]:.1f} s: {share:.2f}", flush=True)


def measured(kind: str, folder: Path, workers: int, path: str) -> tuple[Any, float]:
    """The figures of a job, and the processor seconds that it took. path: of modules that the server loads first."""
    server = Server(folder / f"{kind}{path and '-fresh'}", WORKERS=str(workers), JOB_THREADS="1")
    server.folder.mkdir()
    server.environment = {"PYTHONPATH": path} if path else {}
    with server:
        inputs = {"model": upload(server.http, "model", ROOT / "benchmarks" / "trained" / "resnet20.onnx")["id"]}
        inputs["calibration"] = upload(server.http, "dataset", cifar10_calibration())["id"]
        inputs["dataset"] = upload(server.http, "dataset", cifar10_evaluation(IMAGES))["id"]
        began = processor(server)
        asked = {**inputs, "options": OPTIONS[kind]}
        answer = server.http.post(f"/v1/{COLLECTIONS[kind]}", json=asked).raise_for_status()
        job = finished(server.http, answer.headers["Location"], WITHIN)
        if job["state"] != "succeeded":
            raise SystemExit(f"{job['id']}: {job['error']}")
        time.sleep(SETTLED)
        made = {name: digest for name, digest in job["artifacts"].items() if not name.startswith("report")}
        return (figures(job["result"]), made), processor(server) - began


def figures(result: Any) -> Any:
    """All of a result that no clock measures, without the sizes of files that tell such times."""
    if isinstance(result, list):
        return [figures(each) for each in result]
    if isinstance(result, dict):
        return {
            name: figures(each) for name, each in result.items() if name not in (*TIMED, "seconds", "omitted", "files")
        }
    return result


if __name__ == "__main__":
    main()
