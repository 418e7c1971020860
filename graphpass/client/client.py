"""A client of the service, on its public API alone.

    with Client("http://127.0.0.1:8000", key) as client:
        model = client.upload_model("ann.onnx")
        data = client.upload_dataset("calibration.npz")
        job = client.convert(model, data, time_steps=4)
        job.wait(print)
        job.download("snn.onnx")

The client waits up to `patience` seconds for lost connections and restarts of the service. Uploads and downloads then
continue where they stopped, requests are sent again under the same idempotency key, and events are read on. Faults of a
network, data or options raise the same errors of graphpass.errors as on this machine; all others raise RemoteError.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from graphpass.client.connection import Connection, address_of, checked, error_of
from graphpass.client.transfers import download, upload
from graphpass.errors import JobCancelledError, OptionError, RemoteError, wrong_type
from graphpass.files import path_to
from graphpass.options.table import LISTS, SEVERAL
from graphpass.options.values import number, plain_of, several_of
from graphpass.progress import Progress, silent

JSON = dict[str, Any]
LISTED, JOB = ("id", "state", "links"), ("id", "state", "links", "result")  # what a job has in a list, and alone
PAGE = ("items", "next")
FINISHED = frozenset({"succeeded", "failed", "cancelled"})
COLLECTIONS = {"con": "conversions", "eva": "evaluations", "ran": "rankings", "sea": "searches", "swe": "sweeps"}
FILES = {  # link of a job → name of its file in the job's list of digests
    "artifact": "snn.onnx",
    "plan": "plan.json",
    "plan_arrays": "plan.npz",
    "report": "report.html",
    "report_json": "report.json",
    "pictures": "pictures.json",
}


@dataclass(frozen=True)
class Stored:
    """A model or dataset that the service has. expires: in UTC, None for never.

    description: what the service found in it. Long lists are cut, and `omitted` says how much of each is left out;
    `Client.description` returns all of it.
    """

    id: str
    kind: str
    name: str
    size: int
    sha256: str
    description: Mapping[str, Any]
    expires: str | None

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Stored":
        """Read from the API's answer. Raises RemoteError where it has not all of STORED."""
        _require(found, STORED)
        return Stored(**{name: found[name] for name in STORED})


STORED = tuple(Stored.__dataclass_fields__)


@dataclass(frozen=True)
class Event:
    """One report of a job.

    kind and data: state {"state"}, progress {"stage", "done", "total", "seconds_left"}, log {"text"}.
    """

    id: int
    kind: str
    data: Mapping[str, Any]


