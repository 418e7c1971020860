"""Behind nginx, as docs/service.md configures it, and with its buffering on: uploads, events, ranges, addresses."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.service.api.test_requests import FEW, problem
from tests.service.api.test_tus import PIECE, TUS, begin
from tests.service.raw import connect, head, until_closed
from tests.service.running import ROOT, Server, events, example, finished
from tests.service.servers import Nginx

SNIPPET = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "service.md").read_text("utf-8"), re.DOTALL)
SIZE = 12 * 2**20  # more than nginx holds in memory
BUFFERING = ("proxy_request_buffering", "proxy_buffering")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server behind the proxy. It takes few connections of one address, but does not count those of the proxy."""
    with Server(tmp_path_factory.mktemp("behind"), CONNECTIONS_PER_ADDRESS="4", LOG_LEVEL="debug") as server:
        yield server


@pytest.fixture(scope="module", params=["off", pytest.param("on", marks=pytest.mark.slow)])
def nginx(request: pytest.FixtureRequest, behind: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx in front of the server, with its buffering on or off."""
    assert SNIPPET
    directives = SNIPPET[1].replace("http://127.0.0.1:8000", behind.url)
    for name in BUFFERING:
        assert f"{name} off;" in directives
        directives = directives.replace(f"{name} off;", f"{name} {request.param};")
    proxy = Nginx(tmp_path_factory.mktemp("nginx"), directives)
    proxy.buffering = request.param
    yield proxy
    proxy.stop()


@pytest.fixture
def http(behind: Server, nginx: Nginx) -> Iterator[httpx.Client]:
    """A client of the proxy."""
    with httpx.Client(
        base_url=nginx.url, headers={"Authorization": f"Bearer {behind.key}"}, timeout=60, trust_env=False
    ) as client:
        yield client


def test_large_bodies(http: httpx.Client) -> None:
    problem(http.post("/v1/datasets", content=os.urandom(SIZE)), 422, "invalid-data")
    pieces = (os.urandom(2**16) for _ in range(SIZE // 2**16))
    problem(http.post("/v1/datasets", content=pieces), 422, "invalid-data")


def test_resumable_uploads_over_broken_connections(behind: Server, nginx: Nginx, http: httpx.Client) -> None:
    data = os.urandom(SIZE)
    path = begin(http, SIZE, kind="dataset").headers["location"]
    assert path.startswith("/v1/uploads/")
    wanted = {
        "Tus_Resumable": "1.0.0",
        "Content_Type": PIECE["Content-Type"],
        "Upload_Offset": 0,
        "Content_Length": SIZE,
    }
    with connect(nginx.url) as connection:
        connection.sendall(head("PATCH", path, behind.key, **wanted) + data[: SIZE // 2])
        time.sleep(1)
    offset = settled(http, path)
    assert (offset > 0) == (nginx.buffering == "off") and offset <= SIZE // 2
    sent = http.patch(path, content=data[offset:], headers={**PIECE, "Upload-Offset": str(offset)})
    assert sent.status_code == 204 and http.get(path).json()["sha256"] == hashlib.sha256(data).hexdigest()


def settled(http: httpx.Client, path: str) -> int:
    """Where an upload stands when no more bytes arrive."""
    offset = -1
    while (now := int(http.head(path, headers=TUS).headers["upload-offset"])) != offset:
        offset = now
        time.sleep(1)
    return offset


def test_events_come_as_they_happen(http: httpx.Client) -> None:
    ids = example(http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    job = http.post("/v1/conversions", json=asked).headers["Location"]
    began, first, found = time.monotonic(), None, []
    for event in events(http, job):
        first = first or time.monotonic() - began
        found.append(event)
    assert [data["state"] for _, name, data in found if name == "state"][-1] == "succeeded"
    again = list(events(http, job, after=found[0][0]))
    assert again == found[1:]
    took = time.monotonic() - began
    assert first is not None and (first < 0.8 * took or took < 1)


def test_ranges_and_tags(http: httpx.Client) -> None:
    ids = example(http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    job = http.post("/v1/conversions", json=asked).headers["Location"]
    finished(http, job)
    whole = http.get(f"{job}/artifact")
    part = http.get(f"{job}/artifact", headers={"Range": "bytes=10-19", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    several = http.get(f"{job}/artifact", headers={"Range": "bytes=0-0,9-9"})
    assert several.status_code == 206 and several.headers["content-type"].startswith("multipart/byteranges")
    assert http.get(f"{job}/artifact", headers={"If-None-Match": f"W/{whole.headers['etag']}"}).status_code == 304
    assert http.head(f"{job}/artifact").headers["content-length"] == str(len(whole.content))
    problem(http.get(f"{job}/artifact", headers={"Range": f"bytes={'9' * 100}-"}), 416, "range")


def test_the_proxy_is_not_bounded_and_names_the_caller(behind: Server, nginx: Nginx) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=nginx.url, trust_env=False)) for _ in range(20)]
        forged = {"X-Forwarded-For": "203.0.113.9"}
        assert {client.get("/livez", headers=forged).status_code for client in clients} == {200}
    lines = [line for line in behind.lines() if line["message"].startswith("GET /livez")]
    assert lines and {line["client"] for line in lines} == {"127.0.0.1"}  # nginx says who it was, not the caller


def test_a_body_that_is_refused_is_refused_at_once(nginx: Nginx) -> None:
    """Without buffering, nginx passes the answer on before it has read the whole body."""
    with connect(nginx.url) as connection:
        connection.sendall(head("POST", "/v1/models", "gp_wrong", Content_Length=SIZE, Connection="close"))
        answer = b""
        try:
            for _ in range(SIZE // 2**16):
                connection.sendall(bytes(2**16))
        except ConnectionError:
            pass
        answer = until_closed(connection).data
    assert not answer or answer.startswith(b"HTTP/1.1 401")


def test_malformed_requests_do_not_get_through(nginx: Nginx) -> None:
    for data in (
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        with connect(nginx.url) as connection:
            connection.sendall(data)
            assert until_closed(connection).status in (400, 0)
