"""A tenant at its limits: ATTACKS, each of which takes as much of one resource as it gets, until it is killed.

    python -m benchmarks.service.siege.hostile ATTACK URL KEY

Prints `ready` once it has reached its limit. Requests that are refused or cut are repeated at once, so that it stays
at its limit.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import resource
import socket
import sys
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.service.siege.networks import dense, samples, slow_to_describe

CONNECTIONS = 1500  # that an attack on sockets keeps trying to have
PARALLEL = 64  # requests at a time of any other attack
PIECE = 8 * 2**20  # bytes that a stalled PATCH announces
BEFORE_STALL = PIECE - 2**16  # bytes that it sends before it stalls
DRIBBLE_SECONDS = 5.0  # between two bytes of a stalled request
READ_SECONDS = 1.0  # between two reads of a slow reader
READ_BYTES = 256
WIDE = 2048  # units of the network whose file a slow reader asks for: 16 MiB a layer
WARM_SECONDS = 5.0  # after which an attack counts as under way
RETRY_SECONDS = 0.05
REFUSED_SECONDS = 1.0  # before a connection that was refused or cut is tried again
ADDRESS = "127.0.0.2"  # where it comes from: no proxy of the service


@dataclass(frozen=True)
class Target:
    """The service, and the key of the hostile tenant."""

    host: str
    port: int
    key: str

    def head(self, method: str, path: str, length: int | None = None, **headers: str) -> bytes:
        """The head of a request, with the key."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"Authorization: Bearer {self.key}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {length}"] if length is not None else []
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def open(self, receive_bytes: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; `receive_bytes`: the system takes no more than about these ahead of the reader."""
        connection = socket.socket()
        connection.setblocking(False)
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if self.host.startswith("127."):
            connection.bind((ADDRESS, 0))
        await asyncio.get_running_loop().sock_connect(connection, (self.host, self.port))
        return await asyncio.open_connection(sock=connection, limit=receive_bytes or 2**16)

    async def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request on a connection of its own: status, headers, body."""
        reader, writer = await self.open()
        try:
            writer.write(self.head(method, path, len(body), Connection="close", **headers) + body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
            found = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
            content = await reader.read()
            return int(head[0].split()[1]), found, content
        finally:
            writer.close()

    async def json(self, method: str, path: str, asked: object = None, **headers: str) -> dict[str, object]:
        """The same with JSON; {} where it is refused."""
        body = b"" if asked is None else json.dumps(asked).encode()
        kind = {"Content_Type": "application/json"} if asked is not None else {}
        status, _, content = await self.ask(method, path, body, **kind, **headers)
        return dict(json.loads(content)) if status < 300 else {}

    async def upload(self, kind: str, body: bytes) -> str:
        """A model or dataset; its id."""
        for _ in range(200):
            _, _, content = await self.ask("POST", f"/v1/{kind}s", body, Content_Type="application/octet-stream")
            with contextlib.suppress(ValueError, KeyError):
                return str(json.loads(content)["id"])
            await asyncio.sleep(RETRY_SECONDS)
        raise RuntimeError(f"no {kind} was taken: {content[:300]!r}")


Attack = Callable[[Target], Awaitable[None]]


async def again(number: int, once: Callable[[int], Awaitable[object]], pause: float = RETRY_SECONDS) -> None:
    """`number` calls at a time, each repeated for ever, whether it succeeds or not."""

    async def one(index: int) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, ValueError, asyncio.IncompleteReadError):
                await once(index)
            await asyncio.sleep(pause)

    await asyncio.gather(*(one(index) for index in range(number)))


async def connections(target: Target) -> None:
    """Connections that never send anything."""

    async def once(_: int) -> None:
        reader, writer = await target.open()
        try:
            await reader.read(1)
        finally:
            writer.close()

    await again(CONNECTIONS, once, REFUSED_SECONDS)


async def half_requests(target: Target) -> None:
    """Requests whose headers never end, sent byte by byte with pauses."""

    async def once(_: int) -> None:
        reader, writer = await target.open()
        try:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Filler: ")
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(2**12), DRIBBLE_SECONDS)
        finally:
            writer.close()

    await again(CONNECTIONS, once, REFUSED_SECONDS)


async def stalled_patches(target: Target) -> None:
    """Pieces of resumable uploads whose last bytes never come."""
    tus = {"Tus_Resumable": "1.0.0"}
    kind = "kind " + base64.b64encode(b"dataset").decode()
    filler = bytes(BEFORE_STALL)

    async def once(_: int) -> None:
        asked = {**tus, "Upload_Length": str(PIECE), "Upload_Metadata": kind}
        status, headers, _ = await target.ask("POST", "/v1/uploads", **asked)
        if status != 201:
            return
        more = {**tus, "Upload_Offset": "0", "Content_Type": "application/offset+octet-stream"}
        reader, writer = await target.open()
        try:
            writer.write(target.head("PATCH", headers["location"], PIECE, **more) + filler)
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"a")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(2**12), DRIBBLE_SECONDS)
        finally:
            writer.close()
            await target.ask("DELETE", headers["location"], **tus)

    await again(PARALLEL, once)