class Job:
    """A job of any kind. Its attributes are of the last answer; `refresh` and `wait` ask again."""

    def __init__(self, connection: Connection, found: JSON):
        _require(found, LISTED)
        self._connection, self._found = connection, found

    @property
    def id(self) -> str:
        """The job's id, for `Client.job`."""
        return str(self._found["id"])

    @property
    def state(self) -> str:
        """queued, running, succeeded, failed or cancelled."""
        return str(self._found["state"])

    @property
    def result(self) -> Mapping[str, Any]:
        """The figures of a job that has succeeded: `evaluation` and `rows` as in docs/formats.md. Fetches long ones."""
        found, links = self._found["result"] or {}, self._found["links"]
        if "omitted" in found and "result" in links:
            found = {**self._connection.read("GET", links["result"]), **_inner(found)}
        if "omitted" in found.get("evaluation", {}) and "report_json" in links:
            found = {**found, "evaluation": self._connection.read("GET", links["report_json"])}
        if "omitted" in found and "rows" in found and "report_json" in links:
            found = {"rows": self._connection.read("GET", links["report_json"])}
        if "omitted" in found and self.id.startswith("ran_"):
            found = self._connection.read("GET", links["report_json"])
        self._found["result"] = found or None
        return found

    @property
    def files(self) -> tuple[str, ...]:
        """Names of files that `download` can fetch: artifact, plan, plan_arrays, report, report_json, pictures."""
        return tuple(name for name in FILES if name in self._found["links"])

    def refresh(self) -> "Job":
        """Ask the service for the state of the job."""
        self._found = self._connection.read("GET", self._found["links"]["self"], *JOB)
        return self

    def events(self, after: int | None = None) -> Iterator[Event]:
        """The reports of the job as they come, from its start (or behind event `after`) to its end."""
        last = after
        for attempt in self._connection.patience():
            with attempt:
                headers = {} if last is None else {"Last-Event-ID": str(last)}
                with self._connection.http.stream("GET", self._found["links"]["events"], headers=headers) as answer:
                    for event in _parsed(checked(answer).iter_lines()):
                        attempt.succeeded()
                        last = event.id
                        yield event

    def wait(self, progress: Progress = silent) -> "Job":
        """Wait until the job has succeeded, and return it. Raises the error of a failed job, or JobCancelledError."""
        last = None
        while self.state not in FINISHED:  # if the service stops, the stream continues after its restart
            for event in self.events(last):
                last = event.id
                if event.kind == "progress":
                    progress(str(event.data["stage"]), int(event.data["done"]), int(event.data["total"]))
            self.refresh()
        if self.state == "cancelled":
            raise JobCancelledError(f"{self.id} was cancelled", "start it again", "cancelled")
        if self.state == "failed":
            raise error_of(self._found["error"])
        return self

    def download(self, path: str | Path, what: str = "artifact", progress: Progress = silent) -> Path:
        """Download one of its `files` to a path. The file appears only when it is complete."""
        if what not in self.files:
            remedy = f"choose one of {', '.join(self.files)}" if self.files else "wait for it first"
            raise OptionError(f"{self.id} is {self.state} and has no {what}", remedy)
        digest, path = self._found["artifacts"].get(FILES[what]), path_to(path)
        download(self._connection, self._found["links"][what], path, digest, progress)
        return path

    def cancel(self) -> None:
        """Stop the job. A job that is finished, or finishes at this moment, stays as it is."""
        self._found = self._connection.read("POST", f"{self._found['links']['self']}/cancel", *JOB)

    def delete(self) -> None:
        """Delete the job and its files. A job that is not finished is cancelled first."""
        self.cancel()
        self._connection.remove(self._found["links"]["self"])


