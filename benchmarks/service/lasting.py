"""Long runs: a large resumable upload while the server is killed, and the server's memory over many jobs.

    python -m benchmarks.service.lasting [--upload 1000] [--kills 3] [--jobs 1000]      (MB; 0: none)

Prints one line for each.
"""

import argparse
import hashlib
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.service.clients import memory
from tests.service.running import FINISHED, Server, example

OPTIONS = {"limit": 32, "method": "max", "time_steps": 1}
TUS = {"Tus-Resumable": "1.0.0"}
PIECE, REQUEST = 2**20, 64 * 2**20  # bytes that are sent at a time, and in one PATCH
WARM = 20  # jobs until imports and pools have grown
AT_A_TIME = 20  # jobs that wait or run


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upload", type=int, default=1000, help="MB")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), QUOTA_QUEUED="0", QUOTA_BYTES="0") as server:
        if given.upload:
            upload(server, given.upload * 10**6, given.kills)
        if given.jobs:
            jobs(server, given.jobs)


def upload(server: Server, size: int, kills: int) -> None:
    """Pieces until the file is complete; the server is killed while it receives pieces that cross a given share."""
    piece = random.Random(0).randbytes(PIECE)  # piece number n begins with n
    content = b"".join((number.to_bytes(8, "big") + piece[8:]) for number in range(-(-size // PIECE)))[:size]
    began, killed, again = time.monotonic(), 0, 0
    metadata = {"Upload-Length": str(size), "Upload-Metadata": "filename ZGF0YS5ucHo="}
    url = server.http.post("/v1/uploads", headers={**TUS, **metadata}).raise_for_status().headers["location"]
    while (offset := int(server.http.head(url, headers=TUS).raise_for_status().headers["upload-offset"])) < size:
        end = min(offset + REQUEST, size)
        kill = killed < kills and end > size * (killed + 1) // (kills + 1)
        sent = threading.Event()

        def body(start: int = offset, end: int = end, sent: threading.Event = sent) -> Iterator[bytes]:
            for place in range(start, end, PIECE):
                if place - start > REQUEST // 2:
                    sent.set()
                yield content[place : min(place + PIECE, end)]

        killer = threading.Thread(target=lambda sent=sent: (sent.wait(10), server.kill()))
        if kill:
            killer.start()
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        try:
            server.http.patch(url, content=body(), headers={**headers, "Content-Length": str(end - offset)})
        except httpx.HTTPError:
            again += 1
        if kill:
            killer.join()
            killed += 1
            server.up()
    found = server.http.get(url).json()
    blob = server.data / "blobs" / "sha256" / found["sha256"][:2] / found["sha256"]
    same = blob.read_bytes() == content and found["sha256"] == hashlib.sha256(content).hexdigest()
    print(
        f"resumable upload of {size / 1e6:.0f} MB, server killed {killed} times ({again} requests cut): "
        f"{'identical bytes' if same else 'DIFFERENT BYTES'}, {time.monotonic() - began:.1f} s, "
        f"server {memory(server)} MiB",
        flush=True,
    )


def jobs(server: Server, count: int) -> None:
    """Small conversions, some at a time; the server's memory is read at intervals."""
    ids = example(server.http)
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": OPTIONS}
    waiting: list[str] = []
    states: dict[str, int] = {}
    seen: list[int] = []
    began = time.monotonic()
    for done in range(count):
        while len(waiting) < min(AT_A_TIME, count - done):
            waiting.append(server.http.post("/v1/conversions", json=asked).raise_for_status().headers["Location"])
        state = "queued"
        while state not in FINISHED:
            time.sleep(0.05)
            state = server.http.get(waiting[0]).raise_for_status().json()["state"]
        waiting.pop(0)
        states[state] = states.get(state, 0) + 1
        if done + 1 >= WARM and (done + 1 - WARM) % max(1, (count - WARM) // 8) == 0:
            seen.append(memory(server))
    print(
        f"{count} jobs: {states}, {time.monotonic() - began:.0f} s; memory of the server after {WARM} jobs and then "
        f"every {max(1, (count - WARM) // 8)}: {', '.join(map(str, seen))} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
