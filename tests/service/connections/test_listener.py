"""A process without a free descriptor: callers are answered, it neither spins nor waits, and goes on afterwards."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

from service.serving import _listen
from service.settings import load_settings

SOURCE = """
import asyncio, os, resource, socket, time
from service.connections.listener import Listener

connected = []

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        connected.append(transport)
        transport.write(b"hello")
        transport.close()

async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.read(), 3)
    finally:
        writer.close()

def fill():
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return held

async def main():
    listening = Listener(socket.AF_INET, socket.SOCK_STREAM)
    listening.busy = b"busy"
    listening.bind(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(Echo, sock=listening, backlog=100)
    port = listening.getsockname()[1]
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["message"]))
    assert await ask(port) == b"hello"
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    callers = [socket.socket() for _ in range(20)]
    held = fill()
    for caller in callers:
        caller.setblocking(False)
        caller.connect_ex(("127.0.0.1", port))
    cpu = time.process_time()
    await asyncio.sleep(1)
    assert time.process_time() - cpu < 0.5, "it spins"
    answers = [caller.recv(100) for caller in callers]
    assert set(answers) <= {b"busy", b"hello"} and answers.count(b"busy") >= 10, answers
    for file in held:
        os.close(file)
    made = len(connected)
    for _ in range(100):  # they have gone away before they are taken
        with socket.create_connection(("127.0.0.1", port)):
            pass
    assert await ask(port) == b"hello" and len(connected) == made + 1
    assert await ask(port) == b"hello"
    assert errors == [], errors
    server.close()

asyncio.run(main())
"""


def test_without_a_descriptor_callers_are_answered() -> None:
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "ignore", "-c", SOURCE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_small_answers_do_not_wait_for_acknowledgements(tmp_path: Path) -> None:
    """Head and body of an answer are sent at once, not 40 ms apart, as Nagle's algorithm would send them."""
    found: list[int] = []

    class Look(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            found.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def connect() -> None:
        with _listen(load_settings(data_dir=tmp_path, port=0)) as listening:
            server = await asyncio.get_running_loop().create_server(Look, sock=listening)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            assert await reader.read() == b""
            writer.close()
            server.close()

    asyncio.run(connect())
    assert found and found[0]
