"""Shards of a job: as many as the settings allow, whatever a dataset says, and few of them at a time."""

import asyncio
import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.errors import NotFoundError
from service.jobs import sharding, work
from service.jobs.places import Places
from service.jobs.running import TaskOutcome
from service.problems import JobError
from service.settings import load_settings
from service.storage.metadata import Metadata
from service.storage.records import JobRecord

ARTIFACT = {"result": {"samples": 1}, "files": {"part.json": "0" * 64}, "error": None}


class ShardEngine:
    """Stands in for DBOS and records what waits. outcomes: those of the shards, in order."""

    def __init__(self, outcomes: Iterator[dict[str, Any]]):
        self.sent: list[str] = []
        self.cancelled: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.waiting, self.most, self._outcomes = 0, 0, outcomes

    async def enqueue_workflow_async(self, queue: str, workflow: Any, *arguments: Any) -> Any:
        """See DBOS."""
        id = f"shard {len(self.sent)}"
        self.sent.append(id)
        self.waiting += 1
        self.most = max(self.most, self.waiting)

        async def result(polling_interval_sec: float) -> dict[str, Any]:
            self.waiting -= 1
            return next(self._outcomes)

        return SimpleNamespace(get_result=result, get_workflow_id=lambda: id)

    async def write_stream_async(self, key: str, value: dict[str, Any]) -> None:
        """See DBOS."""
        self.events.append(value)

    async def cancel_workflow_async(self, id: str) -> None:
        """See DBOS."""
        self.cancelled.append(id)


def split(
    monkeypatch: pytest.MonkeyPatch, engine: ShardEngine, each: Iterator[dict[str, Any]], count: int
) -> list[TaskOutcome]:
    """Run so many shards; their outcomes."""
    monkeypatch.setattr(work, "DBOS", engine)
    subject = SimpleNamespace(shard=None, _places=Places(1))
    return asyncio.run(work.Work._split(subject, "eva_1", "acme", "evaluate_shard", each, count, {}, "shards"))


def test_shards_are_made_as_there_is_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million millions of shards, those that are never made because of an error cost nothing."""
    failure = {"result": {}, "files": {}, "error": JobError("invalid-data", "broken").to_json()}
    engine = ShardEngine(itertools.chain([ARTIFACT] * 100, [failure]))
    made = itertools.count()
    each = ({"start": start, "number": next(made)} for start, _ in sharding.spans(10**12, 1))
    tracemalloc.start()
    parts = split(monkeypatch, engine, each, sharding.count(10**12, 1))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert len(parts) == 101 and parts[-1].error and not parts[-2].error
    assert len(engine.sent) == 100 + work.AHEAD == next(made)
    assert engine.most == work.AHEAD and engine.cancelled == engine.sent[101:]


def test_all_shards_are_run_and_reported_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (2, work.AHEAD, work.AHEAD + 1, 3 * work.AHEAD + 5):
        results = [{**ARTIFACT, "result": {"samples": number}} for number in range(count)]
        engine = ShardEngine(iter(results))
        parts = split(monkeypatch, engine, ({"start": number} for number in range(count)), count)
        assert [part.result["samples"] for part in parts] == list(range(count)) and len(engine.sent) == count
        assert [event["done"] for event in engine.events] == list(range(count + 1))
        assert not engine.cancelled and engine.most <= work.AHEAD


def evaluation(limit: int | None) -> JobRecord:
    """A job that evaluates."""
    request = {"dataset": "dat_1", "options": {"limit": limit}}
    return cast(JobRecord, SimpleNamespace(kind="evaluation", tenant="acme", request=request))


@pytest.mark.parametrize(
    ("samples", "limit", "expected"),
    [
        (2048, None, ()),
        (2049, None, (2049, 1025)),
        (10_000, None, (10_000, 2000)),
        (10_000, 2048, ()),
        (10_000, 4096, (4096, 2048)),
        (10**14, None, (10**14, 10**12)),  # of a database that an earlier version wrote
        (None, None, ()),
    ],
)
def test_there_are_never_more_shards_than_the_settings_allow(
    tmp_path: Path, samples: Any, limit: int | None, expected: tuple[int, ...]
) -> None:
    objects = SimpleNamespace(get=lambda tenant, id: SimpleNamespace(description={"samples": samples}))
    subject = sharding.ShardSizes(
        load_settings(data_dir=tmp_path, max_shards=100), cast(Metadata, SimpleNamespace(objects=objects))
    )
    cut = subject.of(evaluation(limit))["shards"]
    assert cut == expected
    if cut and cut[0] < 10**6:
        spans = list(sharding.spans(*cut))
        assert len(spans) == sharding.count(*cut) <= 100
        assert spans[0][0] == 0 and spans[-1][1] == cut[0]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))


def test_a_dataset_that_is_gone_is_not_cut(tmp_path: Path) -> None:
    def gone(tenant: str, id: str) -> None:
        raise NotFoundError("gone", "")

    metadata = SimpleNamespace(objects=SimpleNamespace(get=gone))
    subject = sharding.ShardSizes(load_settings(data_dir=tmp_path), cast(Metadata, metadata))
    assert subject.of(evaluation(None))["shards"] == ()
