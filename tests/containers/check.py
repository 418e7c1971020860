"""The image and the compose file in podman, as docs/service.md says. `scripts/container-test` prepares it.

    python -m tests.containers.check ENV [--only image | --only compose]

ENV is the file of secrets for compose. Prints a line for each thing that holds; an assertion ends it at the first that
does not. No registry of images is asked: those below ours are in podman's store.
"""

import argparse
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from graphpass.api import open_session
from tests.service.running import ROOT, example, finished
from tests.service.servers import free_port

LIMITS = "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges".split()
JOBS = 4
READY, GRACE = 120.0, 15  # seconds


def podman(*arguments: str, program: str = "podman") -> str:
    """The output of a command of podman. Raises AssertionError with what it wrote to stderr."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout.strip()


def state(container: str) -> dict[str, Any]:
    """What podman knows of a container's process."""
    return dict(json.loads(podman("inspect", "--format", "{{json .State}}", container)))


def wait(what: str, holds: Callable[[], bool], within: float = READY) -> float:
    """Wait until something holds; the seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, f"{what}: not within {within:g} s"
        time.sleep(0.1)
    return time.monotonic() - began


def healthy(container: str) -> bool:
    """The container's own health check, run now."""
    return subprocess.run(["podman", "healthcheck", "run", container], capture_output=True).returncode == 0


def at_work(container: str) -> bool:
    """Whether a job runs in it: a child of the sandbox."""
    return "service.sandbox.child" in podman("top", container, "args")


def kill(container: str) -> None:
    """SIGKILL to the container's first process, as the system's memory killer would send it."""
    os.kill(state(container)["Pid"], 9)


def warnings(container: str) -> list[str]:
    """Lines of its log that are more than information."""
    lines = [json.loads(line) for line in podman("logs", container).splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["level"] not in ("info", "debug")]


def client(port: int, key: str) -> httpx.Client:
    """A client of the service on a port of this machine."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=60)


def send(http: httpx.Client) -> str:
    """The address of a new conversion of the example."""
    asked = example(http) | {"options": {"time_steps": 8}}
    answer = http.post("/v1/conversions", json=asked)
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]


def succeeded(http: httpx.Client, url: str) -> dict[str, Any]:
    """A job that has to succeed, waited for, through connections that are lost."""
    for _ in range(600):
        try:
            job = finished(http, url)
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        assert job["state"] == "succeeded", job
        return job
    raise AssertionError(f"{url}: the service does not answer")


def converted(http: httpx.Client, folder: Path) -> str:
    """Convert the example, download the network and run its neurons here; its accuracy beside the original's."""
    job = succeeded(http, send(http))
    network = folder / "snn.onnx"
    network.write_bytes(http.get(job["links"]["artifact"]).raise_for_status().content)
    assert open_session(network).neurons == "native"
    figures = job["result"]["evaluation"]
    return f"top-1 {figures['snn']['top1']:.4f}, of the original {figures['ann']['top1']:.4f}"


