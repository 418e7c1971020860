"""Resumable uploads by the reference client of tus, from npm: over a server and a client that are killed."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.service.running import Server

PACKAGE = "tus-js-client@4.3.1"
SCRIPT = Path(__file__).with_name("tus_client.cjs")
SIZE = 50 * 2**20
Client = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Starts the client with arguments. The test is skipped where it cannot be installed."""
    if not (shutil.which("node") and (npm := shutil.which("npm"))):
        pytest.skip("there is no Node.js: apt-get install nodejs npm")
    folder = tmp_path / "npm"
    install = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr.strip()[-200:]}")
    environment = {**os.environ, "NODE_PATH": str(folder / "node_modules")}
    return lambda *arguments: subprocess.Popen(
        ["node", str(SCRIPT), *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow  # npm downloads the client
def test_the_reference_client_goes_on_after_kills(client: Client, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(SIZE)
    (path := tmp_path / "large.npz").write_bytes(content)
    with Server(tmp_path) as server:
        key = server.new_key("acme")  # that of the link is renewed with every start
        arguments = (path, f"{server.url}/v1/uploads", key, tmp_path / "memory.json")

        def send(until: int) -> list[str]:
            """Send a file, and return what the client prints up to a number of bytes or the end."""
            said = []
            with client(*arguments) as process:
                assert process.stdout
                for line in process.stdout:
                    said.append(line.strip())
                    if said[-1].isdigit() and int(said[-1]) >= until:
                        process.kill()
                        break
                    if said[-1] == str(15 * 2**20):
                        server.kill()
                        server.up()
            return said

        first = [int(taken) for taken in send(35 * 2**20)]
        assert first == sorted(set(first)) and len(first) in (34, 35)  # one piece's answer may have been lost
        *rest, url = send(SIZE + 1)
        assert int(rest[0]) > 35 * 2**20 and int(rest[-1]) == SIZE
        with server.client(key) as http:
            found = http.get(url).json()
        assert (found["offset"], found["sha256"]) == (SIZE, hashlib.sha256(content).hexdigest())
