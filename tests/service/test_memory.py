"""What a process that serves has in memory: libraries that it needs, and no more of a body than it works on now."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.service.raw import connect, head
from tests.service.running import Server

NEEDLESS = (  # on SQLite and a local folder
    "onnx onnxruntime onnx_graphsurgeon google.protobuf numpy PIL plotly rich typer httpx obstore"
).split()
SOURCE = f"""
import json, os, sys
from service.app import create_app, open_process
from service.connections.bounds import bounds_of
from service.jobs import work
from service.settings import load_settings
from service import serving
settings = load_settings(data_dir=sys.argv[1])
bounds = bounds_of(settings, 1024)
create_app(open_process(settings, bounds), bounds)
print(json.dumps([name for name in {NEEDLESS} if name in sys.modules]), flush=True)
os._exit(0)
"""
MIB = 2**20


def resident(process: int) -> int:
    """Resident memory of a process, in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) // 1024


def test_a_process_that_serves_imports_what_it_needs(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SOURCE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.slow
def test_a_large_body_passes_through_little_memory(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        assert server.process is not None
        server.http.post("/v1/datasets", content=b"small")  # whatever a first upload makes stay
        before = resident(server.process.pid)
        seen, ended = [before], threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                seen.append(resident(server.process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        answer = server.http.post("/v1/datasets", content=(os.urandom(MIB) for _ in range(256)))
        ended.set()
        watcher.join()
        assert answer.json()["type"] == "/problems/invalid-data"
        assert len(seen) > 5 and max(seen) - before < 8  # of 256 MiB; 2 were seen


@pytest.mark.slow
def test_bodies_that_stall_take_little_memory(tmp_path: Path) -> None:
    """Pieces of resumable uploads arrive almost to their end: measured while they stall, and when all end at once."""
    bodies, piece = 24, 8 * MIB
    with Server(tmp_path, STALL_SECONDS="4") as server, ExitStack() as stack:
        assert server.process is not None
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(piece), "Upload-Metadata": "kind ZGF0YXNldA=="}
        paths = [server.http.post("/v1/uploads", headers=tus).headers["Location"] for _ in range(bodies)]
        before = resident(server.process.pid)
        media = {"Tus_Resumable": "1.0.0", "Content_Type": "application/offset+octet-stream"}
        for path in paths:
            connection = stack.enter_context(connect(server.url))
            connection.sendall(head("PATCH", path, server.key, Upload_Offset=0, Content_Length=piece, **media))
            connection.sendall(bytes(piece - 2**16))
        time.sleep(1)
        assert resident(server.process.pid) - before < 32  # of 191 MiB; 5 were seen
        most, until = 0, time.monotonic() + 60
        while any(offset(server, path) == 0 for path in paths):
            most = max(most, resident(server.process.pid))
            assert time.monotonic() < until
        assert most - before < 80  # four pieces at a time


def offset(server: Server, path: str) -> int:
    """How many bytes of an upload are stored safely."""
    return int(server.http.head(path, headers={"Tus-Resumable": "1.0.0"}).headers["Upload-Offset"])
