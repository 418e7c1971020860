"""Requests that are valid HTTP but absurd: no error of the service, and no answer or metric that grows with them."""

import time

import httpx
import pytest

from tests.service.api.test_requests import problem
from tests.service.raw import exchange, head
from tests.service.running import Server

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://elsewhere/livez HTTP/1.1",
        b"GET //livez HTTP/1.1",
        b"GET /../../etc/passwd HTTP/1.1",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
        b"GET /assets/..%2f..%2fpyproject.toml HTTP/1.1",
        b"GET /%ff%fe HTTP/1.1",
        b"GET /%00 HTTP/1.1",
        b"GET ? HTTP/1.1",
        b"CONNECT elsewhere:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"M-SEARCH * HTTP/1.1",
        b"GET /v1/models/" + b"a" * 15_000 + b" HTTP/1.1",
    ],
)
def test_targets(server: Server, line: bytes) -> None:
    rest = f"\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {server.key}\r\n\r\n".encode()
    answer = exchange(server.url, line + rest)
    assert answer.status in (400, 404, 405), answer.data[:200]
    assert answer.problem()["status"] == answer.status


def test_upgrades_are_not_known(server: Server) -> None:
    for wanted in ("websocket", "h2c"):
        answer = exchange(server.url, head("GET", "/livez", Connection="Upgrade, close", Upgrade=wanted))
        assert answer.status == 200 and answer.body == b"ok\n"


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 10_000, b"9" * 60_000, b'"' + b"\\ud800" * 9_000 + b'"'])
def test_bodies_of_json(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/conversions", content=body, headers=JSON)
    assert answer.status_code in (400, 422) and len(answer.content) < 10_000, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"


def test_very_many_wrong_parameters(http: httpx.Client) -> None:
    answer = http.get("/v1/jobs?" + "state=x&" * 1800)
    assert len(problem(answer, 422, "invalid-request")["errors"]) == 20


def test_methods_make_no_metrics_and_long_paths_no_long_lines(server: Server) -> None:
    began = time.time()
    for number in range(30):
        exchange(server.url, head(f"METHOD{number}", "/livez", Connection="close"))
    exchange(server.url, head("GET", "/" + "a" * 15_000, Connection="close"))
    assert "METHOD" not in httpx.get(f"{server.url}/metrics").text
    lines = [line for line in server.output().splitlines() if line.startswith("{") and "GET /aaa" in line]
    assert lines and max(map(len, lines)) < 1000
    assert time.time() - began < 30


def test_chunks_of_one_byte_do_not_hold_the_others_up(server: Server) -> None:
    chunks = b"1\r\na\r\n" * 50_000
    began = time.monotonic()
    for _ in range(10):
        wanted = head("POST", "/v1/models", server.key, Transfer_Encoding="chunked", Content_Type="application/zip")
        assert exchange(server.url, wanted + chunks).status in (0, 400)
    assert time.monotonic() - began < 10
