"""Disks that are full or read-only, databases and stores that are away: clear, and nothing accepted is lost."""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.disks import fill, small_disk
from tests.service.running import EXAMPLE, Server, Worker, events, example, finished, until, upload
from tests.service.servers import Gate, Postgres, S3Server

ASKED = {"time_steps": 2, "limit": 64}
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
UNAVAILABLE = "/problems/unavailable"
AWAY = "the store does not answer now"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The server's data folder as a file system of 32 MiB."""
    with small_disk(tmp_path / "data", "size=32m") as folder:
        yield folder


def refused(answer: httpx.Response, words: str, server: Server) -> None:
    """Check that the answer says what is away, what to do and when to come back; only the log says where."""
    assert answer.status_code == 503, answer.text
    problem = answer.json()
    assert problem["type"] == UNAVAILABLE and problem["detail"] == words and problem["remedy"], problem
    assert answer.headers["Retry-After"]
    errors = [
        line for line in server.lines() if line.get("request") == problem["request_id"] and line["level"] == "error"
    ]
    assert errors and errors[0]["message"].startswith("storage: ")
    assert nothing_of_the_machine(answer.text, server)


def nothing_of_the_machine(text: str, server: Server) -> bool:
    """Whether a text names no folder, address or variable of the machine."""
    return not any(
        each in text for each in (str(server.folder), "s3://", "http://", "/data", ".db", "GRAPHPASS_", "AWS_")
    )


def asked_of(ids: dict[str, str]) -> dict[str, object]:
    """The body of a conversion of the example."""
    return {"model": ids["model"], "calibration": ids["calibration"], "options": ASKED}


@pytest.mark.slow
def test_a_full_disk(disk: Path, tmp_path: Path) -> None:
    with Server(tmp_path, WORKERS="1") as server:
        http, ids = server.http, example(server.http)
        asked = asked_of(ids)
        expected = finished(http, http.post("/v1/conversions", json=asked).headers["Location"])
        data = (EXAMPLE / "evaluation.npz").read_bytes() + b"\0"  # other bytes than those that are there
        sent = http.post(
            "/v1/uploads", headers={**TUS, "Upload-Length": str(len(data)), "Upload-Metadata": "kind bW9kZWw="}
        )
        piece = sent.headers["Location"]
        jobs = [http.post("/v1/conversions", json=asked).headers["Location"] for _ in range(3)]
        until(http, jobs[0], "running")
        time.sleep(0.5)  # in the middle of the task
        ballast = fill(disk)
        full = time.monotonic()
        while (answer := http.post("/v1/conversions", json=asked)).status_code == 202:  # as long as there is a page
            jobs.append(answer.headers["Location"])
            fill(disk)
        refused(answer, "the database has no space left", server)
        sent = http.post("/v1/models", content=data)  # its room is reserved in the database first
        refused(sent, "the database has no space left", server)
        refused(
            http.patch(piece, content=data, headers={**TUS, "Upload-Offset": "0"}),
            "the store has no space left",
            server,
        )
        assert http.head(piece, headers=TUS).headers["Upload-Offset"] == "0"
        ready = http.get("/readyz")
        assert ready.status_code == 503 and "has no space left" in ready.json()["checks"]["store"]
        assert nothing_of_the_machine(ready.text, server)
        time.sleep(max(0.0, 8 - (time.monotonic() - full)))  # the task has run into it, more than once
        assert all(http.get(job).json()["state"] in ("queued", "running") for job in jobs)
        assert http.get("/v1/models").status_code == 200
        ballast.unlink()
        assert http.get("/readyz").status_code == 200
        for url in jobs:
            job = finished(http, url)
            assert job["state"] == "succeeded" and job["artifacts"] == expected["artifacts"], job
        assert http.patch(piece, content=data, headers={**TUS, "Upload-Offset": "0"}).status_code == 204
        assert http.get(piece).json()["sha256"] == hashlib.sha256(data).hexdigest()
        assert http.post("/v1/conversions", json=asked).status_code == 202


@pytest.mark.slow
def test_a_full_disk_and_an_end(disk: Path, tmp_path: Path) -> None:
    """SIGTERM ends a process that waits for room; its jobs go on after the next start."""
    with Server(tmp_path) as server:
        url = server.http.post("/v1/conversions", json=asked_of(example(server.http))).headers["Location"]
        until(server.http, url, "running")
        ballast = fill(disk)
        time.sleep(4)
        assert server.stop() == 0
        with pytest.raises(AssertionError, match=r"error: no space left .*make room"):
            server.up()
        ballast.unlink()
        server.up()
        assert finished(server.http, url)["state"] == "succeeded"


