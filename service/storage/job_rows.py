"""Jobs as people see them. The steps of a workflow write these rows, and may write them twice.

queued → running → succeeded | failed | cancelled      (a queued job may be cancelled or fail, too)
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from service.errors import IdempotencyError, NotFoundError, StateError, StorageUnavailableError
from service.settings import Quota
from service.storage import rows, tables
from service.storage.database import Database
from service.storage.ids import Ids
from service.storage.records import FINISHED, JSON, UNFINISHED, JobKind, JobRecord, JobState, Page

PREFIXES: dict[JobKind, str] = {
    "conversion": "con",
    "evaluation": "eva",
    "ranking": "ran",
    "search": "sea",
    "sweep": "swe",
}
TABLE = tables.jobs
LINKS = tables.job_blobs
SHOWN = tuple(column for column in TABLE.c if column.name not in ("request_digest", "reserved"))
Role = Literal["input", "part", "artifact"]
LEAST = 2**16  # bytes that have to be left for the files of a job


class Jobs:
    """Jobs of all tenants."""

    def __init__(self, database: Database, ids: Ids):
        self._database = database
        self._ids = ids

    def create(
        self,
        tenant: str,
        kind: JobKind,
        *,
        request: JSON,
        inputs: Mapping[str, str],
        idempotency_key: str | None = None,
        reserved: int = 0,
        quota: Quota | None = None,
    ) -> tuple[JobRecord, bool]:
        """A queued job and True; or the job that the same idempotency key made before, and False.

        `inputs` (name → digest) must be digests of objects or artifacts of the tenant: NotFoundError otherwise.
        `reserved` bytes are kept for its files until it is finished, or as many as are left, but LEAST. Raises
        IdempotencyError where the key came with another kind or request, QuotaError (`queued`, `bytes`, `entries`).
        Quotas are checked in the transaction that inserts: of two racing requests for the last place one fails.
        """
        rows.json("the request", request)
        id = self._ids.new(PREFIXES[kind])
        request_digest = digest_of(kind, request)
        try:
            with self._database.write() as connection:
                rows.lock(connection, tenant)
                earlier = _earlier(connection, tenant, idempotency_key, request_digest)
                if earlier is not None:
                    return earlier, False
                _check_owned(connection, tenant, inputs)
                room = _room(connection, tenant, quota, reserved)
                values: dict[str, Any] = {
                    "id": id,
                    "tenant": tenant,
                    "kind": kind,
                    "request": request,
                    "request_digest": request_digest,
                    "idempotency_key": idempotency_key,
                    "state": "queued",
                    "reserved": room,
                    "created": datetime.now(UTC),
                }
                connection.execute(sa.insert(TABLE).values(values))
                _link(connection, id, tenant, "input", inputs)
                rows.check(connection, tenant, quota, ("queued", "entries"), 1)
                return _one(connection, TABLE.c.id == id, id), True
        except sa.exc.IntegrityError as error:  # collected between the check and the insert
            raise NotFoundError("an input is no longer there", "upload it again") from error

    def repeated(self, tenant: str, kind: JobKind, *, request: JSON, idempotency_key: str | None) -> JobRecord | None:
        """The job that the same key and request made before, if any. Raises IdempotencyError for another request.

        Ask this before looking for inputs, since those of a repeated request may be gone.
        """
        with self._database.read() as connection:
            return _earlier(connection, tenant, idempotency_key, digest_of(kind, request))

    def get(self, tenant: str, id: str) -> JobRecord:
        """A job of a tenant. Raises NotFoundError."""
        with self._database.read() as connection:
            return _one(connection, _ours(tenant, id), id)

    def list(
        self,
        tenant: str,
        *,
        kind: JobKind | None = None,
        states: Collection[JobState] = (),
        after: str | None = None,
        limit: int = 50,
    ) -> Page[JobRecord]:
        """A page of jobs, newest first; no states means all. Results, which may be long, are left out (None)."""
        short = (column for column in SHOWN if column is not TABLE.c.result)
        query = sa.select(*short, sa.null().label("result")).where(TABLE.c.tenant == tenant)
        if kind is not None:
            query = query.where(TABLE.c.kind == kind)
        if states:
            query = query.where(TABLE.c.state.in_(states))
        with self._database.read() as connection:
            page = rows.page(connection, query, TABLE.c.id, after, limit, dict)
            return Page(_jobs(connection, page.rows), page.after)

    def start(self, id: str, quota: Quota | None = None) -> JobRecord:
        """Set a queued job to running; any other state stays. Returns the job. Raises QuotaError (`running`)."""
        with self._database.write() as connection:
            tenant = connection.scalar(sa.select(TABLE.c.tenant).where(TABLE.c.id == id))
            if tenant is None:
                raise rows.absent(id)
            rows.lock(connection, tenant)
            waiting = (TABLE.c.id == id, TABLE.c.state == "queued")
            started = sa.update(TABLE).where(*waiting).values(state="running", started=datetime.now(UTC))
            if connection.execute(started).rowcount:
                rows.check(connection, tenant, quota, ("running",), 1)
            return _one(connection, TABLE.c.id == id, id)

    def pin(self, id: str, digests: Mapping[str, str]) -> None:
        """Keep more blobs of its tenant (name → digest) until the job is finished, as parts of its result.

        Raises StorageUnavailableError where one was collected meanwhile.
        """
        try:
            with self._database.write() as connection:
                going = sa.select(TABLE.c.tenant).where(TABLE.c.id == id, TABLE.c.state.in_(UNFINISHED))
                tenant = connection.scalar(going.with_for_update())
                if tenant is None:
                    return
                for name, digest in digests.items():
                    values = {"job": id, "role": "part", "name": name, "tenant": tenant, "digest": digest}
                    link = self._database.insert(LINKS).values(values)
                    primary = ("job", "role", "name")
                    connection.execute(link.on_conflict_do_update(index_elements=primary, set_={"digest": digest}))
        except sa.exc.IntegrityError as failure:
            raise StorageUnavailableError(f"a part of {id} is no longer there", "store it again", part="") from failure

    def finish(
        self,
        id: str,
        state: Literal["succeeded", "failed", "cancelled"],
        *,
        result: JSON | None = None,
        error: JSON | None = None,
        artifacts: Mapping[str, str] | None = None,
        expires: datetime | None = None,
    ) -> JobRecord:
        """Set a job to its last state, with artifacts (name → digest of its tenant's blob). A finished job stays.

        Inputs and parts are no longer pinned, nor listed. Raises NotFoundError, and StorageUnavailableError where an
        artifact was collected meanwhile: store it again.
        """
        rows.json("the result", {"result": result, "error": error})
        try:
            with self._database.write() as connection:
                values = {"state": state, "result": result, "error": error, "expires": expires, "reserved": 0}
                going = (TABLE.c.id == id, TABLE.c.state.in_(UNFINISHED))
                finished = sa.update(TABLE).where(*going).values(**values, finished=datetime.now(UTC))
                tenant = connection.scalar(finished.returning(TABLE.c.tenant))
                if tenant is not None:
                    connection.execute(sa.delete(LINKS).where(LINKS.c.job == id))
                    _link(connection, id, tenant, "artifact", artifacts or {})
                return _one(connection, TABLE.c.id == id, id)
        except sa.exc.IntegrityError as failure:
            raise StorageUnavailableError(
                f"an artifact of {id} is no longer there", "store it again", part=""
            ) from failure

    def unfinished(self) -> tuple[JobRecord, ...]:
        """Queued and running jobs of all tenants, oldest first: those that have to have a workflow."""
        query = sa.select(*SHOWN).where(TABLE.c.state.in_(UNFINISHED)).order_by(TABLE.c.id)
        with self._database.read() as connection:
            return _jobs(connection, connection.execute(query).mappings().all())

    def tenant_of(self, id: str) -> str | None:
        """The tenant of an unfinished job; None once it is finished or gone, when nobody waits for it any more."""
        query = sa.select(TABLE.c.tenant).where(TABLE.c.id == id, TABLE.c.state.in_(UNFINISHED))
        with self._database.read() as connection:
            tenant: str | None = connection.scalar(query)
        return tenant

    def among(self, ids: Collection[str], states: Collection[JobState] = ()) -> frozenset[str]:
        """Which of these jobs exist and are in one of these states; no states means all."""
        query = sa.select(TABLE.c.id).where(TABLE.c.id.in_(ids))
        with self._database.read() as connection:
            return frozenset(connection.scalars(query.where(TABLE.c.state.in_(states)) if states else query))

    def counts(self) -> Mapping[tuple[JobKind, JobState], int]:
        """How many jobs of each kind and state there are: for metrics."""
        query = sa.select(TABLE.c.kind, TABLE.c.state, sa.func.count()).group_by(TABLE.c.kind, TABLE.c.state)
        with self._database.read() as connection:
            return {(kind, state): count for kind, state, count in connection.execute(query)}

    def delete(self, tenant: str, id: str) -> None:
        """Remove a finished job. Raises NotFoundError, and StateError where it is not finished."""
        with self._database.write() as connection:
            finished = sa.delete(TABLE).where(_ours(tenant, id), TABLE.c.state.in_(FINISHED))
            if connection.execute(finished).rowcount == 0:
                job = _one(connection, _ours(tenant, id), id)
                raise StateError(f"job {id} is {job.state}", "cancel it first")

    def expire(self, now: datetime) -> int:
        """Remove finished jobs that have expired. Returns how many."""
        with self._database.write() as connection:
            old = sa.delete(TABLE).where(TABLE.c.expires <= now, TABLE.c.state.in_(FINISHED))
            return connection.execute(old).rowcount


def digest_of(kind: JobKind, request: JSON) -> str:
    """A digest of what a request asks for: requests that ask for the same have the same digest."""
    return hashlib.sha256(json.dumps([kind, request], sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _earlier(connection: Connection, tenant: str, idempotency_key: str | None, request_digest: str) -> JobRecord | None:
    if idempotency_key is None:
        return None
    rows.text("the idempotency key", idempotency_key)
    query = sa.select(TABLE.c.id, TABLE.c.request_digest)
    found = connection.execute(
        query.where(TABLE.c.tenant == tenant, TABLE.c.idempotency_key == idempotency_key)
    ).one_or_none()
    if found is None:
        return None
    if found.request_digest != request_digest:
        raise IdempotencyError(
            f"the idempotency key {idempotency_key!r} was used for {found.id}, with another request",
            "use a new key for a new request",
        )
    return _one(connection, TABLE.c.id == found.id, found.id)


def _room(connection: Connection, tenant: str, quota: Quota | None, wanted: int) -> int:
    """The wanted bytes, or as many as the tenant has left. Raises QuotaError where that is next to nothing."""
    limit = quota.bytes if quota else 0
    if not limit:
        return wanted
    used, least = rows.usage(connection, tenant).bytes, min(wanted, LEAST)
    if used + least > limit:
        raise rows.over("bytes", limit, used, least)
    return min(wanted, limit - used)


def _check_owned(connection: Connection, tenant: str, inputs: Mapping[str, str]) -> None:
    wanted = set(inputs.values())
    objects, artifacts = tables.objects, LINKS.join(TABLE, LINKS.c.job == TABLE.c.id)
    owned = sa.union(
        sa.select(objects.c.digest).where(objects.c.tenant == tenant, objects.c.digest.in_(wanted)),
        sa.select(LINKS.c.digest)
        .select_from(artifacts)
        .where(TABLE.c.tenant == tenant, LINKS.c.role == "artifact", LINKS.c.digest.in_(wanted)),
    )
    missing = wanted - set(connection.scalars(owned))
    for name, digest in inputs.items():
        if digest in missing:
            raise NotFoundError(f"the {name} of the job is no longer there", "upload it again")


def _link(connection: Connection, id: str, tenant: str, role: Role, digests: Mapping[str, str]) -> None:
    named = {rows.text(f"the name of an {role}", name): digest for name, digest in digests.items()}
    links = [
        {"job": id, "role": role, "name": name, "tenant": tenant, "digest": digest} for name, digest in named.items()
    ]
    if links:
        connection.execute(sa.insert(LINKS), links)


def _ours(tenant: str, id: str) -> sa.ColumnElement[bool]:
    return sa.and_(TABLE.c.id == rows.known(id, *PREFIXES.values()), TABLE.c.tenant == tenant)


def _one(connection: Connection, where: sa.ColumnElement[bool], id: str) -> JobRecord:
    found = _jobs(connection, connection.execute(sa.select(*SHOWN).where(where)).mappings().all())
    if not found:
        raise rows.absent(id)
    return found[0]


def _jobs(connection: Connection, found: Iterable[RowMapping | dict[str, Any]]) -> tuple[JobRecord, ...]:
    jobs = [dict(row) for row in found]
    digests: dict[tuple[str, Role], dict[str, str]] = {}
    query = sa.select(LINKS).where(LINKS.c.job.in_([job["id"] for job in jobs])).order_by(LINKS.c.name)
    for link in connection.execute(query) if jobs else ():
        digests.setdefault((link.job, cast(Role, link.role)), {})[link.name] = link.digest
    return tuple(
        JobRecord(
            **job, inputs=digests.get((job["id"], "input"), {}), artifacts=digests.get((job["id"], "artifact"), {})
        )
        for job in jobs
    )
