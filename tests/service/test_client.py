"""The Python client on the real service: the whole story, its errors, and a service that is killed."""

import hashlib
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from graphpass.cli.remote import packed_data, packed_model
from graphpass.client.client import Client, Stored
from graphpass.client.connection import Connection
from graphpass.errors import (
    DataError,
    GoalError,
    JobCancelledError,
    ModelError,
    OptionError,
    RemoteError,
    UnreachableError,
)
from tests.service.running import EXAMPLE, Server
from tests.test_conversion import network

FEW = {"time_steps": 2, "limit": 64, "method": "max"}
LARGE = 48 * 2**20  # bytes of a file that goes in several pieces


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("client")) as server:
        yield server


@pytest.fixture(scope="module")
def client(service: Server) -> Iterator[Client]:
    with Client(service.url, service.key, patience=5) as client:
        yield client


@pytest.fixture(scope="module")
def stored(client: Client) -> tuple[Stored, Stored, Stored]:
    return (
        client.upload_model(EXAMPLE / "fashion_mnist.onnx"),
        client.upload_dataset(EXAMPLE / "calibration.npz"),
        client.upload_dataset(EXAMPLE / "evaluation.npz"),
    )


def test_options_may_be_what_they_may_be_on_this_machine(client: Client, stored: tuple[Stored, ...]) -> None:
    """Numbers of numpy, and one value where several may stand."""
    model, calibration, evaluation = stored
    few: dict[str, Any] = {**FEW, "time_steps": np.int64(2), "limit": np.int32(64)}
    job = client.convert(model, calibration, evaluation, exclude="^/2/", metric="classes", **few)
    sent = job.refresh()._found["request"]["options"]
    assert (sent["exclude"], sent["metric"], sent["time_steps"]) == (["^/2/"], ["classes"], 2)
    job.delete()
    swept = client.sweep(model, calibration, evaluation, time_steps=np.array([1, 2]), coding="rate", limit=32)
    sent = swept.refresh()._found["request"]["options"]
    assert (sent["time_steps"], sent["coding"]) == ([1, 2], ["rate"])
    swept.delete()


def test_arguments_that_make_no_sense_are_refused_here(service: Server, client: Client, tmp_path: Path) -> None:
    for key in ("gp_\u00fc", "gp_x\n"):
        with pytest.raises(OptionError, match="the key is none of a service"):
            Client(service.url, key)
    for patience in (-1, "5", None, float("nan")):
        with pytest.raises(OptionError, match="patience is"):
            Client(service.url, service.key, patience=patience)
    for given in (None, b"ann.onnx", {"x": np.zeros(3)}):
        with pytest.raises(OptionError, match="cannot be of type"):
            client.upload_dataset(given)
    with pytest.raises(DataError, match=r"is a folder; pack what it holds in a \.zip"):
        client.upload_dataset(tmp_path)


