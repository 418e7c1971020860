"""API processes, workers, PostgreSQL and an S3 store: the same code, the same results."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.running import Server, Worker, events, example, finished, until
from tests.service.servers import Postgres, S3Server

FEW = {"time_steps": 2, "limit": 64, "method": "max"}


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
    """A server on PostgreSQL prints no key: make one."""
    server.http.close()
    server.key = server.new_key("acme")
    server.http = server.client(server.key)
    return server


def test_two_workers_and_shards_give_the_same_numbers(shared: dict[str, str], tmp_path: Path) -> None:
    shared["JOB_THREADS"] = "1"
    api = {**shared, "QUEUES": "none"}
    with Server(tmp_path, **api) as server, Worker(tmp_path, "w1", **shared, SHARD_SAMPLES="128"):
        http = with_key(server).http
        ids = example(http)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
        snn = finished(http, http.post("/v1/conversions", json=asked).headers["Location"])
        assert snn["state"] == "succeeded", snn
        compare = {"ann": ids["model"], "snn": snn["id"], "dataset": ids["evaluation"]}
        with Worker(tmp_path, "w2", **shared, SHARD_SAMPLES="128"):
            url = http.post("/v1/evaluations", json=compare).headers["Location"]
            seen = list(events(http, url))
            sharded = finished(http, url)
    assert sharded["state"] == "succeeded", sharded
    assert [data["done"] for _, _, data in seen if data.get("stage") == "shards"] == list(range(9))
    with Server(tmp_path, **shared) as whole:
        http = with_key(whole).http
        single = finished(http, http.post("/v1/evaluations", json=compare).headers["Location"])
    found, expected = (_comparable(job["result"]["evaluation"]) for job in (sharded, single))
    assert found == expected
    assert sharded["result"]["evaluation"]["latency_ms"]["threads"] == 1


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
    """Without what is measured by the clock."""
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
