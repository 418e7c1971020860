"""Rows of a sweep and trials of a search on a real server: one child after the other, and figures as without it."""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

import graphpass
from tests.service.running import EXAMPLE, Server, events, example, finished, sandboxes, until

SWEEP: dict[str, Any] = {"time_steps": [1, 2], "coding": ["rate", "phase"], "method": ["max", "percentile"]}
FEW = {"limit": 64, "calibration_limit": 64}
SEARCH = {"max_drop": 3.0, "method": "max", "limit": 64}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one place."""
    with Server(tmp_path_factory.mktemp("sharing"), WORKERS="1", JOB_THREADS="1") as server:
        yield server


@pytest.fixture(scope="module")
def inputs(server: Server) -> dict[str, str]:
    found = example(server.http)
    return {"model": found["model"], "calibration": found["calibration"], "dataset": found["evaluation"]}


@contextmanager
def counted(server: Server) -> Iterator[set[int]]:
    """The children of a server while something happens."""
    found: set[int] = set()
    ended = threading.Event()
    assert server.process is not None
    parent = server.process.pid

    def look() -> None:
        while not ended.wait(0.01):
            found.update(sandboxes(parent))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def figures(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What no clock measures, of lists that no summary cuts."""
    left_out = ("latency_ms", "provenance", "drawn", "omitted")
    return {name: value for name, value in evaluation.items() if name not in left_out}


def start(server: Server, collection: str, inputs: dict[str, str], options: dict[str, Any]) -> str:
    answer = server.http.post(f"/v1/{collection}", json={**inputs, "options": options}).raise_for_status()
    return str(answer.headers["Location"])


@pytest.mark.slow
def test_a_sweep_takes_one_child_for_its_rows(server: Server, inputs: dict[str, str]) -> None:
    with counted(server) as children:
        url = start(server, "sweeps", inputs, {**SWEEP, **FEW})
        stages = [data["done"] for _, _, data in events(server.http, url) if data.get("stage") == "conversions"]
        job = finished(server.http, url)
    assert job["state"] == "succeeded" and stages == list(range(9))
    assert len(children) <= 3  # which rows there are, the rows, the report
    files = (EXAMPLE / name for name in ("fashion_mnist.onnx", "calibration.npz", "evaluation.npz"))
    here = graphpass.sweep(*files, threads=1, **SWEEP, **FEW)
    there = server.http.get(job["links"]["report_json"]).json()
    for mine, theirs in zip(here, there, strict=True):
        document = mine.to_json()
        assert {**document, "evaluation": None} == {**theirs, "evaluation": None}
        assert figures(document["evaluation"]) == figures(theirs["evaluation"])


@pytest.mark.slow
def test_a_search_takes_one_child(server: Server, inputs: dict[str, str]) -> None:
    with counted(server) as children:
        job = finished(server.http, start(server, "searches", inputs, SEARCH))
    assert job["state"] == "succeeded" and len(job["result"]["trials"]) > 1, job
    assert len(children) == 1


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["kill", "upgrade", "cancel"])
def test_stopped_between_two_rows(server: Server, inputs: dict[str, str], stop: str) -> None:
    """A server that is killed goes on with the rows that are left, as a newer one does; a job that is cancelled leaves
    no child.
    """
    url = start(server, "sweeps", inputs, {**SWEEP, **FEW})
    reached(server.http, url, 3)
    if stop == "cancel":
        server.http.post(f"{url}/cancel").raise_for_status()
        assert server.process is not None
        gone(lambda: sandboxes(server.process.pid))  # type: ignore[union-attr]
        return
    server.kill()
    if stop == "upgrade":
        forget_order(server)
    before = len(server.lines())
    server.up()
    assert finished(server.http, url)["state"] == "succeeded"
    id = url.rpartition("/")[2]
    done = [line for line in server.lines()[before:] if (line.get("task"), line.get("job")) == ("sweep_shard", id)]
    assert len(done) in (4, 5)  # the fourth may have ended as the server was killed


def forget_order(server: Server) -> None:
    """Have the engine remember the settings of sweeps as before rows were put in order."""
    with closing(sqlite3.connect(server.data / "jobs.db")) as jobs, jobs:
        steps = jobs.execute("SELECT rowid, output FROM operation_outputs WHERE output LIKE '%\"order\":%'").fetchall()
        assert steps
        for row, output in steps:
            older = re.sub(r',\s*"order":\s*\[[^]]*\]', "", output)
            assert older != output
            jobs.execute("UPDATE operation_outputs SET output = ? WHERE rowid = ?", (older, row))


def reached(http: httpx.Client, url: str, rows: int) -> None:
    until(http, url, "running")
    for _, _, data in events(http, url):
        if data.get("stage") == "conversions" and data["done"] >= rows:
            return
    raise AssertionError("it ended before")


def gone(children: Callable[[], set[int]]) -> None:
    """No child is left within a second."""
    ended = threading.Event()
    for _ in range(50):
        if not children():
            return
        ended.wait(0.02)
    raise AssertionError(f"{children()} go on")
