"""An S3 store that fails at random, and one that hangs: nothing is lost or wrong; what needs no store still works."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from graphpass.client import Client
from tests.service.api.test_tus import PIECE, TUS, begin
from tests.service.running import EXAMPLE, Server, example, finished
from tests.service.servers import Gate, S3Server

ASKED = {"time_steps": 2, "limit": 64, "method": "max"}
SLOW_BOUND = 2.0  # seconds for a request that needs no store, on a machine that does other work


class Unreliable(Gate):
    """A gate in which every fourth request fails or is slow; the same seed gives the same faults."""

    def __init__(self, store: S3Server, seed: int):
        self.chance, self.calm, self.failed = random.Random(seed), True, 0
        super().__init__(store)

    def fault(self) -> int | None:
        """See Gate."""
        if self.calm or self.chance.random() > 0.25:
            return None
        self.failed += 1
        if self.chance.random() < 0.3:
            time.sleep(0.3)
        return self.chance.choice([500, 503, Gate.RESET, Gate.CUT])


@pytest.fixture
def unreliable(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unreliable]:
    """Such a gate in front of the S3 server of this run."""
    for name, value in S3Server.KEYS.items():
        monkeypatch.setenv(name, value)
    gate = Unreliable(s3, 1)
    yield gate
    gate.close()


def store(gate: Gate, s3: S3Server) -> dict[str, str]:
    """Settings of an empty bucket behind the gate."""
    return {"STORE_URL": f"s3://{s3.bucket()}/blobs", "STORE_ENDPOINT": gate.endpoint}


@pytest.mark.slow
def test_a_store_that_fails_at_random(unreliable: Unreliable, s3: S3Server, tmp_path: Path) -> None:
    """The Python client, which knows what may be tried again, uploads and downloads: the bytes are the same."""
    with Server(tmp_path, **store(unreliable, s3)) as server:
        ids = example(server.http)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": ASKED}
        expected = finished(server.http, server.http.post("/v1/conversions", json=asked).headers["Location"])
        unreliable.calm = False
        key = server.new_key("other")
        with Client(server.url, key, patience=120) as client:
            model = client.upload_model(EXAMPLE / "fashion_mnist.onnx")
            calibration = client.upload_dataset(EXAMPLE / "calibration.npz")
            job = client.convert(model, calibration, **ASKED)
            job.wait()
            for number in range(3):
                job.download(tmp_path / f"{number}.onnx")
        data = (EXAMPLE / "evaluation.npz").read_bytes()
        upload(server, key, data)
        unreliable.calm = True
        assert unreliable.failed > 5
        with server.client(key) as http:
            artifacts = {found["artifacts"]["snn.onnx"] for found in http.get("/v1/conversions").json()["items"]}
            whole = http.get(f"/v1/conversions/{job.id}/artifact").content
        assert artifacts == {expected["artifacts"]["snn.onnx"]}
        assert {(tmp_path / f"{number}.onnx").read_bytes() for number in range(3)} == {whole}
        assert not [line for line in server.lines() if line.get("status") == 500]


def upload(server: Server, key: str, data: bytes) -> None:
    """Send a resumable upload in pieces, each again where the service answers that the store is away."""
    with server.client(key) as http:
        path = begin(http, len(data), kind="dataset").headers["location"]
        offset, deadline = 0, time.monotonic() + 120
        while offset < len(data):
            assert time.monotonic() < deadline
            headers = {**PIECE, "Upload-Offset": str(offset)}
            answer = http.patch(path, content=data[offset : offset + 3 * 10**5], headers=headers)
            assert answer.status_code in (204, 503), answer.text
            offset = int(http.head(path, headers=TUS).headers["upload-offset"])
        while http.get(path).json()["sha256"] is None:  # its pieces could not be put together then
            assert time.monotonic() < deadline
            http.patch(path, content=b"", headers={**PIECE, "Upload-Offset": str(len(data))})


@pytest.mark.slow
def test_a_store_that_hangs(unreliable: Unreliable, s3: S3Server, tmp_path: Path) -> None:
    """Downloads and uploads wait for the store, and are answered that it is away; nobody else waits."""
    with Server(tmp_path, **store(unreliable, s3)) as server:
        ids = example(server.http)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": ASKED}
        made = server.http.post("/v1/conversions", json=asked).headers["Location"]
        finished(server.http, made)
        unreliable.status = Gate.HANG
        unreliable.fault = lambda: unreliable.status  # type: ignore[method-assign]
        answers: list[int] = []

        def hang(number: int) -> None:
            with server.client(server.key) as http:
                http.timeout = httpx.Timeout(180)
                body = (EXAMPLE / "fashion_mnist.onnx").read_bytes() + bytes(number)
                answer = http.get(f"{made}/artifact") if number % 2 else http.post("/v1/models", content=body)
                answers.append(answer.status_code)

        waiting = [threading.Thread(target=hang, args=(number,)) for number in range(1, 21)]
        for thread in waiting:
            thread.start()
        time.sleep(2)
        with server.as_tenant("other") as other:
            for path in ("/livez", "/v1/jobs", "/v1/models"):
                for client in (other, server.http):
                    began = time.monotonic()
                    assert client.get(path).status_code == 200
                    assert time.monotonic() - began < SLOW_BOUND
        for thread in waiting:
            thread.join()
        assert set(answers) == {503}
        unreliable.open()
        assert server.http.get(f"{made}/artifact").status_code == 200
        assert server.http.get("/readyz").status_code == 200
