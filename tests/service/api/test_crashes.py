"""The process is killed at the worst moments: nothing accepted is lost, and what is finished is complete."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.service.running import Server, example, finished, sandboxes, until


@pytest.mark.slow
def test_killed_in_the_middle_of_a_job(tmp_path: Path) -> None:
    with Server(tmp_path, SHARD_SAMPLES="32") as server:
        ids = example(server.http)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"time_steps": 2, "limit": 64}}
        expected = finished(server.http, server.http.post("/v1/conversions", json=asked).headers["Location"])
        url = server.http.post("/v1/conversions", json=asked).headers["Location"]
        waiting = [server.http.post("/v1/conversions", json=asked).headers["Location"] for _ in range(3)]
        until(server.http, url, "running")
        assert server.process is not None
        while not (children := sandboxes(server.process.pid)):
            time.sleep(0.01)
        server.kill()
        gone = time.monotonic()
        while any(os.path.exists(f"/proc/{child}") for child in children):
            assert time.monotonic() - gone < 2
            time.sleep(0.01)
        server.up()
        for each in (url, *waiting):
            job = finished(server.http, each)
            assert job["state"] == "succeeded", job
            assert job["artifacts"] == expected["artifacts"]
            made = server.http.get(f"{each}/artifact").content
            assert hashlib.sha256(made).hexdigest() == job["artifacts"]["snn.onnx"]
        assert not any((server.data / "scratch").glob("*/*"))
        tasks = {line["task"] for line in server.lines() if "task" in line}
        assert "convert" in tasks and "observe" not in tasks  # with tasks that take all cores shards would take turns
        assert server.stop() == 0


@pytest.mark.slow
def test_accepted_but_never_sent(tmp_path: Path) -> None:
    """The process dies between writing a job down and sending it: housekeeping of the next one sends it."""
    with Server(tmp_path, QUEUES="convert") as server:
        ids = example(server.http)
        url = "/v1/conversions"
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"time_steps": 1, "limit": 32}}
        server.http.post(url, json=asked)
        key = server.key
        server.kill()
        from service.settings import load_settings
        from service.storage.metadata import opened

        with opened(load_settings(data_dir=server.data)) as metadata:
            digests = metadata.jobs.unfinished()[0].inputs
            job, _ = metadata.jobs.create(
                "local", "conversion", request=dict(metadata.jobs.unfinished()[0].request), inputs=digests
            )
        server.up()
        assert server.key != key
        assert finished(server.http, f"{url}/{job.id}")["state"] == "succeeded"


@pytest.mark.slow
def test_one_process_a_folder_and_a_port(tmp_path: Path) -> None:
    with Server(tmp_path, HOST="0.0.0.0") as server:
        assert server.url.startswith("http://127.0.0.1:")  # a link that can be opened
        second = Server(tmp_path)
        second.log = tmp_path / "second.log"
        with pytest.raises(AssertionError, match=f"another process works in {server.data}"):
            second.up()
        second.data, second.port = tmp_path / "other", server.port
        with pytest.raises(
            AssertionError, match=rf"error: cannot listen on 127\.0\.0\.1:{server.port}: Address already"
        ):
            second.up()
