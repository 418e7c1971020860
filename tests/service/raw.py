"""HTTP by hand: connections on which a test says what it likes, as slowly as it likes."""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 30.0


@dataclass(frozen=True)
class RawAnswer:
    """What arrived until the connection was closed, and after how many seconds."""

    data: bytes
    seconds: float

    @property
    def status(self) -> int:
        """The status of the first answer; 0 where there was none."""
        return int(self.data.split(b" ", 2)[1]) if self.data else 0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the first answer, names in lower case."""
        lines = self.data.partition(b"\r\n\r\n")[0].decode("latin1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> bytes:
        """The bytes after the first head."""
        return self.data.partition(b"\r\n\r\n")[2]

    def problem(self) -> dict[str, Any]:
        """The problem document, which has to be the only answer."""
        assert self.headers["content-type"] == "application/problem+json", self.data
        assert len(self.body) == int(self.headers["content-length"]), self.data
        return dict(json.loads(self.body))


def connect(url: str, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection to the server of a URL. receive_bytes: about how many bytes the system reads ahead."""
    at = urlsplit(url)
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(PATIENCE)
    connection.connect((at.hostname, at.port))
    return connection


def until_closed(connection: socket.socket) -> RawAnswer:
    """All bytes until the connection is closed. A reset counts as the end."""
    began, data = time.monotonic(), b""
    try:
        while part := connection.recv(2**16):
            data += part
    except ConnectionError:
        pass
    return RawAnswer(data, time.monotonic() - began)


def until(connection: socket.socket, wanted: bytes) -> bytes:
    """All bytes up to these."""
    data = b""
    while wanted not in data:
        part = connection.recv(2**16)
        assert part, f"closed before {wanted!r} came"
        data += part
    return data


def exchange(url: str, data: bytes) -> RawAnswer:
    """Send these bytes, and read until the server closes."""
    with connect(url) as connection:
        connection.sendall(data)
        return until_closed(connection)


def head(method: str, path: str, key: str = "", **headers: object) -> bytes:
    """The head of a request; `_` in names means `-`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *([f"Authorization: Bearer {key}"] if key else [])]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
