"""The real service, and callers who are slow, silent, many, or do not speak HTTP."""

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.problems import PROBLEMS
from tests.service.api.test_requests import FEW
from tests.service.connections.test_strict import SHAPES
from tests.service.raw import RawAnswer, connect, exchange, head, until_closed
from tests.service.running import COMMAND, Server, example, finished

HEADER, STALL, RATE = 1.0, 2.0, 2**15
FILES = 256  # open files of a server that has few
SLACK = 2.5  # seconds: connections are looked at once a second, on a machine that does other work
TUS = {"Tus_Resumable": "1.0.0", "Content_Type": "application/offset+octet-stream"}
PLOTLY = "/assets/plotly.min.js"  # 4 MB without a key


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience."""
    patience = {"HEADER_SECONDS": f"{HEADER}", "STALL_SECONDS": f"{STALL}", "LEAST_BYTES_PER_SECOND": f"{RATE}"}
    with Server(tmp_path_factory.mktemp("short"), IDLE_SECONDS="3", **patience) as server:
        yield server


def is_problem(answer: RawAnswer, slug: str) -> None:
    """Whether the answer is one problem document, after which the connection was closed."""
    found = answer.problem()
    assert found["type"] == f"/problems/{slug}" and found["status"] == answer.status == PROBLEMS[slug].status
    assert found["detail"] and found["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["connection"] == "close"


def metric(server: Server, name: str) -> float:
    """A figure of /metrics, 0 where it is not there."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_no_plain_request_is_a_problem_and_the_end(short: Server, name: str) -> None:
    is_problem(exchange(short.url, SHAPES[name][0]), "malformed-request")


def test_a_head_that_is_too_large(short: Server) -> None:
    is_problem(exchange(short.url, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000), "head-too-large")


