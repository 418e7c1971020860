"""Cancelling and deleting: what is stopped is stopped, what is finished stays, and nothing is left behind."""

import time
from collections.abc import Iterator

import httpx
import pytest

from graphpass.client.client import Client, Job
from graphpass.client.connection import Connection
from graphpass.errors import RemoteError
from service.settings import load_settings
from service.storage.metadata import opened
from service.storage.stores import open_blobs
from tests.service.api.endless import endless_conversion, endless_inputs
from tests.service.running import FINISHED, Server, events, example, finished, sandboxes, until

FEW = {"time_steps": 1, "limit": 32, "method": "max"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which nothing else runs."""
    with Server(tmp_path_factory.mktemp("cancel"), WORKERS="2") as server:
        yield server


@pytest.fixture(scope="module")
def endless(service: Server) -> dict[str, str]:
    """Inputs of a conversion that never ends."""
    return endless_inputs(service.http)


def children(service: Server) -> set[int]:
    """The children of the server in the sandbox."""
    assert service.process is not None
    return sandboxes(service.process.pid)


def until_child(service: Server) -> set[int]:
    """Wait until the server has a child."""
    deadline = time.monotonic() + 30
    while not (found := children(service)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def gone(service: Server, within: float = 1.0) -> None:
    """Whether all children are gone within so many seconds."""
    began = time.monotonic()
    while children(service):
        assert time.monotonic() - began < within
        time.sleep(0.01)


def metric(service: Server, name: str) -> float:
    """A figure of /metrics."""
    lines = service.http.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_a_cancelled_job_is_dead_within_a_second(service: Server, endless: dict[str, str]) -> None:
    url = endless_conversion(service.http, endless)
    until(service.http, url, "running")
    until_child(service)
    assert service.http.get(url).json()["links"]["cancel"] == f"{url}/cancel"
    answer = service.http.post(f"{url}/cancel")
    assert answer.status_code == 202 and answer.json()["state"] == "cancelled"
    gone(service)
    assert list(events(service.http, url))[-1][2]["state"] == "cancelled"
    again = service.http.post(f"{url}/cancel")  # whose answer was lost
    assert (again.status_code, again.json()) == (answer.status_code, answer.json())
    assert "cancel" not in again.json()["links"] and again.json()["expires"]
    assert service.http.delete(url).status_code == 204
    assert service.http.delete(url).status_code == 404 and service.http.post(f"{url}/cancel").status_code == 404


def test_cancelled_and_deleted_at_once_leaves_no_child(service: Server, endless: dict[str, str]) -> None:
    """This is done with twice as many jobs as there are places; after that another tenant finds a place."""
    for _ in range(4):
        url = endless_conversion(service.http, endless)
        until(service.http, url, "running")
        until_child(service)
        assert service.http.post(f"{url}/cancel").status_code == 202
        assert service.http.delete(url).status_code == 204
    gone(service, 2.0)
    deadline = time.monotonic() + 10
    while metric(service, "graphpass_tasks_running"):  # counted once what a child left is put away
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ids = example(service.http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    job = finished(service.http, service.http.post("/v1/conversions", json=asked).headers["Location"])
    assert job["state"] == "succeeded", job


def test_a_job_that_waits_is_cancelled_and_never_runs(service: Server, endless: dict[str, str]) -> None:
    urls = [endless_conversion(service.http, endless) for _ in range(5)]
    until(service.http, urls[0], "running")
    assert service.http.post(f"{urls[4]}/cancel").json()["started"] is None
    for url in urls:
        service.http.post(f"{url}/cancel")
    gone(service, 2.0)
    time.sleep(1.5)
    assert not children(service)
    states = {service.http.get(url).json()["state"] for url in urls}
    assert states == {"cancelled"}


def test_deleting_what_runs_is_refused_and_says_what_to_do(service: Server, endless: dict[str, str]) -> None:
    url = endless_conversion(service.http, endless)
    for state in ("queued", "running"):
        if state == "running":
            until(service.http, url, "running")
            running = until_child(service)
        answer = service.http.delete(url)
        problem = answer.json()
        assert answer.status_code == 409 and problem["type"] == "/problems/not-finished", problem
        assert problem["remedy"] == f"cancel it first: POST {url}/cancel"
    assert children(service) == running and service.http.get(url).json()["state"] == "running"
    service.http.post(f"{url}/cancel")


def test_what_is_finished_stays_as_it_is(service: Server) -> None:
    ids = example(service.http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    url = service.http.post("/v1/conversions", json=asked).headers["Location"]
    job = finished(service.http, url)
    answer = service.http.post(f"{url}/cancel")
    assert answer.status_code == 200 and answer.json() == job and job["artifacts"]
    assert service.http.get(f"{url}/artifact").status_code == 200
    failed = finished(
        service.http, service.http.post("/v1/conversions", json={"model": ids["model"]}).headers["Location"]
    )
    answer = service.http.post(f"{failed['links']['self']}/cancel")
    assert answer.status_code == 200 and answer.json()["state"] == "failed"


def test_nobody_elses_job_is_cancelled(service: Server, endless: dict[str, str]) -> None:
    url = endless_conversion(service.http, endless)
    until(service.http, url, "running")
    with service.as_tenant("stranger") as stranger:
        assert stranger.post(f"{url}/cancel").status_code == 404 and stranger.delete(url).status_code == 404
    with httpx.Client(base_url=service.url) as nobody:
        assert nobody.post(f"{url}/cancel").status_code == 401
    assert service.http.post(url.replace("conversions", "sweeps") + "/cancel").status_code == 404
    assert service.http.get(url).json()["state"] == "running"
    service.http.post(f"{url}/cancel")


@pytest.mark.slow
def test_the_client_races_with_completion_and_deletes_nothing(service: Server) -> None:
    """Cancelled at any moment around its end, a job is either cancelled, or has succeeded with all its files."""
    ids = example(service.http)
    states = []
    with Client(service.url, service.key) as client:
        began = time.monotonic()
        client.convert(ids["model"], ids["calibration"], **FEW).wait()
        usual = time.monotonic() - began
        for part in (0.0, 0.9, 1.0, 1.1):
            job = client.convert(ids["model"], ids["calibration"], **FEW)
            time.sleep(usual * part)
            job.cancel()
            states.append(job.state)
            found = client.job(job.id)
            assert found.state == job.state in FINISHED
            assert ("artifact" in found.files) == (found.state == "succeeded")
            job.cancel()
            assert job.state == found.state
    assert states[0] == "cancelled" and set(states) <= {"cancelled", "succeeded"}


class LostAnswers(httpx.BaseTransport):
    """A transport whose requests arrive, while the first answer to each request of one method is lost."""

    def __init__(self, method: str):
        self._method, self._lost = method, set[str]()
        self._under = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._under.handle_request(request)
        if request.method == self._method and request.url.path not in self._lost:
            self._lost.add(request.url.path)
            answer.read()
            raise httpx.ReadError("the answer is lost", request=request)
        return answer

    def close(self) -> None:
        self._under.close()


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_the_client_asks_again_where_an_answer_was_lost(service: Server, endless: dict[str, str], method: str) -> None:
    connection = Connection(service.url, service.key, 10)
    connection.http.close()
    connection.http = httpx.Client(
        base_url=service.url,
        headers={"Authorization": f"Bearer {service.key}"},
        transport=LostAnswers(method),
        timeout=30,
    )
    url = endless_conversion(service.http, endless)
    until(service.http, url, "running")
    job = Job(connection, service.http.get(url).json())
    job.cancel()
    assert job.state == "cancelled"
    job.delete()
    assert service.http.get(url).status_code == 404
    with pytest.raises(RemoteError) as refused:
        job.delete()
    assert refused.value.slug == "not-found"
    connection.http.close()
    gone(service, 2.0)


def test_nothing_stays_of_what_was_cancelled(service: Server, endless: dict[str, str]) -> None:
    """The disk has the bytes of what can be listed, and no others."""
    ids = example(service.http)
    asked = {
        "model": ids["model"],
        "calibration": ids["calibration"],
        "dataset": ids["evaluation"],
        "options": {"time_steps": [1, 2, 4, 8], "method": ["max"], "limit": 64, "calibration_limit": 64},
    }
    urls = [service.http.post("/v1/sweeps", json=asked).headers["Location"]]
    urls.append(endless_conversion(service.http, endless))
    for url in urls:
        until(service.http, url, "running")
    time.sleep(1.0)
    for url in urls:
        assert service.http.post(f"{url}/cancel").json()["state"] == "cancelled"
    gone(service, 2.0)
    for page in ("/v1/conversions?limit=200", "/v1/sweeps?limit=200"):
        for job in service.http.get(page).json()["items"]:
            assert service.http.delete(job["links"]["self"]).status_code == 204
    time.sleep(0.5)
    assert not list((service.data / "scratch").iterdir())
    settings = load_settings(data_dir=service.data)
    with opened(settings) as metadata:
        listed = {digest for digest, _ in open_blobs(settings).listing()}
        assert not metadata.jobs.unfinished() and metadata.keys.usage("local").running == 0
    stored = [service.http.get(f"/v1/{kind}?limit=200").json()["items"] for kind in ("models", "datasets")]
    assert listed == {each["sha256"] for page in stored for each in page}
