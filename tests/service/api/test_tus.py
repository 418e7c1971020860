"""Resumable uploads, by hand and by a real client of tus (tuspy)."""

import base64
import hashlib
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from tusclient.client import TusClient

from service.settings import load_settings
from service.storage.metadata import opened
from service.storage.stores import open_blobs
from service.storage.uploads import append
from tests.service.api.test_requests import problem
from tests.service.running import EXAMPLE, Server

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
FILE = EXAMPLE / "fashion_mnist.onnx"


def begin(http: httpx.Client, length: int, **metadata: str) -> httpx.Response:
    """Begin an upload."""
    pairs = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items())
    return http.post("/v1/uploads", headers={**TUS, "Upload-Length": str(length), "Upload-Metadata": pairs})


def test_what_the_server_can_do(server: Server) -> None:
    answer = httpx.options(f"{server.url}/v1/uploads")
    assert answer.status_code == 204 and answer.headers["tus-version"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {"creation", "expiration", "termination"}
    assert int(answer.headers["tus-max-size"]) > 2**30


def test_in_three_pieces(http: httpx.Client) -> None:
    content = FILE.read_bytes()
    answer = begin(http, len(content), filename="three.onnx")
    assert (
        answer.status_code == 201
        and answer.headers["upload-offset"] == "0"
        and answer.headers["tus-resumable"] == "1.0.0"
    )
    assert answer.headers["upload-expires"].endswith("GMT")
    url = answer.headers["location"]
    early = http.post("/v1/models", json={"upload": url.rpartition("/")[2]})
    problem(early, 409, "upload-incomplete")
    for start, end in ((0, 1000), (1000, 300_000), (300_000, len(content))):
        assert http.head(url, headers=TUS).headers["upload-offset"] == str(start)
        sent = http.patch(url, content=content[start:end], headers={**PIECE, "Upload-Offset": str(start)})
        assert sent.status_code == 204 and sent.headers["upload-offset"] == str(end)
    whole = http.get(url).json()
    assert whole["sha256"] == hashlib.sha256(content).hexdigest()
    model = http.post("/v1/models", json={"upload": whole["id"], "name": "renamed.onnx"})
    assert model.status_code in (200, 201) and model.json()["sha256"] == whole["sha256"]
    assert http.delete(url, headers=TUS).status_code == 204
    assert http.head(url, headers=TUS).status_code == 404
    assert http.get(f"/v1/models/{model.json()['id']}").status_code == 200


def test_what_is_refused(server: Server, http: httpx.Client) -> None:
    old = {"Tus-Resumable": "0.2.2", "Upload-Length": "1"}
    problem(http.post("/v1/uploads", headers=old), 412, "tus-version")
    problem(http.post("/v1/uploads", headers=TUS), 422, "invalid-request")
    problem(begin(http, 10, filename="what"), 422, "invalid-request")
    problem(begin(http, 0, kind="model"), 422, "invalid-request")
    problem(begin(http, 2**45, kind="model"), 413, "too-large")
    bad = http.post("/v1/uploads", headers={**TUS, "Upload-Length": "1", "Upload-Metadata": "kind !!"})
    assert problem(bad, 422, "invalid-request")["where"] == "Upload-Metadata"
    url = begin(http, 10, kind="dataset").headers["location"]
    moved = http.patch(url, content=b"12345", headers={**PIECE, "Upload-Offset": "3"})
    problem(moved, 409, "upload-offset")
    assert moved.headers["upload-offset"] == "0"
    problem(http.patch(url, content=b"1", headers={**TUS, "Upload-Offset": "0"}), 415, "media-type")
    problem(http.patch(url, content=b"1" * 11, headers={**PIECE, "Upload-Offset": "0"}), 413, "too-large")
    assert http.get(url).json()["offset"] == 0
    with server.as_tenant("stranger") as stranger:
        assert stranger.head(url, headers=TUS).status_code == 404
        problem(stranger.patch(url, content=b"1", headers={**PIECE, "Upload-Offset": "0"}), 404, "not-found")
    upload = url.rpartition("/")[2]
    problem(http.post("/v1/models", json={"upload": upload}), 422, "invalid-request")
    http.delete(url, headers=TUS)


def test_a_broken_connection_keeps_what_arrived(server: Server, http: httpx.Client) -> None:
    content = FILE.read_bytes()
    url = begin(http, len(content), filename="broken.onnx").headers["location"]
    head = f"PATCH {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\nUpload-Offset: 0\r\n"
    head += f"Tus-Resumable: 1.0.0\r\nContent-Type: {PIECE['Content-Type']}\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + content[:200_000])
        import time

        time.sleep(0.3)
    deadline = time.monotonic() + 5
    while (offset := int(http.head(url, headers=TUS).headers["upload-offset"])) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert offset == 200_000
    sent = http.patch(url, content=content[offset:], headers={**PIECE, "Upload-Offset": str(offset)})
    assert sent.status_code == 204
    assert http.get(url).json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_metadata_that_says_two_things(http: httpx.Client) -> None:
    kinds = ",".join(f"kind {base64.b64encode(kind).decode()}" for kind in (b"model", b"dataset"))
    answer = http.post("/v1/uploads", headers={**TUS, "Upload-Length": "10", "Upload-Metadata": kinds})
    assert problem(answer, 422, "invalid-request")["where"] == "Upload-Metadata"


def test_all_bytes_have_arrived_and_their_last_patch_was_cut_off(tmp_path: Path) -> None:
    """The pieces are put together by whoever uses the upload: its client sees that there is nothing more to send."""
    content, body = FILE.read_bytes(), {**PIECE, "Upload-Offset": "0"}
    with Server(tmp_path) as server:
        url = begin(server.http, len(content), filename="cut.onnx").headers["location"]
        assert server.http.patch(url, content=content[:1000], headers=body).status_code == 204
        server.kill()
        settings, id = load_settings(data_dir=server.data), url.rpartition("/")[2]
        with opened(settings) as metadata:
            append(metadata, open_blobs(settings), "local", id, 1000, content[1000:])
        server.up()
        assert server.http.head(url, headers=TUS).headers["upload-offset"] == str(len(content))
        model = server.http.post("/v1/models", json={"upload": id})
        assert model.status_code == 201, model.text
        assert model.json()["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 2])
def test_a_real_client_and_a_server_that_is_killed(tmp_path: Path, kills: int) -> None:
    content = bytes(range(256)) * 40_000
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with Server(tmp_path) as server, path.open("rb") as file:
        client = TusClient(f"{server.url}/v1/uploads", headers={"Authorization": f"Bearer {server.key}"})
        given: Any = {"file_stream": file, "chunk_size": 1_000_000}
        url, size = client.uploader(**given, metadata={"filename": "data.npz"}).create_url(), len(content)
        for kill in range(kills):
            uploader = client.uploader(**given, url=url)
            uploader.upload(stop_at=size * (kill + 1) // (kills + 1))
            server.kill()
            server.up()
            client.set_headers({"Authorization": f"Bearer {server.key}"})
            assert 0 < client.uploader(**given, url=url).get_offset() < size
        client.uploader(**given, url=url).upload()
        found = server.http.get(re.sub(r"^https?://[^/]+", "", url)).json()
        assert found["offset"] == size and found["sha256"] == hashlib.sha256(content).hexdigest()