@pytest.mark.parametrize("sent", [b"G", b"GET /livez HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_head_that_does_not_end(short: Server, sent: bytes) -> None:
    answer = exchange(short.url, sent)
    is_problem(answer, "slow-request")
    assert answer.seconds <= HEADER + SLACK


def test_a_head_byte_by_byte(short: Server) -> None:
    with connect(short.url) as connection:
        began = time.monotonic()
        try:
            while time.monotonic() - began < 10:
                connection.sendall(b"G" if time.monotonic() == began else b"a")
                time.sleep(0.1)
        except ConnectionError:
            pass
        assert time.monotonic() - began <= HEADER + SLACK


def test_a_second_head_that_does_not_end(short: Server) -> None:
    answer = exchange(short.url, head("GET", "/livez") + b"GET /livez HTTP/1.1\r\n")
    assert answer.data.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in answer.data
    assert answer.seconds <= HEADER + SLACK


def test_silence_is_no_request(short: Server) -> None:
    with connect(short.url) as connection:
        answer = until_closed(connection)
    assert answer.data == b"" and answer.seconds <= HEADER + SLACK


@pytest.mark.slow
def test_a_connection_may_wait_for_its_next_request(short: Server) -> None:
    with connect(short.url) as connection:
        for _ in range(2):
            connection.sendall(head("GET", "/livez"))
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(2**16)
            time.sleep(HEADER + 0.5)
        end = until_closed(connection)
    assert end.data == b"" and end.seconds <= 3 + SLACK


def test_requests_sent_ahead_are_answered_in_order(short: Server) -> None:
    answer = exchange(short.url, head("GET", "/livez") * 3 + head("GET", "/problems/range", Connection="close"))
    assert answer.data.count(b"\r\n\r\nok\n") == 3 and b"/problems/range" in answer.data.rpartition(b"\r\n\r\n")[2]


def begin(server: Server, length: int) -> str:
    """Begin a resumable upload; its address."""
    metadata = "kind " + base64.b64encode(b"dataset").decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(length), "Upload-Metadata": metadata}
    return str(server.http.post("/v1/uploads", headers=headers).headers["Location"])


def test_a_body_that_stalls_ends_and_what_came_is_kept(short: Server) -> None:
    path = begin(short, 10**6)
    with connect(short.url) as connection:
        connection.sendall(head("PATCH", path, short.key, Upload_Offset=0, Content_Length=10**6, **TUS) + bytes(10**5))
        answer = until_closed(connection)
    is_problem(answer, "slow-request")
    assert answer.seconds <= STALL + SLACK
    deadline = time.monotonic() + 5
    while (offset := short.http.get(path).json()["offset"]) != 10**5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert offset == 10**5


def test_a_body_that_drips_ends(short: Server) -> None:
    path, began = begin(short, 10**6), time.monotonic()
    with connect(short.url) as connection:
        connection.sendall(head("PATCH", path, short.key, Upload_Offset=0, Content_Length=10**6, **TUS))
        try:
            while time.monotonic() - began < 10:
                connection.sendall(bytes(RATE // 40))  # a quarter of the least rate
                time.sleep(0.1)
        except ConnectionError:
            pass
    assert time.monotonic() - began <= STALL / 0.75 + SLACK


def test_a_body_that_is_slow_but_not_too_slow_is_taken(short: Server) -> None:
    pieces, size = 30, RATE // 5  # twice the least rate, for longer than a stall may last
    path = begin(short, pieces * size)
    with connect(short.url) as connection:
        wanted = head(
            "PATCH", path, short.key, Upload_Offset=0, Content_Length=pieces * size, Connection="close", **TUS
        )
        connection.sendall(wanted)
        for _ in range(pieces):
            connection.sendall(bytes(size))
            time.sleep(0.1)
        assert until_closed(connection).status == 204


def test_whoever_does_not_read_the_answer_is_cut(short: Server) -> None:
    before = metric(short, 'graphpass_connections_cut_total{reason="slow-reader"}')
    with ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connect(short.url, receive_bytes=2**12))
            connection.sendall(head("GET", PLOTLY))
        deadline = time.monotonic() + STALL + SLACK
        while metric(short, 'graphpass_connections_cut_total{reason="slow-reader"}') < before + 10:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.slow
def test_whoever_reads_slowly_but_not_too_slowly_gets_all(short: Server) -> None:
    with connect(short.url, receive_bytes=2**14) as connection:
        connection.sendall(head("GET", PLOTLY, Connection="close"))
        began, got = time.monotonic(), 0
        while part := connection.recv(2**14):
            got += len(part)
            if time.monotonic() - began < 2 * STALL:
                time.sleep(0.1)  # at most five times the least rate
        size = int(httpx.head(f"{short.url}{PLOTLY}").headers["content-length"])
        assert size <= got < size + 2000


@pytest.mark.parametrize("length", [{"Content_Length": 10**9}, {"Transfer_Encoding": "chunked"}])
def test_a_body_that_nobody_wants_is_not_read_for_ever(short: Server, length: dict[str, object]) -> None:
    with connect(short.url) as connection:
        connection.sendall(head("POST", "/v1/models", Content_Type="application/octet-stream", **length))
        answer, sent, piece = b"", 0, b"10000\r\n" + bytes(2**16) + b"\r\n"
        try:
            while sent < 10**8:
                connection.sendall(piece if "Transfer_Encoding" in length else bytes(2**16))
                sent += 2**16
        except ConnectionError:
            pass
        answer = until_closed(connection).data
    assert sent < 10**8 and (not answer or answer.startswith(b"HTTP/1.1 401"))


def test_nobody_is_asked_for_a_body_that_is_refused(short: Server) -> None:
    wanted = head("POST", "/v1/models", "gp_wrong", Content_Length=10**9, Expect="100-continue")
    answer = exchange(short.url, wanted)
    assert answer.status == 401 and b"100 Continue" not in answer.data
    assert answer.seconds <= 5 + SLACK  # it may change its mind and send it after all


def test_every_place_taken_by_half_requests_and_it_answers(tmp_path: Path) -> None:
    with Server(tmp_path, CONNECTIONS="20", TRUSTED_PROXIES="none") as server, ExitStack() as stack:
        for number in range(60):
            connection = stack.enter_context(connect(server.url))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"")
            if number % 10 == 9:
                began = time.monotonic()
                assert httpx.get(f"{server.url}/livez").text == "ok\n"
                assert time.monotonic() - began < 1.0
        assert metric(server, 'graphpass_connections_cut_total{reason="gave-way"}') >= 40
        assert metric(server, "graphpass_connections") <= 20


@pytest.mark.slow
def test_an_address_has_its_bound_and_its_log_does_not_grow(tmp_path: Path) -> None:
    bounds = {"CONNECTIONS_PER_ADDRESS": "3", "TRUSTED_PROXIES": "10.0.0.0/8", "HEADER_SECONDS": "60"}
    with Server(tmp_path, **bounds) as server, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(server.url)).sendall(b"GET /livez")
        time.sleep(0.2)
        for _ in range(100):
            with connect(server.url) as connection:
                answer = until_closed(connection)
                is_problem(answer, "too-many-at-once")
                assert answer.headers["retry-after"] and answer.seconds < 1.0
        time.sleep(1.5)  # they are told of once a second
        refused = [line for line in server.lines() if line["message"].startswith("refused")]
        assert 1 <= len(refused) <= 20 and {line["client"] for line in refused} == {"127.0.0.1"}
        assert sum(line["times"] for line in refused) == 100


@pytest.mark.slow
def test_more_half_requests_than_files_and_jobs_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.service.running.COMMAND", ("prlimit", f"--nofile={FILES}:{FILES}", "--", *COMMAND))
    with Server(tmp_path) as server, ExitStack() as stack:
        ids = example(server.http)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
        jobs = [server.http.post("/v1/conversions", json=asked).headers["Location"] for _ in range(3)]
        for _ in range(FILES + 50):
            stack.enter_context(connect(server.url)).sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for _ in range(10):
            began = time.monotonic()
            assert httpx.get(f"{server.url}/livez").text == "ok\n"
            assert time.monotonic() - began < 2.0
        assert {finished(server.http, job)["state"] for job in jobs} == {"succeeded"}
        assert server.process is not None
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < FILES - 50
        assert server.log.stat().st_size < 10**5
