"""Where large evaluations and calibrations are cut into shards."""

from collections.abc import Iterator

from service.errors import NotFoundError
from service.jobs.dispatch import queue_of
from service.jobs.engine import GPU, SHARDS
from service.jobs.guard import workers_on
from service.settings import Settings
from service.storage.metadata import Metadata
from service.storage.records import JobRecord


class ShardSizes:
    """How many samples each shard of a job has, by the settings and by who works on shards now."""

    def __init__(self, settings: Settings, metadata: Metadata):
        self._settings, self._metadata = settings, metadata

    def of(self, job: JobRecord) -> dict[str, tuple[int, ...]]:
        """Of an evaluation (`shards`) and of a conversion's calibration (`observed`): (samples, samples of each shard).

        Empty where they are not cut into shards.
        """
        request, limit = job.request, job.request["options"].get("limit")
        if job.kind in ("ranking", "search", "sweep") or queue_of(request) == GPU:  # a GPU does it as a whole
            return {"shards": (), "observed": ()}
        if job.kind == "evaluation":
            return {"shards": self._cut(job.tenant, request["dataset"], limit), "observed": ()}
        calibration = request.get("calibration") if self._lanes() > 1 else None
        names = (request.get("evaluation"), None), (calibration, limit)
        evaluated, observed = (self._cut(job.tenant, name, most) if name else () for name, most in names)
        return {"shards": evaluated, "observed": observed}

    def _lanes(self) -> int:
        """How many shards run side by side, if all workers are like this; without JOB_THREADS a task takes all cores.

        Where it is one, shards of a calibration would only add what starting them costs (docs/decisions/0016).
        """
        database = self._metadata.database
        side_by_side = self._settings.workers if self._settings.job_threads else 1
        return side_by_side * (1 if database.is_sqlite else workers_on(SHARDS, database))

    def _cut(self, tenant: str, dataset: str, limit: int | None) -> tuple[int, ...]:
        """Samples of a dataset and of each shard; empty where one shard is enough, or the dataset is gone."""
        try:
            samples = int(self._metadata.objects.get(tenant, dataset).description["samples"])
        except (NotFoundError, KeyError, TypeError):
            return ()
        samples = min(samples, limit or samples)
        shards = min(-(-samples // self._settings.shard_samples), self._settings.max_shards)
        return (samples, -(-samples // shards)) if shards > 1 else ()  # as many in each


def spans(samples: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of `size` samples: made one by one, since whoever made the data chose how many there are."""
    return ((start, min(start + size, samples)) for start in range(0, samples, size))


def count(samples: int, size: int) -> int:
    """How many ranges `spans` makes."""
    return -(-samples // size)
