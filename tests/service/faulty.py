"""A service that is killed, or finds its disk full, at a moment of one's choice; and whether all is well afterwards.

    with FaultyService(tmp_path) as service:
        for moment in service.moments("sweep"):
            service.tell("sweep", f"kill {moment}")

A story is what a client does and is promised. It is told while a fault is armed: requests that get no answer are sent
again, processes that died are started again. Then what was promised has to be there, once, and nothing else: no
process, no workflow, no folder, and after the grace no blob that nobody refers to. Used by
tests/service/test_restarts.py and benchmarks/service/boundaries.py.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import httpx
import numpy as np

from service.jobs import engine
from service.jobs.queues import Queues
from service.settings import Settings, load_settings
from service.storage.garbage import sweep
from service.storage.metadata import opened
from service.storage.stores import open_blobs
from tests.service.api.endless import endless_inputs
from tests.service.running import EXAMPLE, FINISHED, Server, Worker, events, example, sandboxes, upload

HOOKS = Path(__file__).parent / "faults"
SETTINGS = {"WORKERS": "2", "SHARD_SAMPLES": "100", "JOB_THREADS": "1", "QUOTA_QUEUED": "0"}
SAMPLES = 150  # of the example's evaluation: two shards
OFTEN = 2  # moments of one name that are tried
AWAY = 60.0  # seconds in which a request gets through
JSON = dict[str, Any]


class FaultyService:
    """One process on SQLite, or an API process and a worker on PostgreSQL, with the hooks of tests/service/faults."""

    def __init__(self, folder: Path, database_url: str = ""):
        self._folder, self._stack = folder, ExitStack()
        shared = {"DATABASE_URL": database_url, "STORE_URL": f"file://{folder}/blobs"} if database_url else {}
        queues = {"QUEUES": "none"} if shared else {}
        self.server = Server(folder, **SETTINGS, **shared, **queues)
        self.workers = [Worker(folder, "w1", **SETTINGS, **shared)] if shared else []
        self.faults = folder / "faults"
        self.faults.mkdir()
        for process in (self.server, *self.workers):
            process.environment |= {"PYTHONPATH": str(HOOKS), "FAULTS": str(self.faults)}
        stores = {"database_url": shared["DATABASE_URL"], "store_url": shared["STORE_URL"]} if shared else {}
        self.settings: Settings = load_settings(data_dir=self.server.data, **stores)
        self.ids: dict[str, str] = {}
        self.endless: dict[str, str] = {}
        self._expected: dict[str, object] = {}

    def __enter__(self) -> "FaultyService":
        self._up()
        self.server.key = self.server.new_key("acme")
        self._up()
        self.ids, self.endless = example(self.server.http), endless_inputs(self.server.http)
        arrays = {name: array[:SAMPLES] for name, array in np.load(EXAMPLE / "evaluation.npz").items()}
        np.savez(self._folder / "few.npz", **arrays)
        self.ids["evaluation"] = upload(self.server.http, "dataset", self._folder / "few.npz")["id"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.http.close()
        for process in (self.server, *self.workers):
            process.stop()

    def _up(self) -> None:
        """Start the processes that do not run, with the key of before."""
        key = self.server.key
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.process = None
            self.server.up()
        self.server.key = key or self.server.key
        self.server.http.close()
        self.server.http = self.server.client(self.server.key)
        for worker in self.workers:
            if worker.process is None or worker.process.poll() is not None:
                worker.process = None
                worker.up()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send one request until it is answered with another status than 503.

        Processes that died meanwhile are started.
        """
        deadline = time.monotonic() + AWAY
        while True:
            try:
                answer = self.server.http.request(method, path, **more)
                if answer.status_code != 503:
                    return answer
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{method} {path}"
            self.revive()
            time.sleep(0.1)

    def revive(self) -> None:
        """Disarm the fault, and start the processes that it killed."""
        if any(each.process is None or each.process.poll() is not None for each in (self.server, *self.workers)):
            self.disarm()
            self._up()

    def arm(self, fault: str) -> None:
        """Have this fault happen from now on."""
        (self.faults / "moments").unlink(missing_ok=True)
        (self.faults / "new").write_text(fault)
        (self.faults / "new").replace(self.faults / "armed")

    def disarm(self) -> None:
        """Have no fault happen any more."""
        (self.faults / "armed").unlink(missing_ok=True)

    def recorded(self) -> list[str]:
        """The moments since the fault was armed."""
        path = self.faults / "moments"
        return path.read_text().splitlines() if path.exists() else []

    def moments(self, story: str) -> list[str]:
        """Each moment of a story, named as `kill` and `full` take it. Of moments with one name the first few."""
        self._usual(story)
        self.arm("trace")
        STORIES[story](self)
        time.sleep(0.5)
        self.disarm()
        seen, found = Counter[str](), []
        for line in self.recorded():
            name = line.partition(" ")[2]
            seen[name] += 1
            if seen[name] <= OFTEN:
                found.append(f"{seen[name]} {name}")
        return found

    def tell(self, story: str, fault: str) -> bool:
        """Tell a story with a fault, and check that all is well. Returns whether the fault happened."""
        expected, before = self._usual(story), self._jobs()
        self.arm(fault)
        found = STORIES[story](self)
        self.disarm()
        struck = any(" : " in line for line in self.recorded())
        self.revive()
        assert found == expected, (fault, found, expected)
        self.check(self._jobs() - before)
        return struck

    def _usual(self, story: str) -> object:
        """The result of a story without a fault."""
        if story not in self._expected:
            self._expected[story] = STORIES[story](self)
        return self._expected[story]

    def finished(self, url: str) -> JSON:
        """Wait until a job is finished, whatever happens meanwhile."""
        deadline = time.monotonic() + 120
        while (job := self.ask("GET", url).json())["state"] not in FINISHED:
            assert time.monotonic() < deadline, job
            self.revive()
            time.sleep(0.05)
        return dict(job)

    def _jobs(self) -> set[str]:
        return {job["id"] for job in self.ask("GET", "/v1/jobs?limit=200").json()["items"]}

    def check(self, new: set[str]) -> None:
        """Check that nothing appears twice, half, or left over."""
        assert len(new) <= 1, f"one request made {new}"
        processes = [each.process.pid for each in (self.server, *self.workers) if each.process]
        deadline = time.monotonic() + 20
        while any(sandboxes(pid) for pid in processes) or sandboxes(1) or self._left():
            assert time.monotonic() < deadline, (self._left(), [sandboxes(pid) for pid in (*processes, 1)])
            time.sleep(0.2)
        with opened(self.settings) as metadata:
            blobs = open_blobs(self.settings)
            sweep(metadata, blobs, datetime.now(UTC) + timedelta(hours=2), timedelta(hours=1))
            stored = {digest for digest, _ in blobs.listing()}
        named = {each["sha256"] for kind in ("models", "datasets") for each in self._all(f"/v1/{kind}")}
        for job in self._all("/v1/jobs"):
            named |= set(job["artifacts"].values())
        assert stored == named

    def _all(self, path: str) -> Iterator[JSON]:
        link: str | None = f"{path}?limit=200"
        while link:
            page = self.ask("GET", link).json()
            yield from page["items"]
            link = page["next"]

    def _left(self) -> object:
        """Workflows that are not over, and folders of tasks."""
        database = None if engine.is_postgres(self.settings) else engine.sqlite_engine(self.settings)
        with opened(self.settings) as metadata:
            queues = Queues(database or metadata.database.engine, "nobody", (), 0)
            going = queues.jobs()
            jobs = {job.id for job in metadata.jobs.unfinished()}
        if database is not None:
            database.dispose()
        folders = [path for each in ("data", "w1") for path in (self._folder / each / "scratch").glob("*")]
        return going | jobs | {path.name for path in folders}


