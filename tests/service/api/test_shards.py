"""Calibrations in shards: what a crash, a cancelled job and bad data do to them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.settings import load_settings
from service.storage.metadata import opened
from tests.service.running import EXAMPLE, Server, events, example, finished, sandboxes, upload

SHARDED = {"time_steps": 2, "method": "max"}  # of the 512 images of the example


@pytest.fixture(scope="module")
def sharding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that splits the calibrations of the example."""
    with Server(tmp_path_factory.mktemp("sharding"), SHARD_SAMPLES="128", WORKERS="2", JOB_THREADS="1") as server:
        yield server


@pytest.fixture(scope="module")
def model(sharding: Server) -> dict[str, str]:
    """The ids of the example on that server."""
    return example(sharding.http)


def convert(server: Server, ids: dict[str, str], **options: Any) -> str:
    """Start a conversion; its address."""
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {**SHARDED, **options}}
    return str(server.http.post("/v1/conversions", json=asked).raise_for_status().headers["Location"])


def until_observed(server: Server, url: str, shards: int) -> None:
    """Wait until so many shards of a calibration are done."""
    for _, _, data in events(server.http, url):
        if data.get("stage") == "running the network" and data["done"] >= shards:
            return
    raise AssertionError(f"{url} ended before")


def observed(server: Server, id: str) -> int:
    """How many shards of a job's calibration were observed."""
    found = [line["outcome"] for line in server.lines() if (line.get("task"), line.get("job")) == ("observe", id)]
    return found.count("succeeded")


@pytest.mark.slow
def test_killed_in_the_middle_of_the_shards(sharding: Server, model: dict[str, str]) -> None:
    """What was done stays done; the parts do not outlive the job."""
    whole = finished(sharding.http, convert(sharding, model, limit=128))
    assert whole["state"] == "succeeded" and observed(sharding, whole["id"]) == 0
    first = convert(sharding, model)
    counts = [data["done"] for _, _, data in events(sharding.http, first) if data.get("stage") == "running the network"]
    assert counts == [0, 1, 2, 3, 4]
    expected = finished(sharding.http, first)
    assert expected["state"] == "succeeded" and observed(sharding, expected["id"]) == 4
    url = convert(sharding, model)
    until_observed(sharding, url, 2)
    sharding.kill()
    with opened(load_settings(data_dir=sharding.data)) as metadata:
        pinned = metadata.keys.usage("local").bytes
    sharding.up()
    job = finished(sharding.http, url)
    assert job["state"] == "succeeded" and job["artifacts"] == expected["artifacts"]
    assert 4 <= observed(sharding, job["id"]) <= 4 + 2  # two may have ended as the process was killed
    with opened(load_settings(data_dir=sharding.data)) as metadata:
        deadline = time.monotonic() + 10  # they go once the job is over
        while metadata.ledger.unreferenced(1):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert pinned > metadata.keys.usage("local").bytes


def test_cancelling_kills_a_shard_within_a_second(sharding: Server, model: dict[str, str]) -> None:
    url = convert(sharding, model, seed=1)
    until_observed(sharding, url, 1)
    assert sharding.process is not None
    while not (children := sandboxes(sharding.process.pid)):
        time.sleep(0.01)
    began = time.monotonic()
    assert sharding.http.post(f"{url}/cancel").json()["state"] == "cancelled"
    while sandboxes(sharding.process.pid) & children:
        assert time.monotonic() - began < 1.0
        time.sleep(0.01)
    time.sleep(1.0)
    assert not sandboxes(sharding.process.pid)


@pytest.mark.slow
def test_bad_data_in_a_shard_fails_the_job(sharding: Server, model: dict[str, str], tmp_path: Path) -> None:
    images = dict(np.load(EXAMPLE / "calibration.npz"))["image"][:300]
    images[150, 0, 3, 3] = np.nan
    np.savez(tmp_path / "broken.npz", image=images)
    broken = upload(sharding.http, "dataset", tmp_path / "broken.npz")["id"]
    job = finished(sharding.http, convert(sharding, {**model, "calibration": broken}))
    assert job["state"] == "failed" and job["error"]["type"] == "/problems/invalid-data"
    assert "NaN or inf as float32 in sample 150" in job["error"]["what"], job["error"]
    refused = finished(sharding.http, convert(sharding, model, exclude=["."]))
    assert refused["error"]["type"] == "/problems/unsupported-model"
    assert observed(sharding, refused["id"]) == 0