def test_upload_convert_watch_download(client: Client, stored: tuple[Stored, ...], tmp_path: Path) -> None:
    model, calibration, evaluation = stored
    assert len(model.description["sites"]) == 5 and evaluation.description["labels"]
    job = client.convert(model, calibration, evaluation, **FEW)
    progress: list[tuple[str, int, int]] = []
    assert job.wait(lambda *each: progress.append(each)) is job and job.state == "succeeded"
    assert {"calibrating", "comparing"} <= {what for what, _, _ in progress}
    assert job.result["evaluation"]["time_steps"] == 2
    events = list(job.events())
    assert [event.id for event in events] == list(range(len(events)))
    assert list(job.events(after=events[-3].id)) == events[-2:]
    for what in job.files:
        assert job.download(tmp_path / what, what).stat().st_size > 100
    assert json.loads((tmp_path / "report_json").read_text()) == job.result["evaluation"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(job.files)  # nothing half done is left

    again = client.evaluate(model, job, evaluation, limit=100).wait()
    assert again.result["evaluation"]["samples"] == 100
    swept = client.sweep(model, calibration, evaluation, time_steps=[1], method=["max"], limit=32).wait()
    assert [row["time_steps"] for row in swept.result["rows"]] == [1]
    assert {each.id for each in client.jobs(state="succeeded")} >= {job.id, again.id, swept.id}
    assert client.job(job.id).result == job.result
    swept.delete()
    with pytest.raises(RemoteError, match=swept.id) as refused:
        client.job(swept.id)
    assert refused.value.slug == "not-found"


@pytest.mark.slow
def test_what_is_long_is_fetched_whole(client: Client, stored: tuple[Stored, ...], tmp_path: Path) -> None:
    """With names of a hundred thousand letters answers are summaries, which users of the client do not notice."""
    proto = onnx.load(EXAMPLE / "fashion_mnist.onnx")
    for number, each in enumerate(proto.graph.node):
        each.name = f"{number}" + "n" * 100_000
    onnx.save(proto, tmp_path / "long.onnx")
    model = client.upload_model(tmp_path / "long.onnx")
    assert len(json.dumps(model.description)) < 2**14 and model.description["omitted"]["characters"] > 100_000
    sites = client.description(model)["sites"]
    assert len(sites) == 5 and all(len(site["name"]) > 100_000 for site in sites)
    assert client.description(stored[0]) == stored[0].description
    job = client.convert(model, stored[1], stored[2], **FEW).wait()
    raw = client._connection.ask("GET", f"/v1/conversions/{job.id}").json()
    assert len(json.dumps(raw)) < 2**18 and raw["result"]["omitted"] and raw["result"]["evaluation"]["omitted"]
    assert [len(name) for name in job.result["sites"]] == [len(site["name"]) for site in sites]
    assert "omitted" not in job.result and "omitted" not in job.result["evaluation"]
    job.download(tmp_path / "report.json", "report_json")
    assert job.result["evaluation"] == json.loads((tmp_path / "report.json").read_text())
    swept = client.sweep(model, stored[1], stored[2], time_steps=[1, 2], method=["max"], limit=32).wait()
    assert [row["time_steps"] for row in swept.result["rows"]] == [1, 2]
    assert all(len(row["evaluation"]["sites"][0]["name"]) > 100_000 for row in swept.result["rows"])


def test_search(client: Client, stored: tuple[Stored, ...], tmp_path: Path) -> None:
    job = client.search(*stored, max_drop=5.0, method="percentile", time_steps=3, coding="phase", limit=32)
    stages = [event.data["stage"] for event in job.events() if event.kind == "progress"]
    assert job.refresh().state == "succeeded" and "trials" in stages
    found = job.result
    chosen = found["trials"][found["chosen"]]
    assert chosen["within"] and chosen["drop"]["value"] <= 5 and found["evaluation"]["samples"] == 500
    assert chosen["setting"]["time_steps"] == found["time_steps"]
    assert job.download(tmp_path / "snn.onnx").stat().st_size > 1000
    assert set(job.files) >= {"artifact", "plan", "report", "report_json"}


def test_ranking(client: Client, stored: tuple[Stored, ...]) -> None:
    """What it names may be left analogue."""
    model, calibration, evaluation = stored
    job = client.rank(model, calibration, evaluation, **FEW).wait()
    found = job.result
    assert found["time_steps"] == 2 and found["data"] == "evaluation.npz" and len(found["sites"]) == 5
    assert job.files == ("report", "report_json") and client.job(job.id).result == found
    left = [f"^{re.escape(name)}$" for name in found["exclude"]]
    made = client.convert(model, calibration, exclude=left, **FEW).wait()
    assert left and len(made.result["sites"]) == 5 - len(left)


def test_a_search_without_an_answer_names_the_sites(client: Client, stored: tuple[Stored, ...], tmp_path: Path) -> None:
    job = client.search(*stored, max_drop=1e-9, method="percentile", time_steps=1, limit=32)
    with pytest.raises(GoalError, match="The outputs need these sites most"):
        job.wait()
    assert job.state == "failed" and job.files == ("report", "report_json")
    found = json.loads(job.download(tmp_path / "report.json", "report_json").read_text("utf-8"))
    assert found["chosen"] is None and found["trials"] and len(found["shares"]) == 5
    page = job.download(tmp_path / "report.html", "report").read_text("utf-8")
    assert all(name in page for name in found["shares"])
    job.delete()


def test_without_data(client: Client, stored: tuple[Stored, ...]) -> None:
    model, calibration, _ = stored
    job = client.convert(model, synthetic=True, **FEW).wait()
    assert job.result["samples"] == 64 and "SYNTHETIC" in job.result["warnings"][0]
    with pytest.raises(OptionError, match="synthetic and calibration exclude each other"):
        client.convert(model, calibration, synthetic=True)


def test_errors_are_those_of_graphpass(client: Client, stored: tuple[Stored, ...], tmp_path: Path) -> None:
    model, calibration, _ = stored
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        client.upload_model(broken)
    with pytest.raises(DataError, match="cannot be read"):
        client.upload_dataset(tmp_path / "absent.npz")
    with pytest.raises(OptionError, match=r"options\.time_steps"):
        client.convert(model, calibration, time_steps=0)
    with pytest.raises(OptionError, match="300 time-steps"):
        client.convert(model, calibration, time_steps=300).wait()
    with pytest.raises(OptionError, match="has no plan"):
        client.sweep(model, calibration, calibration, time_steps=[1]).download(tmp_path / "p", "plan")
    with pytest.raises(OptionError, match="address"):
        Client("localhost:8000")
    with pytest.raises(OptionError, match="id of a job"):
        client.job("mod_1")


def test_a_wrong_key_and_a_service_that_is_not_there(service: Server) -> None:
    with Client(service.url, "gp_wrong") as client, pytest.raises(RemoteError) as refused:
        client.example()
    assert refused.value.slug == "unauthorized" and refused.value.remedy
    with (
        Client("http://127.0.0.1:9", "gp_", patience=0.1) as client,
        pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"),
    ):
        client.example()
    with Client(f"{service.url}/#key={service.key}") as client:  # the link that is printed
        assert set(client.example()) == {"model", "calibration", "evaluation"}


def test_who_has_too_many_requests_under_way_waits_for_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphpass.client.connection.LONGEST_PAUSE", 0.1)
    slugs = ["too-many-at-once"] * 10 + ["", "unavailable", "unavailable", "unavailable"]

    def answer(_: httpx.Request) -> httpx.Response:
        slug = slugs.pop(0)
        return httpx.Response(429 if slug else 200, json={"type": f"/problems/{slug}", "detail": "x"})

    connection = Connection("http://service", "gp_x", patience=0.15)
    connection.http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    assert connection.ask("GET", "/v1/jobs").status_code == 200
    with pytest.raises(RemoteError) as caught:  # what is not one's own doing is waited for as long as patience lasts
        connection.ask("GET", "/v1/jobs")
    assert caught.value.slug == "unavailable"


def test_cancel(client: Client, stored: tuple[Stored, ...]) -> None:
    job = client.sweep(*stored, time_steps=[1, 2, 4, 8])
    job.cancel()
    with pytest.raises(JobCancelledError, match=job.id):
        job.wait()
    job.cancel()  # nothing happens
    assert job.state == "cancelled"


@pytest.mark.slow
def test_killed_during_an_upload_and_during_a_job(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((LARGE // (28 * 28 * 4), 1, 28, 28), np.float32)
    large = tmp_path / "large.npz"
    np.savez(large, image=images)
    with Server(tmp_path) as server:
        key = server.new_key("acme")
        with Client(server.url, key) as client:
            killed = threading.Event()
            seen: list[int] = []

            def progress(what: str, done: int, total: int) -> None:
                seen.append(done)
                if done > total / 3 and not killed.is_set():
                    killed.set()
                    server.kill()
                    threading.Thread(target=server.up).start()

            found = client.upload_dataset(large, progress)
            assert killed.is_set()
            assert found.sha256 == hashlib.sha256(large.read_bytes()).hexdigest()
            assert found.description["samples"] == len(images)
            ids = client.example()

            job = client.sweep(ids["model"], ids["calibration"], ids["evaluation"], time_steps=[1, 2], limit=64)
            events = job.events()
            next(event for event in events if event.kind == "progress")
            server.kill()
            threading.Thread(target=server.up).start()
            numbers = [event.id for event in events]
            assert numbers == sorted(set(numbers))
            assert len(job.wait().result["rows"]) == 2


def test_an_upload_goes_on_in_another_process(client: Client, tmp_path: Path) -> None:
    images = np.random.default_rng(1).random((9 * 2**20 // (28 * 28 * 4) + 1, 1, 28, 28), np.float32)
    np.savez(tmp_path / "data.npz", image=images)

    def stop(what: str, done: int, total: int) -> None:
        if done > 2**22:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        client.upload_dataset(tmp_path / "data.npz", stop)
    address = stopped.value.__notes__[0].partition("'")[2].rstrip("'")
    progress: list[int] = []
    time.sleep(0.5)  # the service stores what it had received
    found = client.upload_dataset(
        tmp_path / "data.npz", lambda what, done, total: progress.append(done), resume=address
    )
    assert found.description["samples"] == len(images)
    with pytest.raises(DataError, match="not the file that this upload was started with"):
        client.upload_dataset(EXAMPLE / "calibration.npz", resume=address)


def test_folders_and_external_data_are_packed(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "net.onnx")
    with packed_model(tmp_path / "net.onnx") as path:
        assert path == tmp_path / "net.onnx"
    onnx.save(network(), tmp_path / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    with packed_model(tmp_path / "big.onnx") as path, zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["big.onnx", "big.data"] and path.name == "big.zip"
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "images" / "cat" / "1.png").write_bytes(b"1")
    with packed_data(str(tmp_path / "images")) as path, zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["cat/1.png"] and path.name == "images.zip"
        first = path.read_bytes()
    with packed_data(str(tmp_path / "images")) as path:
        assert path.read_bytes() == first