def _job(service: FaultyService, collection: str, asked: JSON) -> object:
    """The job that was accepted: finished, once, whole, and with events that say so."""
    headers = {"Idempotency-Key": uuid4().hex}
    answer = service.ask("POST", f"/v1/{collection}", json=asked, headers=headers)
    assert answer.status_code == 202, answer.text
    url = answer.headers["Location"]
    job = service.finished(url)
    assert job["state"] == "succeeded", job
    again = service.ask("POST", f"/v1/{collection}", json=asked, headers=headers)
    assert again.status_code == 202 and again.json()["id"] == job["id"]
    for what in ("artifact", "plan"):
        if what in job["links"]:
            content = service.ask("GET", job["links"][what]).content
            assert hashlib.sha256(content).hexdigest() in job["artifacts"].values()
    states = [data["state"] for _, name, data in events(service.server.http, url) if name == "state"]
    assert set(states[:-1]) == {"running"} and states[-1] == "succeeded", states
    kept = {name: digest for name, digest in job["artifacts"].items() if name.endswith((".onnx", ".npz"))}
    return sorted(job["artifacts"]), kept, _figures(job["result"])


def _figures(result: object) -> object:
    """What of a job does not depend on the clock."""
    if isinstance(result, Mapping):
        left_out = ("latency_ms", "provenance", "seconds", "files")
        return {name: _figures(value) for name, value in result.items() if name not in left_out}
    return [_figures(value) for value in result] if isinstance(result, list) else result


