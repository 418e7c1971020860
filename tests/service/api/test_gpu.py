"""Jobs for a GPU go to workers of the queue gpu, and are refused where there are none.

No GPU is needed: their error is tested.
"""

import time
from pathlib import Path

import httpx
import pytest

from tests.service.running import Server, Worker, example, finished
from tests.service.servers import Postgres

WORDS = "CUDAExecutionProvider is not in this onnxruntime"


def evaluation(http: httpx.Client) -> dict[str, object]:
    """The body of an evaluation of a small conversion that asks for CUDA."""
    ids = example(http)
    options = {"time_steps": 1, "limit": 32, "method": "max"}
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": options}
    snn = finished(http, http.post("/v1/conversions", json=asked).headers["Location"])
    data = {"ann": ids["model"], "snn": snn["id"], "dataset": ids["evaluation"]}
    return {**data, "options": {"limit": 32, "provider": "cuda"}}


def refused(http: httpx.Client, asked: dict[str, object]) -> bool:
    """Whether it is refused, with a remedy."""
    answer = http.post("/v1/evaluations", json=asked)
    if answer.status_code != 409:
        return False
    problem = answer.json()
    assert problem["type"] == "/problems/no-worker" and problem["where"] == "options.provider", problem
    assert "graphpass worker --queues gpu" in problem["remedy"]
    return True


@pytest.mark.slow
def test_one_process(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        asked = evaluation(server.http)
        assert refused(server.http, asked)
    with Server(tmp_path, QUEUES="convert,shards,gpu") as server:
        job = finished(server.http, server.http.post("/v1/evaluations", json=asked).headers["Location"])
        assert job["state"] == "failed" and WORDS in job["error"]["what"], job


@pytest.mark.slow
def test_workers(postgres: Postgres, tmp_path: Path) -> None:
    with postgres.database() as url:
        shared = {"DATABASE_URL": url, "STORE_URL": f"file://{tmp_path}/blobs"}
        with Server(tmp_path, QUEUES="convert,shards", **shared) as server:
            server.key = server.new_key("acme")
            server.http.close()
            server.http = http = server.client(server.key)
            asked = evaluation(http)
            assert refused(http, asked)
            with Worker(tmp_path, "gpu-1", queues="gpu", **shared) as worker:
                job = finished(http, http.post("/v1/evaluations", json=asked).headers["Location"])
                assert job["state"] == "failed" and WORDS in job["error"]["what"], job
                assert "evaluate: invalid-options" in worker.output()
            since = time.monotonic()
            while not refused(http, asked):
                assert time.monotonic() - since < 20
                time.sleep(0.2)
