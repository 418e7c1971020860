"""Real servers for tests, on free ports of the loopback interface: PostgreSQL and one that speaks S3."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Literal
from uuid import uuid4

import httpx
import psycopg
import pytest


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_program(name: str) -> str:
    """Path of a program of PostgreSQL; skips the test where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return path


class Postgres:
    """A server of its own in a folder of its own, run by an unprivileged user where the tests run as root.

    It may be stopped with `immediate`: what was committed has reached the system then. Nothing is synced to the disk,
    which only matters where the whole machine stops.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._pg_ctl = postgres_program("pg_ctl")
        self._folder = Path(tempfile.mkdtemp(prefix="graphpass-postgres-"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
        initdb = postgres_program("initdb")
        options = ("--auth=trust", "--username=graphpass", "--encoding=UTF8", "--no-sync")
        self._run(initdb, "-D", str(self._folder / "data"), *options)
        self.start()

    def _run(self, *command: str) -> None:
        log = self._folder / "commands.log"
        with log.open("a") as output:
            done = subprocess.run(command, stdout=output, stderr=output, user=self._user, cwd=self._folder)
        assert done.returncode == 0, log.read_text()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=off"
        log = str(self._folder / "server.log")
        self._run(self._pg_ctl, "-D", str(self._folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server; `immediate` is a crash."""
        self._run(self._pg_ctl, "-D", str(self._folder / "data"), "-w", "-m", mode, "stop")

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        self.stop("immediate")
        shutil.rmtree(self._folder)

    def url(self, database: str) -> str:
        """The address of a database, for GRAPHPASS_DATABASE_URL."""
        return f"postgresql://graphpass@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        yield self.url(name)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class S3Server:
    """moto's server in a process of its own. When it is stopped, what it holds is lost."""

    KEYS: ClassVar = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env={**os.environ, **self.KEYS})
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, "the S3 server ended"
                time.sleep(0.1)
        raise AssertionError("the S3 server does not answer")

    def stop(self) -> None:
        """Kill the server."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"test-{uuid4().hex}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        return name


class Gate:
    """In front of a store: lets requests through, or does what `fault` says.

    A status answers with it, RESET ends the connection, HANG says nothing until `open`, CUT sends half of the answer.
    """

    RESET, HANG, CUT = 0, -1, -2

    def __init__(self, store: "S3Server"):
        gate = self
        self.status: int | None = None
        self.opened = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = gate.fault()
                if fault == Gate.HANG:
                    gate.opened.wait()
                if fault in (Gate.RESET, Gate.HANG):
                    self.close_connection = True
                    return
                status, content, headers = fault or 0, b"", {}
                if fault in (None, Gate.CUT):
                    there = httpx.request(
                        self.command,
                        f"{store.endpoint}{self.path}",
                        content=body,
                        headers=dict(self.headers),
                        timeout=30,
                    )
                    status, content, headers = there.status_code, there.content, dict(there.headers)
                length = headers.pop("content-length", str(len(content)))
                self.send_response(status)
                for name, value in headers.items():
                    if name not in ("transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                self.close_connection |= fault == Gate.CUT
                self.wfile.write(content[: len(content) // 2] if fault == Gate.CUT else content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Threads(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """Ignore callers that have gone away."""

        self._server = Threads(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fault(self) -> int | None:
        """The fault of the next request; None lets it pass."""
        return self.status

    def open(self) -> None:
        """Let all requests through, and end those that hang."""
        self.status = None
        self.opened.set()

    def close(self) -> None:
        """Stop the gate."""
        self.opened.set()
        self._server.shutdown()
        self._server.server_close()


def nginx_program() -> str:
    """Path of nginx; skips the test where there is none."""
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    return path


class Nginx:
    """nginx with one server on a free port, whose inside is `directives`."""

    def __init__(self, folder: Path, directives: str):
        self.port, self.folder, self.buffering = free_port(), folder, ""
        self.url = f"http://127.0.0.1:{self.port}"
        temporary = "client_body proxy fastcgi uwsgi scgi".split()
        paths = " ".join(f"{name}_temp_path {folder}/{name};" for name in temporary)
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;"
            f"events {{}} http {{ {paths} access_log {folder}/access.log;"
            f"server {{ listen 127.0.0.1:{self.port}; {directives} }} }}"
        )
        command = [
            nginx_program(),
            "-p",
            str(folder),
            "-e",
            str(folder / "error.log"),
            "-c",
            str(folder / "nginx.conf"),
        ]
        self._process = subprocess.Popen(command)
        for _ in range(100):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            assert self._process.poll() is None, (folder / "error.log").read_text()
            time.sleep(0.05)
        raise AssertionError("nginx does not answer")

    def stop(self) -> None:
        """Stop it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