class Client:
    """One service, with one key. Close it, or use it as a context manager.

    url: its address, or the link with a key that `graphpass serve` prints. patience: seconds without success after
    which the client gives up.
    """

    def __init__(self, url: str, key: str = "", patience: float = 60.0):
        if not isinstance(url, str):
            raise wrong_type("url", url, "a text such as http://127.0.0.1:8000", "url")
        if not number(0.0)(patience):
            raise OptionError(f"patience is {patience!r}", "give a number of seconds, 0 or more", "patience")
        address, _, fragment = url.partition("#")
        given = key or fragment.removeprefix("key=")
        if not (isinstance(given, str) and given.isascii() and given.isprintable()):
            raise OptionError(
                "the key is none of a service", "give it as `graphpass serve` or `keys create` printed it"
            )
        self._connection = Connection(address_of(address), given, patience)

    def upload_model(
        self, path: str | Path, progress: Progress = silent, *, name: str | None = None, resume: str | None = None
    ) -> Stored:
        """Upload an .onnx, or a .zip of one and its external data. Equal bytes are stored once.

        resume: the address of an upload that an earlier process started; it is in the notes of the error that ended it.
        """
        return Stored.from_json(
            upload(self._connection, "model", path_to(path, "a model"), progress, resume, name, STORED)
        )

    def upload_dataset(
        self, path: str | Path, progress: Progress = silent, *, name: str | None = None, resume: str | None = None
    ) -> Stored:
        """Upload an .npz, .npy, or a .zip of .npz shards or of images (by class). resume: as for upload_model."""
        return Stored.from_json(
            upload(self._connection, "dataset", path_to(path, "data"), progress, resume, name, STORED)
        )

    def example(self) -> Mapping[str, str]:
        """The built-in example: ids of `model`, `calibration` and `evaluation`."""
        return dict(self._connection.read("POST", "/v1/examples/fashion-mnist", "model", "calibration", "evaluation"))

    def convert(
        self,
        model: Stored | str,
        calibration: Stored | str | None = None,
        evaluation: Stored | str | None = None,
        **options: Any,
    ) -> Job:
        """Start a conversion; with `evaluation`, both networks are compared afterwards.

        Uploads are given as objects or as ids. options: those of `graphpass convert`.
        """
        return self._start("conversions", options, model=model, calibration=calibration, evaluation=evaluation)

    def evaluate(self, ann: Stored | str, snn: Stored | Job | str, dataset: Stored | str, **options: Any) -> Job:
        """Start a comparison of a network with its conversion. options: those of `graphpass evaluate`."""
        return self._start("evaluations", options, ann=ann, snn=snn, dataset=dataset)

    def rank(
        self, model: Stored | str, calibration: Stored | str, evaluation: Stored | str | None = None, **options: Any
    ) -> Job:
        """Start a ranking of the sites. options: those of `graphpass.inspect`; `job.result` is its `ranking`."""
        return self._start("rankings", options, model=model, calibration=calibration, evaluation=evaluation)

    def search(
        self, model: Stored | str, calibration: Stored | str, dataset: Stored | str, *, max_drop: float, **options: Any
    ) -> Job:
        """Start a search for the cheapest network that loses at most max_drop. options: those of `graphpass.search`."""
        given = {"max_drop": max_drop, **options}
        return self._start("searches", given, model=model, calibration=calibration, dataset=dataset)

    def sweep(self, model: Stored | str, calibration: Stored | str, dataset: Stored | str, **options: Any) -> Job:
        """Start many conversions. options: those of `graphpass sweep`; time_steps, coding and method are lists."""
        return self._start("sweeps", options, model=model, calibration=calibration, dataset=dataset)

    def job(self, id: str) -> Job:
        """A job by its id."""
        collection = COLLECTIONS.get(id.partition("_")[0])
        if collection is None:
            raise OptionError(f"{id!r} is not the id of a job", f"they begin with one of {', '.join(COLLECTIONS)}")
        return Job(self._connection, self._connection.read("GET", f"/v1/{collection}/{id}", *JOB))

    def jobs(self, **filters: str) -> Iterator[Job]:
        """All jobs, newest first; `refresh` on a job fetches its result. filters: kind, state."""
        return (Job(self._connection, found) for found in self._pages("/v1/jobs", filters))

    def models(self) -> Iterator[Stored]:
        """All models, newest first."""
        return map(Stored.from_json, self._pages("/v1/models", {}))

    def datasets(self) -> Iterator[Stored]:
        """All datasets, newest first."""
        return map(Stored.from_json, self._pages("/v1/datasets", {}))

    def description(self, stored: Stored) -> Mapping[str, Any]:
        """All that the service found in a model or dataset."""
        if "omitted" not in stored.description:
            return stored.description
        found: JSON = self._connection.read("GET", f"/v1/{stored.kind}s/{stored.id}/description")
        return found

    def delete(self, stored: Stored) -> None:
        """Delete a model or dataset. Jobs that were accepted earlier can still use it."""
        self._connection.remove(f"/v1/{stored.kind}s/{stored.id}")

    def close(self) -> None:
        """Close all connections."""
        self._connection.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start(self, collection: str, options: Mapping[str, Any], **inputs: Stored | Job | str | None) -> Job:
        body: JSON = {role: given if isinstance(given, str) else given.id for role, given in inputs.items() if given}
        lists = (*LISTS, *SEVERAL) if collection == "sweeps" else LISTS
        body["options"] = {
            name: several_of(plain_of(value)) if name in lists else plain_of(value)
            for name, value in options.items()
            if value is not None
        }
        return Job(self._connection, self._connection.read("POST", f"/v1/{collection}", *JOB, json=body))

    def _pages(self, path: str, filters: Mapping[str, str]) -> Iterator[JSON]:
        page = self._connection.read("GET", path, *PAGE, params=dict(filters))
        while True:
            yield from page["items"]
            if page["next"] is None:
                return
            page = self._connection.read("GET", page["next"], *PAGE)


def _require(found: Any, names: Sequence[str]) -> None:
    """Raises RemoteError for an entry of the service without one of these names."""
    if not (isinstance(found, Mapping) and found.keys() >= set(names)):
        raise RemoteError("the service describes what it has in a way that is not known here", "update graphpass")


def _inner(result: Mapping[str, Any]) -> JSON:
    """The key in a conversion's result that holds another document."""
    return {"evaluation": result["evaluation"]} if "evaluation" in result else {}


def _parsed(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events without the comments that keep the connection alive. Raises RemoteError for a wrong event."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields:
            try:
                yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            except (KeyError, ValueError) as error:
                raise RemoteError("the service sent an event that cannot be read", "update graphpass") from error
        fields = {}