def _conversion(service: FaultyService) -> object:
    """A conversion that is calibrated and evaluated in shards."""
    data = {name: service.ids[name] for name in ("model", "calibration", "evaluation")}
    return _job(service, "conversions", {**data, "options": {"time_steps": 1, "method": "max", "limit": SAMPLES}})


def _evaluation(service: FaultyService) -> object:
    """An evaluation without shards."""
    asked = {"ann": service.ids["model"], "snn": _converted(service), "dataset": service.ids["evaluation"]}
    return _job(service, "evaluations", {**asked, "options": {"limit": 100}})


def _converted(service: FaultyService) -> str:
    """A conversion that exists already."""
    jobs = service.ask("GET", "/v1/conversions?state=succeeded").json()["items"]
    if jobs:
        return str(jobs[0]["id"])
    asked = {"model": service.ids["model"], "calibration": service.ids["calibration"]}
    few = {"time_steps": 1, "limit": 32, "method": "max"}
    made = service.ask("POST", "/v1/conversions", json={**asked, "options": few})
    return str(service.finished(made.headers["Location"])["id"])


def _sweep(service: FaultyService) -> object:
    """A sweep of two conversions."""
    data = {"model": service.ids["model"], "calibration": service.ids["calibration"]}
    few = {"time_steps": [1, 2], "method": ["max"], "limit": 64, "calibration_limit": 64}
    return _job(service, "sweeps", {**data, "dataset": service.ids["evaluation"], "options": few})


def _cancelled(service: FaultyService) -> object:
    """A job that is cancelled while it runs, and deleted at once."""
    headers = {"Idempotency-Key": uuid4().hex}
    url = service.ask("POST", "/v1/conversions", json=service.endless, headers=headers).headers["Location"]
    deadline = time.monotonic() + 60
    while service.ask("GET", url).json()["state"] == "queued":
        assert time.monotonic() < deadline
        service.revive()
        time.sleep(0.05)
    assert service.ask("POST", f"{url}/cancel").json()["state"] == "cancelled"
    states = [data["state"] for _, name, data in events(service.server.http, url) if name == "state"]
    assert states[-1] == "cancelled"
    assert service.ask("DELETE", url).status_code in (204, 404)  # 404 where the answer to the first one was lost
    assert service.ask("GET", url).status_code == 404
    return "gone"


def _upload(service: FaultyService) -> object:
    """A model that is uploaded, described and deleted again."""
    content = (EXAMPLE / "fashion_mnist.onnx").read_bytes() + bytes([0x32, 0x04]) + uuid4().hex[:4].encode()
    made = service.ask("POST", "/v1/models?name=mine.onnx", content=content)
    assert made.status_code in (200, 201), made.text
    found = made.json()
    digest = hashlib.sha256(content).hexdigest()
    assert found["sha256"] == digest and len(found["description"]["sites"]) == 5
    assert [each["id"] for each in service._all("/v1/models") if each["sha256"] == digest] == [found["id"]]
    assert service.ask("DELETE", f"/v1/models/{found['id']}").status_code in (204, 404)
    return found["size"]


STORIES: Mapping[str, Callable[[FaultyService], object]] = {
    "conversion": _conversion,
    "evaluation": _evaluation,
    "sweep": _sweep,
    "cancelled": _cancelled,
    "upload": _upload,
}
