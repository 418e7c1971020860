"""What a tenant may keep, on the real server, compared with its disk: bodies, resumable uploads, results."""

import hashlib
import io
import os
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.service.running import EXAMPLE, Server, example, finished, upload
from tests.service.storage.test_accounts import on_disk

MIB = 2**20
QUOTA = 8 * MIB
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
FEW = {"time_steps": 1, "limit": 16, "method": "max"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose tenants may keep 8 MiB and send 64 MiB."""
    settings = {"QUOTA_BYTES": str(QUOTA), "MAX_UPLOAD_BYTES": str(64 * MIB), "QUOTA_ENTRIES": "12"}
    with Server(tmp_path_factory.mktemp("small"), **settings) as server:
        yield server


@pytest.fixture
def tenant(small: Server, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of a tenant of its own."""
    with small.as_tenant(request.node.name[:60].replace("[", "-").rstrip("]")) as client:
        yield client


def kept(server: Server) -> float:
    """Bytes that all tenants keep, by the metrics."""
    text = server.http.get("/metrics").text
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("graphpass_stored_bytes")))


def stored(server: Server) -> int:
    """Bytes on disk, without those of databases."""
    return on_disk(server.data / "blobs") + on_disk(server.data / "scratch")


def problem_of(answer: httpx.Response) -> str:
    """The type of the problem, without its path."""
    return str(answer.json()["type"]).removeprefix("/problems/")


