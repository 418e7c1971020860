"""SIGTERM in the middle of requests: each is answered, or cut, as where the service is away. None is an error."""

from contextlib import ExitStack
from pathlib import Path

from tests.service.api.test_requests import FEW
from tests.service.api.test_tus import TUS, begin
from tests.service.connections.test_protocol import PLOTLY, is_problem
from tests.service.raw import connect, head, until, until_closed
from tests.service.running import Server, example, finished

BYTES = 5000  # of a resumable upload that have arrived


def test_requests_that_are_under_way(tmp_path: Path) -> None:
    with Server(tmp_path) as server, ExitStack() as stack:
        key, ids = server.new_key("acme"), example(server.http)
        asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {**FEW, "method": "optimal"}}
        job = server.http.post("/v1/conversions", json=asked).headers["Location"]
        with server.client(key) as http:
            at = begin(http, 10**6, kind="model").headers["location"]
        piece = {"Tus_Resumable": "1.0.0", "Content_Type": "application/offset+octet-stream", "Upload_Offset": 0}
        sending = {
            "a model": head("POST", "/v1/models", key, Content_Length=10**6) + b"x" * 1000,
            "a request": head("POST", "/v1/conversions", key, Content_Type="application/json", Content_Length=9) + b"{",
            "a piece": head("PATCH", at, key, Content_Length=10**6, **piece) + b"x" * BYTES,
        }
        connections = {name: stack.enter_context(connect(server.url)) for name in sending}
        for name, data in sending.items():
            connections[name].sendall(data)
        (stream := stack.enter_context(connect(server.url))).sendall(head("GET", f"{job}/events", server.key))
        (reader := stack.enter_context(connect(server.url, receive_bytes=4096))).sendall(head("GET", PLOTLY))
        until(stream, b"event: state"), until(reader, b"\r\n\r\n")
        assert server.stop() == 0
        for name in sending:
            answer = until_closed(connections[name])
            is_problem(answer, "unavailable")
            assert answer.headers["retry-after"], name
        until_closed(stream), until_closed(reader)
        errors = [line for line in server.lines() if line["level"] == "error"]
        assert [line for line in errors if not line["logger"].startswith("dbos")] == []
        server.up()
        with server.client(key) as http:
            assert http.head(at, headers=TUS).headers["upload-offset"] == str(BYTES)
        assert finished(server.http, job)["state"] == "succeeded"
