"""The queues of all processes, on both databases: turns, quotas, what is given back, and what is watched."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from dbos import DBOS

from service.errors import StorageUnavailableError
from service.jobs import engine
from service.jobs.dispatch import Dispatcher, queue_of
from service.jobs.queues import Queues
from service.settings import Settings
from service.storage.database import address
from service.storage.metadata import make_data_folder
from service.storage.records import JobRecord

BOTH = ("convert", "shards")
Make = Callable[..., Queues]


@pytest.fixture
def database(database_settings: Settings) -> Iterator[sa.Engine]:
    """The engine's tables, empty."""
    if engine.is_postgres(database_settings):
        DBOS.migrate(database_settings.database_url)
        found = sa.create_engine(address(database_settings))
    else:
        make_data_folder(database_settings.data_dir)
        found = engine.sqlite_engine(database_settings)
        DBOS.migrate(str(found.url))
    yield found
    found.dispose()


@pytest.fixture
def dispatcher(database_settings: Settings, database: sa.Engine) -> Iterator[Dispatcher]:
    """A client of the engine."""
    sqlite = None if engine.is_postgres(database_settings) else database
    found = Dispatcher(engine.client(database_settings, sqlite))
    yield found
    found.close()


@pytest.fixture
def make(database: sa.Engine) -> Make:
    """Makes the queues as one process sees them."""

    def queues(executor: str = "w1", queues: tuple[str, ...] = BOTH, running: int = 0) -> Queues:
        return Queues(database, executor, queues, running)

    return queues


def job(id: str, tenant: str, kind: str = "conversion", **options: object) -> JobRecord:
    """A queued job."""
    request = {"options": options}
    now = datetime.now(UTC)
    return JobRecord(id, tenant, kind, request, "queued", None, None, {}, {}, None, now, None, None, None)  # type: ignore[arg-type]


def change(database: sa.Engine, id: str, **values: object) -> None:
    """Change a workflow as the engine does."""
    schema = "dbos" if database.dialect.name == "postgresql" else None
    table = sa.table("workflow_status", *map(sa.column, ("workflow_uuid", *values)), schema=schema)
    with database.begin() as connection:
        connection.execute(sa.update(table).where(table.c.workflow_uuid == id).values(**values))


def shard(dispatcher: Dispatcher, database: sa.Engine, of: JobRecord, number: int) -> str:
    """Put a shard on the queue; its id."""
    id = f"{of.id}-observe-{number}"
    dispatcher.send(job(id, of.tenant))
    change(database, id, name="shard", queue_name="shards", parent_workflow_id=of.id)
    return id


def test_jobs_of_a_tenant_share_its_turns(dispatcher: Dispatcher, database: sa.Engine, make: Make) -> None:
    """The job with the fewest shards running goes first, then the oldest job."""
    queues = make()
    first, second = job("con_1", "acme"), job("con_2", "acme")
    for number, each in enumerate((first, second)):
        dispatcher.send(each)
        change(database, each.id, created_at=1000 + number)
    assert queues.take("acme") == first.id
    shards = [shard(dispatcher, database, first, number) for number in range(3)]
    for number, id in enumerate(shards):
        change(database, id, created_at=2000 + number)
    assert [queues.take("acme") for _ in range(2)] == [shards[0], second.id]  # the older job, then the other one
    other = shard(dispatcher, database, second, 0)
    assert [queues.take("acme") for _ in range(3)] == [other, *shards[1:]]
    for id in shards:
        change(database, id, status="SUCCESS")
    more = [shard(dispatcher, database, second, 1), shard(dispatcher, database, first, 3)]
    assert [queues.take("acme") for _ in more] == more[::-1]


def test_the_oldest_of_a_tenant(dispatcher: Dispatcher, database: sa.Engine, make: Make) -> None:
    queues = make()
    jobs = [job("con_1", "acme"), job("con_2", "acme"), job("con_3", "other")]
    for each in jobs:
        dispatcher.send(each)
    for number, each in enumerate(jobs):
        change(database, each.id, created_at=1000 + number)
    of = shard(dispatcher, database, jobs[0], 0)
    waiting = queues.waiting()
    assert set(waiting) == {"acme", "other"} and min(waiting.values()) > 1e6
    assert queues.lengths() == {"convert": 3, "shards": 1}
    assert [queues.take("acme") for _ in range(4)] == ["con_1", of, "con_2", None]
    assert set(queues.waiting()) == {"other"} and queues.lengths() == {"convert": 1}
    assert queues.owners() == {"w1"} and queues.jobs() == {"con_1", "con_2", "con_3"}
    dispatcher.cancel("con_3")
    assert not queues.waiting() and queues.jobs() == {"con_1", "con_2"}


