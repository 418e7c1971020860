"""What /metrics shows. Counters are those of this process; figures of the database are read when they are asked for."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.storage.records import JobRecord

SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
KILLS = ("memory-limit", "time-limit", "output-limit", "crashed")


@dataclass
class _Tally:
    outcome: str = "interrupted"

    def ended(self, outcome: str) -> None:
        """Note how the task ended: `succeeded`, or the type of its error."""
        self.outcome = outcome


class ProcessMetrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "graphpass_requests", "requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "graphpass_request_seconds", "time until the answer begins", ("method", "route"), registry=self.registry
        )
        self._jobs = Counter("graphpass_jobs", "jobs finished", ("kind", "state", "error"), registry=self.registry)
        self._job_seconds = Histogram(
            "graphpass_job_seconds", "from start to finish of a job", ("kind",), buckets=SECONDS, registry=self.registry
        )
        self._task_seconds = Histogram(
            "graphpass_task_seconds",
            "time in the sandbox",
            ("task", "outcome"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._kills = Counter(
            "graphpass_sandbox_kills", "children that hit a limit or crashed", ("reason",), registry=self.registry
        )
        self.connections = Gauge("graphpass_connections", "connections that are open", registry=self.registry)
        self.cut = Counter(
            "graphpass_connections_cut",
            "connections refused, or ended before their time",
            ("reason",),
            registry=self.registry,
        )
        self.running = Gauge("graphpass_tasks_running", "children running now", registry=self.registry)

    @contextmanager
    def task(self, name: str) -> Iterator[_Tally]:
        """Count and time one task in the sandbox."""
        tally, began = _Tally(), time.monotonic()
        self.running.inc()
        try:
            yield tally
        finally:
            self.running.dec()
            self._task_seconds.labels(name, tally.outcome).observe(time.monotonic() - began)
            if tally.outcome in KILLS:
                self._kills.labels(tally.outcome).inc()

    def job(self, job: JobRecord) -> None:
        """Count a finished job."""
        error = str(job.error["type"]) if job.error else ""
        self._jobs.labels(job.kind, job.state, error).inc()
        if job.started and job.finished:
            self._job_seconds.labels(job.kind).observe((job.finished - job.started).total_seconds())

    def watch(self, read: Callable[[], Mapping[str, Mapping[tuple[str, ...], float]]]) -> None:
        """Add gauges that are read when asked for; see GAUGES for their names and labels."""
        self.registry.register(_Database(read))

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "graphpass_queue_length": ("jobs and shards that wait", ("queue",)),
    "graphpass_jobs_known": ("jobs in the database", ("kind", "state")),
    "graphpass_stored_bytes": ("bytes that tenants keep", ()),
}


class _Database(Collector):
    def __init__(self, read: Callable[[], Mapping[str, Mapping[tuple[str, ...], float]]]):
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """What the database says now."""
        for name, values in self._read().items():
            help, labels = GAUGES[name]
            family = GaugeMetricFamily(name, help, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing is read to register it."""
        return []
