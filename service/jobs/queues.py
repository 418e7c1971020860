"""What waits to run, and who runs what.

This reads and changes the engine's table of workflows directly, for what the engine's API does not offer.

Jobs and shards wait on queues that all processes share. No engine serves these, since it would take what came first. A
process that has a place takes one workflow, of the tenant whose turn it is (service/jobs/places.py), and puts
it on its own queue, the only one that the engine serves there. A tenant is the key of a workflow's partition. The table
is documented: https://docs.dbos.dev/explanations/system-tables
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from service.jobs.engine import CONVERT, SHARDS, own_queue, reached

SHARD = "shard"  # the name of the workflow of a shard; all others are jobs
TURN = 0x67707474  # advisory lock: one process at a time takes something
COLUMNS = """workflow_uuid status name queue_name queue_partition_key executor_id created_at
    parent_workflow_id started_at_epoch_ms completed_at"""
SETTLED = 60.0  # seconds after which nothing writes to a workflow that has ended
IN_FLIGHT: list[sa.ColumnElement[str]] = [
    sa.literal_column("'ENQUEUED'"),
    sa.literal_column("'PENDING'"),
]  # written out: indexes are of such rows


class Queues:
    """The queues of all processes, as one of them sees them. queues: those that it takes from.

    running: jobs of a tenant that may run at a time; 0 for any number.
    """

    def __init__(self, database: sa.Engine, executor: str, queues: Sequence[str], running: int):
        self._database, self._executor, self._queues, self._running = database, executor, queues, running
        self._postgres = database.dialect.name == "postgresql"
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in COLUMNS.split()]
        self._table = sa.table("workflow_status", *columns, schema="dbos" if self._postgres else None)

    @reached
    def waiting(self) -> dict[str, float]:
        """Tenants of which a workflow may be taken, and for how many seconds the oldest one has waited."""
        oldest = sa.func.min(self._table.c.created_at)
        query = sa.select(_tenant(self._table), oldest).where(self._ready(self._table)).group_by(_tenant(self._table))
        with self._database.connect() as connection:
            rows = connection.execute(query).all()
        return {tenant: max(0.0, time.time() - created / 1000) for tenant, created in rows}

    @reached
    def take(self, tenant: str) -> str | None:
        """Move a workflow of a tenant to this process: of the job that has the fewest shards running, then the oldest.

        None where another process was faster.
        """
        rows, shards, jobs = (self._table.alias(name) for name in ("waiting", "shards", "jobs"))
        running = sa.select(shards.c.parent_workflow_id, sa.func.count().label("count"))
        running = running.where(_in_flight(shards), shards.c.name == SHARD, _is_started(shards))
        counts = running.group_by(shards.c.parent_workflow_id).subquery("running")
        both = rows.outerjoin(counts, counts.c.parent_workflow_id == rows.c.parent_workflow_id)
        both = both.outerjoin(jobs, jobs.c.workflow_uuid == rows.c.parent_workflow_id)
        age = sa.func.coalesce(jobs.c.created_at, rows.c.created_at)
        order = (sa.func.coalesce(counts.c.count, 0), age, rows.c.created_at, rows.c.workflow_uuid)
        first = sa.select(rows.c.workflow_uuid).select_from(both).where(self._ready(rows), _tenant(rows) == tenant)
        first = first.order_by(*order).limit(1)
        this = (self._table.c.workflow_uuid == first.scalar_subquery(), self._table.c.status == "ENQUEUED")
        moved = sa.update(self._table).where(*this).values(queue_name=own_queue(self._executor))
        with self._database.begin() as connection:
            if self._postgres:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(TURN)))
            found: str | None = connection.scalar(moved.returning(self._table.c.workflow_uuid))
        return found

    @reached
    def is_ours(self, workflow: str) -> bool:
        """Whether a workflow still runs in this process: it was not cancelled, removed, or taken over elsewhere."""
        row = sa.select(self._table.c.status, self._table.c.executor_id).where(self._table.c.workflow_uuid == workflow)
        with self._database.connect() as connection:
            return connection.execute(row).one_or_none() == ("PENDING", self._executor)

    @reached
    def lengths(self) -> Mapping[str, int]:
        """How many jobs and shards wait, by queue."""
        table = self._table
        shared = (_in_flight(table), table.c.status == "ENQUEUED", ~_taken(table))
        query = sa.select(table.c.queue_name, sa.func.count()).where(*shared).group_by(table.c.queue_name)
        with self._database.connect() as connection:
            return {queue or "": count for queue, count in connection.execute(query)}

    @reached
    def owners(self) -> set[str]:
        """Executors that have taken something that is not finished."""
        table = self._table
        runs = sa.select(table.c.executor_id).distinct().where(_in_flight(table), table.c.status == "PENDING")
        waits = sa.select(table.c.queue_name).distinct().where(_in_flight(table), _taken(table))
        with self._database.connect() as connection:
            owners = {queue.removeprefix(own_queue("")) for queue in connection.scalars(waits)}
            return owners | {owner for owner in connection.scalars(runs) if owner}

    @reached
    def give_back(self, owner: str, queues: Mapping[str, str]) -> None:
        """Put what waits on the queue of an executor that is gone on the shared queues.

        queues: the shared queue of each job.
        """
        table = self._table
        left = (_in_flight(table), table.c.status == "ENQUEUED", table.c.queue_name == own_queue(owner))
        with self._database.begin() as connection:
            for id, name in connection.execute(sa.select(table.c.workflow_uuid, table.c.name).where(*left)).all():
                queue = SHARDS if name == SHARD else queues.get(id, CONVERT)
                connection.execute(sa.update(table).where(*left, table.c.workflow_uuid == id).values(queue_name=queue))

    @reached
    def jobs(self) -> set[str]:
        """Ids of jobs that run or wait, or a shard of which does."""
        job = sa.func.coalesce(self._table.c.parent_workflow_id, self._table.c.workflow_uuid)
        with self._database.connect() as connection:
            return set(connection.scalars(sa.select(job).distinct().where(_in_flight(self._table))))

    @reached
    def started_before(self, seconds: float) -> set[str]:
        """Unfinished workflows that this process took so many seconds ago or earlier."""
        table, then = self._table, int(1000 * (time.time() - seconds))
        ours = (_in_flight(table), table.c.status == "PENDING", table.c.executor_id == self._executor)
        with self._database.connect() as connection:
            query = sa.select(table.c.workflow_uuid).where(*ours, table.c.started_at_epoch_ms < then)
            return set(connection.scalars(query))

    @reached
    def ended(self, after: str, limit: int) -> list[str]:
        """A page of ids of jobs whose workflow ended a while ago, in order: those that are greater than `after`."""
        table, then = self._table, int(1000 * (time.time() - SETTLED))
        jobs = (table.c.workflow_uuid > after, table.c.parent_workflow_id.is_(None), table.c.completed_at < then)
        query = sa.select(table.c.workflow_uuid).where(*jobs).order_by(table.c.workflow_uuid).limit(limit)
        with self._database.connect() as connection:
            return list(connection.scalars(query))

    def _ready(self, rows: sa.FromClause) -> sa.ColumnElement[bool]:
        """Which rows may be taken: shards, and jobs of tenants of which fewer than `running` run."""
        waits = sa.and_(_in_flight(rows), rows.c.status == "ENQUEUED", rows.c.queue_name.in_(self._queues))
        if not self._running:
            return waits
        others = self._table.alias("started")
        runs = (_in_flight(others), others.c.name != SHARD, _is_started(others))
        full = sa.select(_tenant(others)).where(*runs).group_by(_tenant(others))
        full = full.having(sa.func.count() >= self._running)
        return sa.and_(waits, sa.or_(rows.c.name == SHARD, _tenant(rows).not_in(full)))


def _tenant(rows: sa.FromClause) -> sa.ColumnElement[str]:
    return sa.func.coalesce(rows.c.queue_partition_key, sa.literal_column("''"))


def _in_flight(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    return rows.c.status.in_(IN_FLIGHT)


def _is_started(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.or_(rows.c.status == "PENDING", _taken(rows))


def _taken(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a process has taken the workflow: then it is on that process's own queue."""
    return rows.c.queue_name.startswith(own_queue(""), autoescape=True)