def test_only_from_the_queues_that_a_process_works_on(dispatcher: Dispatcher, database: sa.Engine, make: Make) -> None:
    dispatcher.send(job("eva_1", "acme", "evaluation", provider="cuda"))
    dispatcher.send(job("con_1", "acme"))
    assert make().take("acme") == "con_1" and make().take("acme") is None
    assert make("w2", ("gpu",)).take("acme") == "eva_1"


def test_jobs_of_a_tenant_that_run_at_a_time(dispatcher: Dispatcher, database: sa.Engine, make: Make) -> None:
    queues, other = make(running=2), make("w2", running=2)
    jobs = [job(f"con_{number}", "acme") for number in range(3)]
    for each in jobs:
        dispatcher.send(each)
    assert queues.take("acme") and other.take("acme")
    assert queues.take("acme") is None and "acme" not in queues.waiting()
    of = shard(dispatcher, database, jobs[0], 0)  # shards of what runs do not count
    assert queues.take("acme") == of and queues.take("acme") is None
    change(database, "con_0", status="PENDING", executor_id="w1")
    assert queues.take("acme") is None
    change(database, "con_0", status="SUCCESS")
    assert other.take("acme") == "con_2"


def test_what_a_lost_process_had_taken_is_given_back(dispatcher: Dispatcher, database: sa.Engine, make: Make) -> None:
    lost, other = make("lost", (*BOTH, "gpu")), make("other")
    jobs = [job("con_1", "acme"), job("eva_1", "acme", "evaluation", provider="cuda")]
    for each in jobs:
        dispatcher.send(each)
    taken = {lost.take("acme") for _ in jobs} | {shard(dispatcher, database, jobs[0], 0)}
    lost.take("acme")
    change(database, "con_1", status="PENDING", executor_id="lost")
    assert lost.owners() == {"lost"} and lost.is_ours("con_1") and not other.is_ours("con_1")
    change(database, "con_1", status="ENQUEUED")  # as the engine recovers it
    other.give_back("lost", {each.id: queue_of(each.request) for each in jobs})
    assert other.owners() == set() and other.lengths() == {"convert": 1, "shards": 1, "gpu": 1}
    assert {other.take("acme"), other.take("acme"), make("g", ("gpu",)).take("acme")} == taken


def test_whether_a_workflow_is_still_ours(dispatcher: Dispatcher, database: sa.Engine, make: Make) -> None:
    dispatcher.send(job("con_1", "acme"))
    queues = make()
    assert queues.take("acme") and not queues.is_ours("con_1")  # not started
    change(database, "con_1", status="PENDING", executor_id="w1", started_at_epoch_ms=1000)
    assert queues.is_ours("con_1") and queues.started_before(20) == {"con_1"} and not make("w2").started_before(20)
    dispatcher.cancel("con_1")
    assert not queues.is_ours("con_1") and not queues.started_before(20)
    dispatcher.forget(["con_1"])
    assert not queues.is_ours("con_1")


def test_pages_of_what_has_ended(dispatcher: Dispatcher, database: sa.Engine, make: Make) -> None:
    jobs = [job(f"con_{number}", "acme") for number in range(5)]
    for each in jobs:
        dispatcher.send(each)
        change(database, each.id, status="SUCCESS", completed_at=1000)
    of = shard(dispatcher, database, jobs[0], 0)
    change(database, of, status="SUCCESS", completed_at=1000)
    change(database, "con_4", completed_at=int(datetime.now(UTC).timestamp() * 1000))  # just now
    assert make().ended("", 3) == ["con_0", "con_1", "con_2"] and make().ended("con_2", 3) == ["con_3"]
    dispatcher.forget(["con_0"])
    assert make().ended("", 3) == ["con_1", "con_2", "con_3"]


def test_a_database_that_is_away() -> None:
    with pytest.raises(StorageUnavailableError, match="the engine of jobs does not answer"):
        Queues(sa.create_engine("sqlite:////nonexistent/folder/jobs.db"), "w1", BOTH, 0).waiting()
