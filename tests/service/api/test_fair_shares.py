"""A tenant who floods the service beside one who does not: who waits for whom, and how many children there are."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.api.endless import endless_conversion, endless_inputs, undescribed
from tests.service.api.test_scaled_out import with_key
from tests.service.running import EXAMPLE, Server, Worker, example, finished, sandboxes, until, upload
from tests.service.sandbox.hostile_files import tiny
from tests.service.servers import Postgres

Tenants = Callable[[Server, str], httpx.Client]
FEW = {"time_steps": 1, "limit": 32, "method": "max"}


WORKING = 3  # two that work, and one that rested between tasks and ends


class Count(threading.Thread):
    """A thread that looks all the time how many children a server has."""

    def __init__(self, server: Server):
        super().__init__(daemon=True)
        assert server.process is not None
        self._parent, self._ended, self.most = server.process.pid, threading.Event(), 0

    def run(self) -> None:
        while not self._ended.wait(0.03):
            self.most = max(self.most, len(sandboxes(self._parent)))

    def __enter__(self) -> "Count":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


@contextmanager
def uploading(server: Server, key: str, bodies: list[bytes]) -> Iterator[None]:
    """Send models, as a caller who waits for no answer in the end."""
    with ExitStack() as stack:
        for body in bodies:
            sent = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            head = f"POST /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {key}\r\n"
            sent.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of two places, on which descriptions and steps end within some seconds."""
    settings = {"WORKERS": "2", "DESCRIBE_SECONDS": "10", "DESCRIBE_WAIT_SECONDS": "100", "QUOTA_QUEUED": "0"}
    with Server(tmp_path_factory.mktemp("fair"), **settings) as running:
        yield running


@pytest.fixture
def tenants() -> Iterator[Tenants]:
    """Makes clients of tenants, and closes them."""
    with ExitStack() as stack:
        yield lambda server, name: stack.enter_context(server.as_tenant(name))


@pytest.mark.slow
def test_a_small_upload_beside_a_tenant_who_floods_with_everything(server: Server, tenants: Tenants) -> None:
    flood, small = tenants(server, "flood"), tenants(server, "small")
    began = time.monotonic()
    upload(small, "model", EXAMPLE / "fashion_mnist.onnx")
    alone = time.monotonic() - began
    jobs = [endless_conversion(flood, inputs) for inputs in [endless_inputs(flood)] for _ in range(6)]
    until(flood, jobs[0], "running")
    with Count(server) as count, uploading(server, server.new_key("flood"), [undescribed(n) for n in range(6)]):
        time.sleep(3)
        began = time.monotonic()
        content = tiny().SerializeToString()
        assert small.post("/v1/models?name=tiny.onnx", content=content).status_code == 201
        took = time.monotonic() - began
        ids = example(small)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
        job = finished(small, small.post("/v1/conversions", json=asked).headers["Location"], 60)
        assert job["state"] == "succeeded", job
    for url in jobs:
        flood.post(f"{url}/cancel")
    assert count.most <= WORKING
    assert took < 8 + 2 * alone, (took, alone)
    deadline = time.monotonic() + 25  # two are described to the end of their time, the others are not waited for
    while (waiting := server.http.get("/metrics").text) and "graphpass_tasks_running 0.0" not in waiting:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_an_evaluation_beside_a_sweep_waits_for_one_turn(server: Server, tenants: Tenants) -> None:
    """While the evaluation runs, the tenant with the sweep gets no more turns than two places allow."""
    sweeping, small = tenants(server, "sweeping"), tenants(server, "small")
    theirs, ours = example(sweeping), example(small)
    data = {"model": theirs["model"], "calibration": theirs["calibration"], "dataset": theirs["evaluation"]}
    few = {"method": ["max"], "limit": 64, "calibration_limit": 64, "time_steps": list(range(1, 17))}
    sweep = sweeping.post("/v1/sweeps", json={**data, "options": {**few, "coding": ["rate"]}}).headers["Location"]
    until(sweeping, sweep, "running")
    conversion = {"model": ours["model"], "calibration": ours["calibration"], "options": FEW}
    with Count(server) as count:
        job = finished(small, small.post("/v1/conversions", json=conversion).headers["Location"])
        before = shards(server, sweep)
        compare = {"ann": ours["model"], "snn": job["id"], "dataset": ours["evaluation"], "options": {"limit": 64}}
        assert finished(small, small.post("/v1/evaluations", json=compare).headers["Location"])["state"] == "succeeded"
        between = shards(server, sweep) - before
        assert sweeping.get(sweep).json()["state"] == "running"
        sweeping.post(f"{sweep}/cancel")
    assert count.most <= WORKING and between <= 4


def shards(server: Server, sweep: str) -> int:
    """How many conversions of a sweep have ended."""
    id = sweep.rpartition("/")[2]
    return sum((line.get("task"), line.get("job")) == ("sweep_shard", id) for line in server.lines())


@pytest.mark.slow
def test_jobs_of_a_tenant_that_run_at_a_time(tmp_path: Path) -> None:
    """Its quota limits them, not the number of places; what its jobs wait for does not count."""
    with Server(tmp_path, WORKERS="3", QUOTA_RUNNING="1") as server:
        inputs = endless_inputs(server.http)
        urls = [endless_conversion(server.http, inputs) for _ in range(3)]
        until(server.http, urls[0], "running")
        time.sleep(2)
        assert [server.http.get(url).json()["state"] for url in urls] == ["running", "queued", "queued"]
        server.http.post(f"{urls[0]}/cancel")
        until(server.http, urls[1], "running")


@pytest.mark.slow
def test_nobody_holds_all_places_of_all_workers(postgres: Postgres, tmp_path: Path, tenants: Tenants) -> None:
    """Of workers with one place each, a tenant gives its second place up to a tenant that has none."""
    with postgres.database() as url:
        shared = {"DATABASE_URL": url, "STORE_URL": f"file://{tmp_path}/blobs"}
        with (
            Server(tmp_path, **shared, QUEUES="none") as server,
            Worker(tmp_path, "w1", WORKERS="1", **shared),
            Worker(tmp_path, "w2", WORKERS="1", **shared),
        ):
            flood, small = with_key(server).http, tenants(server, "small")
            inputs = endless_inputs(flood)
            urls = [endless_conversion(flood, inputs) for _ in range(4)]
            for running in urls[:2]:
                until(flood, running, "running")
            ids = example(small)
            asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
            for _ in range(2):
                job = finished(small, small.post("/v1/conversions", json=asked).headers["Location"], 60)
                assert job["state"] == "succeeded", job
            assert flood.get(urls[0]).json()["state"] == "running"
            for each in urls:
                flood.post(f"{each}/cancel")