def images(megabytes: float, seed: int) -> bytes:
    """An .npy of random images."""
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(seed).integers(0, 256, (int(megabytes * MIB) // 784, 1, 28, 28), np.uint8))
    return buffer.getvalue()


def test_refused_bodies_leave_nothing_and_none_is_read_beyond_the_quota(small: Server, tenant: httpx.Client) -> None:
    before, usage, sent = stored(small), kept(small), [0]

    def endless() -> Iterator[bytes]:
        for _ in range(60):
            sent[0] += MIB
            yield os.urandom(MIB)

    for _ in range(3):
        try:
            answer = tenant.post("/v1/datasets", content=endless())
            assert (answer.status_code, problem_of(answer)) == (403, "storage-quota"), answer.text
        except httpx.TransportError:  # the connection is closed while it sends
            pass
        assert stored(small) == before and kept(small) == usage
    assert sent[0] < 3 * 30 * MIB
    for _ in range(3):
        answer = tenant.post("/v1/datasets", content=os.urandom(7 * MIB))
        assert (answer.status_code, problem_of(answer)) == (422, "invalid-data")
        assert stored(small) == before and kept(small) == usage


def test_what_is_deleted_makes_room_at_once(small: Server, tenant: httpx.Client) -> None:
    before = stored(small)
    for seed in range(3):
        made = tenant.post("/v1/datasets", content=images(6, seed))
        assert made.status_code == 201, made.text
        assert stored(small) - before == made.json()["size"]
        refused = tenant.post("/v1/datasets", content=images(3, seed))
        assert (refused.status_code, problem_of(refused)) == (403, "storage-quota")
        assert "bytes are kept" in refused.json()["detail"] and "delete" in refused.json()["remedy"]
        assert tenant.delete(made.json()["url"]).status_code == 204
        assert stored(small) == before


def test_a_resumable_upload_counts_from_its_beginning_and_its_dataset_alone_afterwards(
    small: Server, tenant: httpx.Client
) -> None:
    data, before = images(5, 7), stored(small)
    kind = {"Upload-Metadata": "filename ZC5ucHk="}  # d.npy
    answer = tenant.post("/v1/uploads", headers={**TUS, **kind, "Upload-Length": str(len(data))})
    place = answer.headers["Location"]
    again = tenant.post("/v1/uploads", headers={**TUS, **kind, "Upload-Length": str(len(data))})
    assert (again.status_code, problem_of(again)) == (403, "storage-quota")
    assert tenant.patch(place, content=data[: 3 * MIB], headers={**TUS, "Upload-Offset": "0"}).status_code == 204
    assert stored(small) - before == 3 * MIB
    rest = {**TUS, "Upload-Offset": str(3 * MIB)}
    assert tenant.patch(place, content=data[3 * MIB :], headers=rest).status_code == 204
    assert stored(small) - before == len(data)
    made = tenant.post("/v1/datasets", json={"upload": place.rpartition("/")[2]})
    assert made.status_code == 201, made.text
    assert tenant.delete(made.json()["url"]).status_code == 204
    assert stored(small) == before
    gone = tenant.post("/v1/datasets", json={"upload": place.rpartition("/")[2]})
    assert (gone.status_code, problem_of(gone)) == (404, "not-found") and "send them again" in gone.json()["remedy"]
    other = tenant.post("/v1/uploads", headers={**TUS, **kind, "Upload-Length": str(7 * MIB)})
    assert other.status_code == 201
    where = other.headers["Location"]
    assert tenant.patch(where, content=data[:MIB], headers={**TUS, "Upload-Offset": "0"}).status_code == 204
    assert tenant.delete(where, headers=TUS).status_code == 204 and stored(small) == before


def test_parallel_clients_cannot_overdraw_together(small: Server, tenant: httpx.Client) -> None:
    before = stored(small)
    key = tenant.headers["Authorization"].removeprefix("Bearer ")

    def send(number: int) -> int:
        data = images(3, 100 + number)
        with small.client(key) as client:
            body: Any = data if number % 2 else (data[at : at + 65536] for at in range(0, len(data), 65536))
            return client.post("/v1/datasets", content=body).status_code

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(send, range(6)))
    assert found.count(201) <= 2 and set(found) <= {201, 403}, found
    assert stored(small) - before <= QUOTA
    for each in tenant.get("/v1/datasets").json()["items"]:
        assert tenant.delete(each["url"]).status_code == 204
    assert stored(small) == before


@pytest.mark.slow
def test_results_count_and_a_job_needs_room_for_them(small: Server, tenant: httpx.Client) -> None:
    ids = example(tenant)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    before = stored(small)
    url = tenant.post("/v1/conversions", json=asked).raise_for_status().headers["Location"]
    job = finished(tenant, url)
    assert job["state"] == "succeeded", job
    made = stored(small) - before
    assert made > 350_000
    evaluated = tenant.post("/v1/conversions", json={**asked, "evaluation": ids["evaluation"], "options": FEW})
    assert evaluated.status_code == 202  # 4 MiB are reserved for its report
    assert tenant.post("/v1/datasets", content=images(3, 1)).status_code == 403
    job = finished(tenant, evaluated.headers["Location"])
    assert job["state"] == "succeeded", job
    again = {"ann": ids["model"], "snn": job["id"], "dataset": ids["evaluation"], "options": {"limit": 50}}
    full = tenant.post("/v1/evaluations", json=again).raise_for_status().headers["Location"]
    failed, usage = finished(tenant, full), kept(small)  # its report is about as large as the one that is there
    assert failed["state"] == "failed" and failed["error"]["type"] == "/problems/storage-quota", failed
    assert failed["artifacts"] == {} and stored(small) - before < made + 6 * MIB and usage == stored(small)
    for each in (url, full, evaluated.headers["Location"]):
        assert tenant.delete(each).status_code == 204
    assert stored(small) == before
    assert tenant.post("/v1/datasets", content=images(3, 1)).status_code == 201


def test_a_job_whose_files_are_larger_than_what_is_left_fails_and_keeps_nothing(
    small: Server, tenant: httpx.Client, tmp_path: Path
) -> None:
    """A network that is small as an archive is not small when it has been converted."""
    weight = np.zeros((1100, 1100), np.float32)
    weight[::7, ::5] = 0.5
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "v"], ["y"], "last"),
    ]
    tensors = [numpy_helper.from_array(weight, name) for name in ("w", "v")]
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["N", 1100])], [info("y", TensorProto.FLOAT, ["N", 1100])], tensors
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with zipfile.ZipFile(tmp_path / "net.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.onnx", proto.SerializeToString())
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).random((64, 1100), np.float32))
    model, data = upload(tenant, "model", tmp_path / "net.zip"), upload(tenant, "dataset", tmp_path / "data.npz")
    assert model["size"] < MIB
    before = stored(small)
    asked = {"model": model["id"], "calibration": data["id"], "options": FEW}
    url = tenant.post("/v1/conversions", json=asked).raise_for_status().headers["Location"]
    job = finished(tenant, url)
    assert job["state"] == "failed" and job["error"]["type"] == "/problems/storage-quota", job
    assert "more would be over the quota" in job["error"]["what"] and job["artifacts"] == {}
    assert stored(small) == before