async def descriptions(target: Target) -> None:
    """Models that occupy the sandbox until its time limit."""

    async def once(index: int) -> None:
        body = slow_to_describe(random.randrange(2**62) + index)
        await target.ask("POST", "/v1/models", body, Content_Type="application/octet-stream")

    await again(PARALLEL, once)


async def event_streams(target: Target) -> None:
    """Streams of jobs that wait behind each other."""
    model, data = await _inputs(target)
    jobs = [path for t in range(4) if (path := await _job(target, model, data, time_steps=t + 1, **LONG))]

    async def once(index: int) -> None:
        reader, writer = await target.open()
        try:
            writer.write(target.head("GET", f"{jobs[index % len(jobs)]}/events"))
            while await reader.read(2**12):
                pass
        finally:
            writer.close()

    await again(8 * PARALLEL, once, REFUSED_SECONDS)


async def slow_readers(target: Target) -> None:
    """Downloads of a large file, a few bytes a second."""
    model = await target.upload("model", dense(1, (8, WIDE, WIDE, 4)))
    data = await target.upload("dataset", samples(1, 8))
    job = ""
    while not job:
        job = await _job(target, model, data, time_steps=2, method="max")
        await asyncio.sleep(RETRY_SECONDS)
    while (await target.json("GET", job)).get("state") not in ("succeeded", "failed"):
        await asyncio.sleep(1)

    async def once(_: int) -> None:
        reader, writer = await target.open(READ_BYTES)
        try:
            writer.write(target.head("GET", f"{job}/artifact"))
            while await reader.read(READ_BYTES):
                await asyncio.sleep(READ_SECONDS)
        finally:
            writer.close()

    await again(4 * PARALLEL, once, REFUSED_SECONDS)


async def lists(target: Target) -> None:
    """The largest pages, as often as the service allows."""
    model, data = await _inputs(target)
    for t in range(100):
        await _job(target, model, data, time_steps=1 + t % 32, method="max")
    paths = ("/v1/jobs?limit=200", "/v1/conversions?limit=200", "/v1/models?limit=200", "/metrics", "/readyz")

    async def once(index: int) -> None:
        await target.ask("GET", paths[index % len(paths)])

    await again(PARALLEL, once)


async def queue_places(target: Target) -> None:
    """As many long jobs and large sweeps as may wait."""
    model, data = await _inputs(target)
    labelled = await target.upload("dataset", samples(2, 64, labels=True))

    async def once(index: int) -> None:
        if index % 2:
            await _job(target, model, data, time_steps=1 + random.randrange(64), **LONG)
            return
        options = {"time_steps": list(range(1, 33)), "coding": ["rate"], "method": ["optimal", "max"]}
        await target.json(
            "POST", "/v1/sweeps", {"model": model, "calibration": data, "dataset": labelled, "options": options}
        )

    await again(8, once)


async def disk(target: Target) -> None:
    """Bytes that are refused, and bytes that are deleted again, as fast as the disk allows."""
    noise = np.random.default_rng(0)

    async def once(index: int) -> None:
        if index % 2:
            await target.ask("POST", "/v1/datasets", noise.bytes(2**25), Content_Type="application/octet-stream")
            return
        id = await target.upload("dataset", samples(random.randrange(2**62), 2**17))
        await target.ask("DELETE", f"/v1/datasets/{id}")

    await again(PARALLEL // 4, once)


async def database_connections(target: Target) -> None:
    """Small requests that each ask the database, many at a time."""
    model, data = await _inputs(target)
    job = await _job(target, model, data, time_steps=2, method="max")
    paths = (job or "/v1/jobs?limit=1", f"/v1/models/{model}", f"/v1/datasets/{data}", "/v1/models?limit=1")

    async def once(index: int) -> None:
        await target.ask("GET", paths[index % len(paths)])

    await again(4 * PARALLEL, once)


async def _inputs(target: Target) -> tuple[str, str]:
    return await target.upload("model", dense(7)), await target.upload("dataset", samples(7))


async def _job(target: Target, model: str, data: str, **options: object) -> str:
    """The address of a conversion, "" where it is refused."""
    asked = {"model": model, "calibration": data, "options": options}
    id = (await target.json("POST", "/v1/conversions", asked)).get("id")
    return f"/v1/conversions/{id}" if id else ""


LONG: Mapping[str, object] = {"method": "optimal", "levels": "auto"}
ATTACKS: Mapping[str, Attack] = {
    "connections": connections,
    "half-requests": half_requests,
    "stalled-patches": stalled_patches,
    "descriptions": descriptions,
    "event-streams": event_streams,
    "slow-readers": slow_readers,
    "lists": lists,
    "queue-places": queue_places,
    "disk": disk,
    "database-connections": database_connections,
}


async def _ready(attack: Attack, target: Target) -> None:
    under_way = asyncio.ensure_future(attack(target))
    done, _ = await asyncio.wait({under_way}, timeout=WARM_SECONDS)
    if not done:
        print("ready", flush=True)
    await under_way


def main(name: str, url: str, key: str) -> None:
    """Run until killed, with low priority: a real attacker would be on another machine and take none of its cores."""
    os.nice(10)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2**14), most))
    at = urllib.parse.urlsplit(url)
    asyncio.run(_ready(ATTACKS[name], Target(str(at.hostname), int(at.port or 80), key)))


if __name__ == "__main__":
    main(*sys.argv[1:])
