"""A machine that is short of files, memory, threads or processes for a while: no accepted job fails because of it."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.running import Server, example, finished, until

WHILE = 5.0  # seconds


def of_files(pid: int) -> None:
    """Take all descriptors: no file, socket or pipe can be opened."""
    most = max(int(each) for each in os.listdir(f"/proc/{pid}/fd")) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


def of_memory(pid: int) -> None:
    """Take memory: no thread gets a stack, and nothing gets 4 MiB."""
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (size + 2**22, resource.RLIM_INFINITY))


def enough(pid: int, files: tuple[int, int]) -> None:
    """Give back what was taken."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, files)
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.parametrize("short", [of_files, pytest.param(of_memory, marks=pytest.mark.slow)])
def test_no_accepted_job_fails(short: Callable[[int], None], tmp_path: Path) -> None:
    with Server(tmp_path, WORKERS="2", SHARD_SAMPLES="128", JOB_THREADS="1") as server:
        http, ids = server.http, example(server.http)
        data = {"model": ids["model"], "calibration": ids["calibration"]}
        conversion = {**data, "options": {"time_steps": 2, "method": "max", "limit": 256}}
        expected = finished(http, http.post("/v1/conversions", json=conversion).headers["Location"])
        few = {"time_steps": [1, 2], "method": ["max"], "limit": 64, "calibration_limit": 64}
        urls = [http.post("/v1/conversions", json=conversion).headers["Location"] for _ in range(4)]
        sweep = {**data, "dataset": ids["evaluation"], "options": few}
        urls.append(http.post("/v1/sweeps", json=sweep).headers["Location"])
        until(http, urls[0], "running")
        assert server.process is not None
        pid, files = server.process.pid, resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        ended = time.monotonic() + WHILE
        while time.monotonic() < ended:
            short(pid)  # again and again: what is closed meanwhile may not be opened either
            time.sleep(0.2)
        enough(pid, files)
        for url in urls:
            job = finished(http, url)
            assert job["state"] == "succeeded", job
            assert "conversions" not in url or job["artifacts"] == expected["artifacts"]
        assert http.get("/readyz").status_code == 200
