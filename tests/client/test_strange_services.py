"""Addresses that are those of no service, and servers that are none: typed errors at once, whatever they answer."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graphpass.client import Client
from graphpass.errors import OptionError, RemoteError
from tests.cli.test_cli import status

ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {  # status, body, headers
    "a page": (200, b"<html>hello</html>", {}),
    "bytes": (200, b"\xff\xfe{", {}),
    "nothing": (200, b"", {}),
    "null": (200, b"null", {}),
    "a text": (200, b'"hello"', {}),
    "a list": (200, b"[1, 2, 3]", {}),
    "an empty object": (200, b"{}", {}),
    "an object of somebody else": (201, b'{"id": {"a": 1}, "links": 3, "state": 7}', {}),
    "a page of something else": (200, b'{"items": [1, {"x": 2}], "next": null}', {}),
    "nested lists": (200, b"[" * 100_000, {}),
    "a place that is no number": (
        201,
        b"{}",
        {"Location": "/v1/uploads/u", "Upload-Length": "x", "Upload-Offset": "-1"},
    ),
    "elsewhere": (302, b"", {"Location": "https://example.invalid/"}),
    "an error that is a list": (422, b"[]", {}),
    "an error of strange fields": (422, b'{"type": 5, "detail": {"x": 1}, "remedy": 7}', {}),
    "an error without a body": (500, b"", {}),
}


@contextmanager
def server(status: int, body: bytes, headers: dict[str, str]) -> Iterator[str]:
    """A server that gives one answer to everything; its address."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 as http.server calls them

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_address[1]}"
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def upload_in_pieces(client: Client, folder: Path) -> object:
    large = folder / "large.onnx"
    with large.open("wb") as file:
        file.truncate(9 << 20)
    return client.upload_model(large)


def upload(client: Client, folder: Path) -> object:
    (folder / "small.onnx").write_bytes(b"model")
    return client.upload_model(folder / "small.onnx")


CALLS: dict[str, Callable[[Client, Path], object]] = {
    "upload": upload,
    "upload in pieces": upload_in_pieces,
    "example": lambda client, folder: client.example(),
    "models": lambda client, folder: list(client.models()),
    "jobs": lambda client, folder: list(client.jobs()),
    "job": lambda client, folder: client.job("con_1"),
    "convert": lambda client, folder: client.convert("mod_1", "dat_1"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_a_server_answers(answer: str, call: str, tmp_path: Path) -> None:
    with server(*ANSWERS[answer]) as url, Client(url, "gp_key") as client, pytest.raises(RemoteError) as caught:
        CALLS[call](client, tmp_path)
    assert caught.value.what and (caught.value.remedy or "strange fields" in answer)


NO_ADDRESSES = (
    "", "127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http:///path", "http://127.0.0.1:99999", "http://h:0",
    "http://h:x", "http://[::1", "http://a b", "http://user:secret@127.0.0.1:8000", "http://h/?q=1", "http://h\n",
)  # fmt: skip


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_of_a_service(url: str) -> None:
    """At once, and not after the patience with services that start again; a password would take the key's place."""
    with pytest.raises(OptionError, match="not the address of a service"):
        Client(url, "gp_key")


def test_an_empty_address_does_not_mean_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ("convert", "ann.onnx", str(tmp_path / "snn.onnx"), "--calibration", "x.npz"),
        ("evaluate", "ann.onnx", "snn.onnx", "--data", "x.npz"),
        ("sweep", "ann.onnx", "--calibration", "x.npz", "--data", "x.npz"),
        ("inspect", "ann.onnx", "--calibration", "x.npz"),
    ):
        assert status(*command, "--server", "", "--key", "gp_key") == 2
        assert "'' is not the address of a service" in capsys.readouterr().err


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/#key=gp_a", "https://h.example/graphpass/", "http://[::1]:8000"])
def test_addresses_and_links(link: str) -> None:
    Client(link).close()


def test_a_body_of_the_service_is_read_as_it_is() -> None:
    """The checks let through what a service says."""
    body = json.dumps({"items": [], "next": None}).encode()
    with server(200, body, {}) as url, Client(url) as client:
        assert list(client.models()) == []
