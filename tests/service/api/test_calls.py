"""Requests that last: how many of them a tenant and a key may have, and that they end when their key is revoked."""

import asyncio
import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

import httpx
import pytest

from service.api.calls import Calls
from service.connections.bounds import bounds_of
from service.errors import StorageUnavailableError
from service.problems import ProblemError
from service.settings import load_settings
from service.storage.records import Key
from tests.service.api.test_requests import FEW, problem
from tests.service.raw import connect, exchange, head, until, until_closed
from tests.service.running import Server, example

MOST_REQUESTS, MOST_STREAMS = 3, 2
TUS = {"Tus_Resumable": "1.0.0", "Content_Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose jobs wait for ever, and which takes few requests at a time."""
    bounds = {"REQUESTS_PER_TENANT": f"{MOST_REQUESTS}", "STREAMS_PER_KEY": f"{MOST_STREAMS}"}
    with Server(tmp_path_factory.mktemp("idle"), QUEUES="none", **bounds) as server:
        yield server


def waiting_job(http: httpx.Client) -> str:
    """Start a job that waits; its path."""
    ids = example(http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    return str(http.post("/v1/conversions", json=asked).headers["Location"])


def begin(http: httpx.Client) -> str:
    """Begin a resumable upload of 10⁶ bytes; its path."""
    metadata = "kind " + base64.b64encode(b"dataset").decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": f"{10**6}", "Upload-Metadata": metadata}
    return str(http.post("/v1/uploads", headers=headers).headers["Location"])


def revoke(server: Server, tenant: str) -> float:
    """Revoke the tenant's keys. Returns when that was."""
    for line in server.command("keys", "list").splitlines():
        if tenant in line:
            server.command("keys", "revoke", line.split()[0])
    return time.monotonic()


@pytest.mark.slow
def test_an_open_event_stream_ends_with_its_key(idle: Server) -> None:
    key, other = idle.new_key("gone"), idle.new_key("stays")
    with idle.client(key) as http, idle.client(other) as another, ExitStack() as stack:
        paths = {key: waiting_job(http), other: waiting_job(another)}
        streams = {text: stack.enter_context(connect(idle.url)) for text in paths}
        for text, path in paths.items():
            streams[text].sendall(head("GET", f"{path}/events", text))
            until(streams[text], b": graphpass")
        since = revoke(idle, "gone")
        until_closed(streams[key])
        assert time.monotonic() - since < 5
        streams[other].settimeout(0.5)
        with suppress(TimeoutError):
            assert streams[other].recv(2**16)  # nothing comes, or a comment; no bytes would be its end
        problem(http.get(f"{paths[key]}/events"), 401, "unauthorized")


@pytest.mark.slow
def test_a_body_that_is_being_sent_is_refused_when_its_key_is_gone(idle: Server) -> None:
    key = idle.new_key("sender")
    with idle.client(key) as http, connect(idle.url) as connection:
        path = begin(http)
        connection.sendall(head("PATCH", path, key, Upload_Offset=0, Content_Length=10**6, **TUS) + bytes(10**5))
        since = revoke(idle, "sender")
        answer = until_closed(connection)
        assert answer.status == 401 and answer.problem()["type"] == "/problems/unauthorized"
        assert time.monotonic() - since < 5 + 5  # and the connection is closed when no more of the body comes


def test_a_key_has_so_many_streams_and_they_leave_room_for_requests(idle: Server) -> None:
    key = idle.new_key("watcher")
    with idle.client(key) as http, ExitStack() as stack:
        path = f"{waiting_job(http)}/events"
        held = [stack.enter_context(connect(idle.url)) for _ in range(MOST_STREAMS)]
        for connection in held:
            connection.sendall(head("GET", path, key))
            connection.recv(2**16)
        answer = http.get(path)
        problem(answer, 429, "too-many-at-once")
        assert answer.headers["retry-after"]
        assert http.get("/v1/jobs").status_code == 200
        held[0].close()
        deadline = time.monotonic() + 5
        while http.head(path).status_code != 200:
            assert time.monotonic() < deadline


def test_a_tenant_has_so_many_requests_and_others_have_theirs(idle: Server) -> None:
    key = idle.new_key("busy")
    with idle.client(key) as http, idle.as_tenant("calm") as calm, ExitStack() as stack:
        for _ in range(MOST_REQUESTS):
            path = begin(http)
            connection = stack.enter_context(connect(idle.url))
            wanted = head("PATCH", path, key, Upload_Offset=0, Content_Length=10**6, Expect="100-continue", **TUS)
            connection.sendall(wanted)
            assert connection.recv(2**16).startswith(b"HTTP/1.1 100")  # it is being answered
        problem(http.get("/v1/models"), 429, "too-many-at-once")
        assert exchange(idle.url, head("GET", "/v1/models", key, Connection="close")).status == 429
        assert calm.get("/v1/models").status_code == 200
        connection.close()
        deadline = time.monotonic() + 5
        while http.get("/v1/models").status_code != 200:
            assert time.monotonic() < deadline


def key_of(name: str, tenant: str) -> Key:
    """A key of a tenant."""
    return Key(name, tenant, "", "0" * 64, datetime.now(UTC), None)


def test_what_ends_is_not_counted_any_more() -> None:
    async def test() -> None:
        calls = Calls(bounds_of(load_settings(requests_per_tenant=2, streams_per_key=1), 1000), lambda ids: set(ids))
        first, second = key_of("key_1", "acme"), key_of("key_2", "acme")
        for _ in range(10):
            held = [calls.begin(first, "request"), calls.begin(second, "request"), calls.begin(first, "stream")]
            with pytest.raises(ProblemError):
                calls.begin(second, "request")  # of one tenant, whatever the key
            with pytest.raises(ProblemError):
                calls.begin(first, "stream")
            held.append(calls.begin(second, "stream"))
            for call in held:
                calls.end(call)
        assert not calls._calls and not calls._requests and not calls._streams

    asyncio.run(test())


def test_keys_stay_valid_where_the_database_is_away() -> None:
    """No request is cut off because the database cannot be asked whether its key is still valid."""

    async def test() -> None:
        def away(ids: object) -> set[str]:
            raise StorageUnavailableError("the database does not answer", "")

        calls = Calls(bounds_of(load_settings(), 1000), away)
        call = calls.begin(key_of("key_1", "acme"), "stream")
        watching = asyncio.create_task(calls.watch())
        await asyncio.sleep(2.5)
        assert not call.revoked and not watching.done()
        watching.cancel()

    asyncio.run(test())