@pytest.mark.slow
def test_data_folders_that_cannot_be_written_to(disk: Path, tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        ids = example(server.http)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(
        AssertionError, match=rf"error: {disk} cannot be written to: Read-only.*--data or GRAPHPASS_DATA"
    ):
        server.up()
    assert "Traceback" not in server.output()
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    with server:
        assert server.http.get(f"/v1/models/{ids['model']}").status_code == 200
    (tmp_path / "other" / "data").parent.mkdir()
    (tmp_path / "other" / "data").write_bytes(b"a file")
    with pytest.raises(AssertionError, match=r"error: .*other/data cannot be written to.*--data or GRAPHPASS_DATA_DIR"):
        Server(tmp_path / "other").up()


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate in front of the S3 server of this run."""
    for name, value in S3Server.KEYS.items():
        monkeypatch.setenv(name, value)
    gate = Gate(s3)
    yield gate
    gate.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(500, "does not answer", id="500"),
        pytest.param(403, "refuses", id="403", marks=pytest.mark.slow),
        pytest.param(0, "does not answer", id="away", marks=pytest.mark.slow),
    ],
)
def test_a_store_with_errors(status: int, words: str, gate: Gate, s3: S3Server, tmp_path: Path) -> None:
    store = {"STORE_URL": f"s3://{s3.bucket()}/blobs", "STORE_ENDPOINT": gate.endpoint}
    with Server(tmp_path, WORKERS="1", **store) as server:
        http, ids = server.http, example(server.http)
        asked = asked_of(ids)
        made = http.post("/v1/conversions", json=asked).headers["Location"]
        expected = finished(http, made)
        jobs = [http.post("/v1/conversions", json=asked).headers["Location"] for _ in range(2)]
        until(http, jobs[0], "running")
        gate.status = status
        since = time.monotonic()
        data = (EXAMPLE / "fashion_mnist.onnx").read_bytes() + b"\0"
        refused(http.post("/v1/models", content=data), AWAY, server)
        refused(http.get(f"{made}/artifact"), AWAY, server)
        assert any(f"the store {store['STORE_URL']} {words}" in line["message"] for line in server.lines())
        ready = http.get("/readyz")
        assert ready.status_code == 503 and ready.json()["checks"]["database"] == "ok"
        jobs.append(http.post("/v1/conversions", json=asked).headers["Location"])
        while not any(
            data.get("text") == f"{AWAY}; waiting" for _, name, data in events_of(server, jobs[0]) if name == "log"
        ):
            assert time.monotonic() - since < 60
            time.sleep(0.5)
        assert all(http.get(job).json()["state"] in ("queued", "running") for job in jobs)
        gate.status = None
        for url in jobs:
            job = finished(http, url)
            assert job["state"] == "succeeded" and job["artifacts"] == expected["artifacts"], job
        assert http.get("/readyz").status_code == 200
        assert http.get(f"{made}/artifact").status_code == 200
        upload(http, "model", EXAMPLE / "fashion_mnist.onnx")


def events_of(server: Server, url: str) -> list[tuple[int, str, dict[str, object]]]:
    """The events of a job so far."""
    with server.client(server.key) as http:
        http.timeout = httpx.Timeout(1.0)
        found = []
        try:
            for event in events(http, url):
                found.append(event)
        except httpx.ReadTimeout:
            pass
        return found


@pytest.mark.slow
def test_stores_and_databases_that_are_away_at_the_start(gate: Gate, s3: S3Server, tmp_path: Path) -> None:
    postgres = Postgres()
    try:
        with postgres.database() as url:
            shared = {"DATABASE_URL": url, "STORE_URL": f"s3://{s3.bucket()}", "STORE_ENDPOINT": gate.endpoint}
            server, worker = Server(tmp_path, **shared), Worker(tmp_path, "w1", **shared)
            postgres.stop()
            for process in (server, worker):
                with pytest.raises(
                    AssertionError, match=r"error: the database .* does not answer: .*GRAPHPASS_DATABASE_URL"
                ):
                    process.up()
            postgres.start()
            gate.status = 500
            for process in (server, worker):
                with pytest.raises(AssertionError, match=r"error: the store .* does not answer: .*GRAPHPASS_STORE_URL"):
                    process.up()
                assert "Traceback" not in process.output()
            gate.status = None
            with server, worker:
                assert server.http.get("/readyz").status_code == 200
    finally:
        postgres.remove()
