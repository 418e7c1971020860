"""The real service as processes of its own, on a free port, in a temporary folder: start it, kill it, start it again.

    with Server(tmp_path) as server:
        server.http.post("/v1/examples/fashion-mnist")

A session-wide one is the fixture `server`; `server.as_tenant("acme")` is another tenant's client.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fashion_mnist"
COMMAND = (sys.executable, "-c", "from graphpass.cli.app import main; main()")
STARTING, ENDING, JOB = 60.0, 20.0, 240.0  # seconds
FINISHED = ("succeeded", "failed", "cancelled")


class Command:
    """A command of graphpass that goes on until it is stopped. Its output is in `log`."""

    def __init__(self, arguments: tuple[str, ...], log: Path, settings: Mapping[str, str]):
        self._arguments, self.log, self._settings = arguments, log, dict(settings)
        self.environment: dict[str, str] = {}  # besides the settings
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: str) -> re.Match[str]:
        """Start it, and wait for a line of output that matches."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAPHPASS_")}
        environment |= self.environment
        before = len(self.output())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *self._arguments],
                stdout=log,
                stderr=log,
                env=environment | {f"GRAPHPASS_{name}": value for name, value in self._settings.items()},
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline:
            if found := re.search(ready, self.output()[before:]):
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"it did not start:\n{self.output()[before:]}")

    def output(self) -> str:
        """All output so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        """The lines of its log so far."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    def kill(self) -> None:
        """Send SIGKILL, as a power cut would end it: its children have to notice by themselves."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """Send SIGTERM; the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(ENDING)
        finally:
            self.kill()


class Server(Command):
    """`graphpass serve`. After `start` there are `url`, `key` and a client `http` that sends the key."""

    def __init__(self, folder: Path, **settings: str):
        self.folder, self.data, self.url, self.key, self.port = folder, folder / "data", "", "", 0
        super().__init__((), folder / "server.log", {"RATE_PER_MINUTE": "0", **settings})
        self.http = httpx.Client()

    def up(self) -> "Server":
        """Start it; after the first time on the same port."""
        self._arguments = ("serve", "--port", str(self.port), "--data", str(self.data))
        found = self.start(r"graphpass serves (http://[^#\s]+)(?:#key=)?(\S*)\n")
        self.url, self.key = found[1].rstrip("/"), found[2] or self.key
        self.port = int(self.url.rpartition(":")[2])
        self.http.close()
        self.http = self.client(self.key)
        return self

    def client(self, key: str) -> httpx.Client:
        """A client that sends this key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60)

    def new_key(self, tenant: str) -> str:
        """Make a key with `graphpass keys create`."""
        return self.command("keys", "create", tenant).strip()

    def command(self, *arguments: str) -> str:
        """The output of a command of graphpass with the same data and settings."""
        done = subprocess.run(
            [*COMMAND, *arguments, "--data", str(self.data)],
            env={**os.environ, **{f"GRAPHPASS_{name}": value for name, value in self._settings.items()}},
            capture_output=True,
            check=True,
            text=True,
        )
        return done.stdout

    def as_tenant(self, tenant: str) -> httpx.Client:
        """A client of another tenant."""
        return self.client(self.new_key(tenant))

    def __enter__(self) -> "Server":
        return self.up()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.http.close()
        self.stop()


def upload(http: httpx.Client, kind: str, path: Path, name: str | None = None) -> dict[str, Any]:
    """Upload a model or dataset, and return the answer."""
    answer = http.post(f"/v1/{kind}s", content=path.read_bytes(), params={"name": name or path.name})
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


def example(http: httpx.Client) -> dict[str, str]:
    """Take the built-in example: ids of model, calibration and evaluation."""
    answer = http.post("/v1/examples/fashion-mnist")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def finished(http: httpx.Client, url: str, within: float = JOB) -> dict[str, Any]:
    """Wait until a job is finished, and return its answer."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        job: dict[str, Any] = http.get(url).raise_for_status().json()
        if job["state"] in FINISHED:
            return job
        time.sleep(0.1)
    raise AssertionError(f"{url} is still {job['state']} after {within:g} s")


def until(http: httpx.Client, url: str, state: str, within: float = 60.0) -> dict[str, Any]:
    """Wait until a job is in a state."""
    deadline = time.monotonic() + within
    while (job := http.get(url).raise_for_status().json())["state"] != state:
        assert job["state"] not in FINISHED, job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return dict(job)


def events(http: httpx.Client, url: str, after: int | None = None) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Events of a job: id, name and data."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with http.stream("GET", f"{url}/events", headers=headers) as answer:
        answer.raise_for_status()
        found: dict[str, str] = {}
        for line in answer.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif found:
                yield int(found["id"]), found["event"], json.loads(found["data"])
                found = {}


def sandboxes(parent: int) -> set[int]:
    """Processes of the sandbox below a process."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"service.sandbox.child" in command and int(status[1]) == parent and status[0] != "Z":
            found.add(int(folder.name))
    return found


class Worker(Command):
    """`graphpass worker` as one executor. Settings are those of the server, which it shares the database with."""

    def __init__(self, folder: Path, name: str, queues: str = "convert,shards", **settings: str):
        self.name = name
        arguments = ("worker", "--queues", queues, "--data", str(folder / name))
        super().__init__(arguments, folder / f"{name}.log", {"EXECUTOR_ID": name, **settings})

    def up(self) -> "Worker":
        """Start it."""
        self.start(rf"graphpass works on .* as {self.name}\n")
        return self

    def __enter__(self) -> "Worker":
        return self.up()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