def check_image(folder: Path) -> None:
    """One container, as the page says: killed, and stopped, in the middle of a job."""
    port, name = free_port(), "graphpass-check"
    publish = ("--publish", f"127.0.0.1:{port}:8000", "--volume", "graphpass-check:/data")
    podman("run", "--detach", "--name", name, "--init", *LIMITS, *publish, "graphpass")
    print(f"image: healthy after {wait('healthy', lambda: healthy(name)):.1f} s", flush=True)
    key = podman("exec", name, "graphpass", "keys", "create", "acme")  # the key of the link ends with its process
    http = client(port, key)
    print(f"image: example converted over HTTP, {converted(http, folder)}", flush=True)
    user = podman("exec", name, "python", "-c", "import os; print(os.getuid(), open('/proc/1/status').read())")
    assert user.startswith("10001 ") and re.search(r"^NoNewPrivs:\s*1$", user, re.M), user
    assert re.search(r"^CapEff:\s*0+$", user, re.M) and re.search(r"^Seccomp:\s*2$", user, re.M), user
    assert warnings(name) == []  # the sandbox would warn where it has no Landlock
    print("image: user 10001, no capabilities, no new privileges, seccomp; no warning of the sandbox", flush=True)

    url = send(http)
    wait("a job at work", lambda: at_work(name))
    kill(name)
    wait("its end", lambda: state(name)["Status"] == "exited")
    podman("start", name)
    wait("healthy", lambda: healthy(name))
    succeeded(http, url)
    print("image: killed (SIGKILL) in the middle of a job and started again: the job succeeded", flush=True)

    url = send(http)
    wait("a job at work", lambda: at_work(name))
    began = time.monotonic()
    podman("stop", "--time", str(GRACE), name)
    took = time.monotonic() - began
    assert (state(name)["ExitCode"], took < GRACE) == (0, True), (state(name), took)
    podman("start", name)
    wait("healthy", lambda: healthy(name))
    succeeded(http, url)
    print(f"image: SIGTERM in the middle of a job: status 0 after {took:.1f} s; the job went on", flush=True)
    podman("rm", "--force", "--volumes", name)


@contextmanager
def health_checks() -> Iterator[None]:
    """Health checks at their time, which podman leaves to systemd: here done by a thread where there is none."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(2):
            for container in podman("ps", "--quiet").split():
                healthy(container)

    thread = threading.Thread(target=run)
    if not Path("/run/systemd/system").exists():
        thread.start()
    yield
    over.set()
    if thread.is_alive():
        thread.join()


def check_compose(folder: Path, secrets: dict[str, str]) -> None:
    """API, two workers, PostgreSQL and store: a worker is killed for good, another comes back by itself."""
    os.environ.update(secrets)

    def compose(*arguments: str) -> str:
        return podman("-f", str(ROOT / "docker" / "compose.yaml"), *arguments, program="podman-compose")

    def container(service: str) -> str:
        label = f"label=com.docker.compose.service={service}"
        return podman("ps", "--all", "--quiet", "--filter", label)

    with health_checks():
        compose("up", "--detach")
        try:
            services = ("database", "store", "api", "worker-1", "worker-2")
            took = wait("all healthy", lambda: all(healthy(container(each)) for each in services))
            print(f"compose: five services, healthy {took:.1f} s after compose had started them", flush=True)
            key = compose("exec", "-T", "api", "graphpass", "keys", "create", "acme").split()[-1]
            http = client(8000, key)
            print(f"compose: example converted over HTTP, {converted(http, folder)}", flush=True)

            urls = [send(http) for _ in range(JOBS)]
            wait("a job at work", lambda: at_work(container("worker-1")))
            began = time.monotonic()
            podman("stop", "--time", "0", container("worker-1"))
            for url in urls:
                succeeded(http, url)
            assert state(container("worker-1"))["Status"] == "exited"
            took = time.monotonic() - began
            print(
                f"compose: one of two workers killed for good, {JOBS} of {JOBS} jobs succeeded in {took:.0f} s",
                flush=True,
            )

            podman("start", container("worker-1"))
            wait("healthy", lambda: healthy(container("worker-1")))
            urls = [send(http) for _ in range(JOBS)]
            wait("a job at work", lambda: at_work(container("worker-2")))
            kill(container("worker-2"))
            for url in urls:
                succeeded(http, url)
            wait("healthy", lambda: healthy(container("worker-2")))
            print(f"compose: a worker killed (SIGKILL) was started again, {JOBS} of {JOBS} jobs succeeded", flush=True)
        finally:
            compose("down", "--volumes")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("secrets", type=Path)
    parser.add_argument("--only", choices=["image", "compose"])
    given = parser.parse_args()
    began = time.monotonic()
    podman("build", "--tag", "graphpass", str(ROOT))  # once: podman-compose would build it for each service
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    if given.only != "compose":
        check_image(given.secrets.parent)
    if given.only != "image":
        check_compose(given.secrets.parent, dict(line.split("=", 1) for line in given.secrets.read_text().split()))


if __name__ == "__main__":
    main()