@pytest.mark.slow
def test_what_is_being_downloaded_counts_until_it_is_read(small: Server, tenant: httpx.Client) -> None:
    """A slow reader of a deleted file gets all of it, and its bytes count for the tenant until then."""
    ids, before = example(tenant), stored(small)
    asked = {**ids, "options": FEW}
    url = tenant.post("/v1/conversions", json=asked).raise_for_status().headers["Location"]
    job = finished(tenant, url)
    assert job["state"] == "succeeded", job
    with tenant.stream("GET", job["links"]["report"]) as answer:
        read = answer.iter_bytes(1000)
        begin = next(read)
        with small.client(tenant.headers["Authorization"].removeprefix("Bearer ")) as other:
            assert other.delete(url).status_code == 204
        assert stored(small) - before > 4 * MIB and kept(small) >= stored(small)
        content = begin + b"".join(read)
    assert hashlib.sha256(content).hexdigest() == job["artifacts"]["report.html"]
    deadline = time.monotonic() + 10
    while stored(small) != before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    broken = tenant.post("/v1/conversions", json=asked).raise_for_status().headers["Location"]
    job = finished(tenant, broken)
    with tenant.stream("GET", job["links"]["report"]) as answer:
        next(answer.iter_bytes(1000))  # and hangs up
    assert tenant.delete(broken).status_code == 204
    deadline = time.monotonic() + 10
    while stored(small) != before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_rows_are_counted_too(tenant: httpx.Client) -> None:
    ids = example(tenant)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    answers = [tenant.post("/v1/conversions", json=asked) for _ in range(10)]
    assert [answer.status_code for answer in answers[:9]] == [202] * 9
    assert (answers[9].status_code, problem_of(answers[9])) == (403, "storage-quota")
    assert "12 models, datasets, uploads and jobs are kept" in answers[9].json()["detail"]
    refused = tenant.post("/v1/uploads", headers={**TUS, "Upload-Length": "1", "Upload-Metadata": "kind bW9kZWw="})
    assert (refused.status_code, problem_of(refused)) == (403, "storage-quota")
    for answer in answers[:9]:
        tenant.delete(answer.headers["Location"])


@pytest.mark.slow
def test_a_process_that_dies_while_it_receives_leaves_nothing_after_the_next_start(tmp_path: Path) -> None:
    with Server(tmp_path, QUOTA_BYTES=str(QUOTA)) as server:
        ids = example(server.http)
        before = stored(server)

        def killing() -> Iterator[bytes]:
            for number in range(6):
                yield os.urandom(MIB)
                time.sleep(0.05)
                if number == 4:
                    server.kill()

        with pytest.raises(httpx.TransportError):
            server.http.post("/v1/datasets", content=killing())
        assert stored(server) > before
        with sqlite3.connect(server.data / "graphpass.db") as database:
            (reserved,) = database.execute("SELECT sum(bytes) FROM reservations").fetchone()
        assert stored(server) - before <= reserved
        server.up()
        assert stored(server) == before == kept(server)
        assert server.http.get(f"/v1/models/{ids['model']}").status_code == 200


@pytest.mark.slow
def test_what_was_refused_is_not_there_for_anybody(small: Server, tenant: httpx.Client) -> None:
    """Nothing is committed before it is described: its digest leads nowhere."""
    path = EXAMPLE / "fashion_mnist.onnx"
    broken = path.read_bytes()[:-1000]
    answer = tenant.post("/v1/models", content=broken)
    assert answer.status_code == 422
    assert tenant.get("/v1/models").json()["items"] == []
    with sqlite3.connect(small.data / "graphpass.db") as database:
        digests = {digest for (digest,) in database.execute("SELECT digest FROM blobs")}
    assert hashlib.sha256(broken).hexdigest() not in digests
