"""API processes, workers, PostgreSQL and an S3 store: the same code, the same results."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.running import Server, Worker, events, example, finished, until
from tests.service.servers import Postgres, S3Server


@pytest.fixture
def shared(postgres: Postgres, s3: S3Server) -> Iterator[dict[str, str]]:
    """Settings of an empty database and bucket that processes share."""
    with postgres.database() as url:
        yield {"DATABASE_URL": url, "STORE_URL": f"s3://{s3.bucket()}/blobs", "STORE_ENDPOINT": s3.endpoint}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in S3Server.KEYS.items():
        monkeypatch.setenv(name, value)


def with_key(server: Server) -> Server:
    """The server with a key, which a server on PostgreSQL does not print."""
    server.http.close()
    server.key = server.new_key("acme")
    server.http = server.client(server.key)
    return server


@pytest.mark.slow
def test_two_workers_and_shards_give_the_same(shared: dict[str, str], tmp_path: Path) -> None:
    """Conversions, evaluations and sweeps: both workers take part, and files and figures are those of one process."""
    shared["JOB_THREADS"] = "1"
    few = {**shared, "SHARD_SAMPLES": "256", "WORKERS": "1"}
    with (
        Server(tmp_path, **shared, QUEUES="none") as server,
        Worker(tmp_path, "w1", **few) as one,
        Worker(tmp_path, "w2", **few) as other,
    ):
        http = with_key(server).http
        ids = example(http)
        data = {"model": ids["model"], "calibration": ids["calibration"]}
        conversion = {**data, "options": {"time_steps": 2, "method": "max"}}
        converted, reported = ended(http, "conversions", conversion)
        assert [each["done"] for each in reported if each.get("stage") == "running the network"] == [0, 1, 2]
        comparison = {"ann": ids["model"], "snn": converted["id"], "dataset": ids["evaluation"]}
        evaluated, reported = ended(http, "evaluations", comparison)
        assert [each["done"] for each in reported if each.get("stage") == "shards"] == list(range(5))
        options = {"time_steps": [2], "coding": ["rate", "phase"], "method": ["max"], "limit": 64}
        sweep = {**data, "dataset": ids["evaluation"], "options": {**options, "calibration_limit": 64}}
        swept, reported = ended(http, "sweeps", sweep)
        assert [each["done"] for each in reported if each.get("stage") == "conversions"] == [0, 1, 2]
        for task in ("observe", "evaluate_shard", "sweep_shard"):
            shares = [sum(line.get("task") == task for line in worker.lines()) for worker in (one, other)]
            assert min(shares) >= 1 and sum(shares) == {"evaluate_shard": 4}.get(task, 2)
    with Server(tmp_path, **shared) as whole:
        http = with_key(whole).http
        assert ended(http, "conversions", conversion)[0]["artifacts"] == converted["artifacts"]
        single, _ = ended(http, "evaluations", comparison)
        rows, _ = ended(http, "sweeps", sweep)
    assert not any(line.get("task") in ("observe", "evaluate_shard") for line in whole.lines())
    assert _comparable(evaluated["result"]["evaluation"]) == _comparable(single["result"]["evaluation"])
    assert evaluated["result"]["evaluation"]["latency_ms"]["threads"] == 1
    found, expected = (
        [{**row, "evaluation": _comparable(row["evaluation"])} for row in job["result"]["rows"]]
        for job in (swept, rows)
    )
    assert found == expected and [row["coding"] for row in found] == ["rate", "phase"]


def ended(http: httpx.Client, collection: str, asked: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Start a job and wait until it succeeds: the job, and the data of its events."""
    url = http.post(f"/v1/{collection}", json=asked).raise_for_status().headers["Location"]
    reported = [data for _, _, data in events(http, url)]
    job = finished(http, url)
    assert job["state"] == "succeeded", job
    return job, reported


@pytest.mark.slow
def test_a_worker_that_never_comes_back(shared: dict[str, str], tmp_path: Path) -> None:
    api = {**shared, "QUEUES": "none"}
    with Server(tmp_path, **api) as server, Worker(tmp_path, "lost", **shared) as lost:
        http = with_key(server).http
        ids = example(http)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"time_steps": 8}}
        url = http.post("/v1/conversions", json=asked).headers["Location"]
        until(http, url, "running")
        with Worker(tmp_path, "survivor", **shared) as survivor:
            lost.kill()
            began = time.monotonic()
            while f"worker {lost.name} does not come back" not in survivor.output():
                assert time.monotonic() - began < 30
                time.sleep(0.1)
            assert finished(http, url)["state"] == "succeeded"


@pytest.mark.slow
def test_two_workers_of_one_name_are_refused(shared: dict[str, str], tmp_path: Path) -> None:
    with Worker(tmp_path, "same", **shared):
        second = Worker(tmp_path, "same", **shared)
        with pytest.raises(AssertionError, match="another worker runs as GRAPHPASS_EXECUTOR_ID=same"):
            second.up()


def _comparable(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what is measured by the clock."""
    found = {name: value for name, value in evaluation.items() if name not in ("latency_ms", "provenance")}
    kept = {name: value for name, value in evaluation["provenance"].items() if name != "date"}
    return {**found, "provenance": kept}


@pytest.mark.slow
def test_the_database_is_away_for_a_while(tmp_path: Path) -> None:
    postgres = Postgres()
    try:
        with postgres.database() as url, Server(tmp_path, DATABASE_URL=url) as server:
            http = with_key(server).http
            ids = example(http)
            asked = {
                "model": ids["model"],
                "calibration": ids["calibration"],
                "options": {"time_steps": 4, "limit": 64},
            }
            job = http.post("/v1/conversions", json=asked).headers["Location"]
            until(http, job, "running")
            postgres.stop("immediate")
            for answer in (http.get(job), http.post("/v1/conversions", json=asked), http.get("/readyz")):
                assert answer.status_code == 503, answer.text
            assert http.get("/livez").status_code == 200
            assert http.get(job).json()["type"] == "/problems/unavailable"
            postgres.start()
            assert finished(http, job)["state"] == "succeeded"
            assert http.get("/readyz").status_code == 200
            again = finished(http, http.post("/v1/conversions", json=asked).headers["Location"])
            assert again["state"] == "succeeded"
    finally:
        postgres.remove()
