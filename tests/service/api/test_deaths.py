"""Jobs whose process is killed while they run: twice in one step is enough; an orderly end does not count."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.service.running import Server, example, finished, sandboxes

SLOW = {"time_steps": 8, "method": "optimal"}  # seconds in one step


def convert(server: Server, ids: dict[str, str], **more: Any) -> str:
    """Start a conversion; its address."""
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": SLOW, **more}
    return str(server.http.post("/v1/conversions", json=asked).raise_for_status().headers["Location"])


def children(server: Server, at_least: int = 1, other_than: frozenset[int] = frozenset()) -> frozenset[int]:
    """Wait until there are so many processes of the sandbox; their ids."""
    assert server.process is not None
    deadline = time.monotonic() + 60
    while len(found := frozenset(sandboxes(server.process.pid)) - other_than) < at_least:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def kill_and_start_again(server: Server) -> None:
    """Kill the process as a power cut does, or a kernel that needs memory, and start it again."""
    server.kill()
    server.up()


@pytest.mark.slow
def test_a_job_whose_process_died_twice_fails_by_itself_and_others_do_not(tmp_path: Path) -> None:
    """Two jobs run when the process dies for the first time.

    After that they take turns, so only one of them has a second death.
    """
    with Server(tmp_path, WORKERS="2") as server:
        ids = example(server.http)
        urls = [convert(server, ids), convert(server, ids)]
        children(server, 2)
        kill_and_start_again(server)
        first = children(server)
        time.sleep(0.5)  # as long as the other one would take to start
        assert children(server) == first
        kill_and_start_again(server)
        jobs = sorted((finished(server.http, url) for url in urls), key=lambda job: str(job["state"]))
        assert [job["state"] for job in jobs] == ["failed", "succeeded"], jobs
        error = jobs[0]["error"]
        assert error["type"] == "/problems/worker-died" and error["remedy"]
        assert error["what"] == "the worker died 2 times while it ran this job"
        assert finished(server.http, convert(server, ids))["state"] == "succeeded"
        kill_and_start_again(server)
        time.sleep(1)
        assert [server.http.get(job["links"]["self"]).json()["state"] for job in jobs] == ["failed", "succeeded"]


@pytest.mark.slow
def test_deaths_in_different_steps_and_orderly_ends_are_forgiven(tmp_path: Path) -> None:
    with Server(tmp_path, WORKERS="1") as server:
        ids = example(server.http)
        url = convert(server, ids, evaluation=ids["evaluation"])
        for _ in range(3):
            children(server)
            assert server.stop() == 0
            server.up()
        converting = children(server)
        kill_and_start_again(server)
        converting = children(server)
        while converting & children(server):  # until it converted; then it evaluates
            time.sleep(0.01)
        kill_and_start_again(server)
        job = finished(server.http, url)
        assert job["state"] == "succeeded" and "evaluation" in job["result"], job
