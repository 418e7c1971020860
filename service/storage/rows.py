"""What the tables of tenants' things have in common: texts that may be stored, quotas, pages."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from service.errors import NotFoundError, QuotaError, TextError
from service.settings import Quota
from service.storage import tables
from service.storage.database import dumps
from service.storage.ids import PATTERN
from service.storage.records import JSON, Page, Usage

LENGTH = 255  # characters of a name
PAGE = 200  # most rows of a page
Row = TypeVar("Row")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REMEDIES = {
    "bytes": "delete models, datasets or jobs, or wait until they expire",
    "queued": "wait until some of your jobs have started, or cancel some",
    "running": "wait until one of your jobs has finished",
}


def text(what: str, value: str, length: int = LENGTH) -> str:
    """The value. Raises TextError where no database would take it."""
    if len(value) > length:
        raise TextError(f"{what} has {len(value)} characters", f"use at most {length}")
    if "\0" in value or _SURROGATE.search(value):
        raise TextError(f"{what} holds a character that cannot be stored", "leave out NUL and lone surrogates")
    return value


def json(what: str, value: JSON) -> JSON:
    """The value. Raises TextError where it is no JSON that a database takes: NaN, infinity, circles."""
    try:
        dumps(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise TextError(f"{what} cannot be written as JSON: {error}", "use finite numbers and plain values") from error
    return value


def lock(connection: Connection, tenant: str) -> None:
    """Keep others from counting what the tenant has until this transaction ends. Raises NotFoundError."""
    query = sa.select(tables.tenants.c.name).where(tables.tenants.c.name == tenant)
    if connection.scalar(query.with_for_update(key_share=True)) is None:
        raise NotFoundError(f"there is no tenant {tenant!r}", "create a key for it: graphpass keys create TENANT")


def usage(connection: Connection, tenant: str) -> Usage:
    """What the tenant has. An upload counts with all its bytes from its beginning, until it has become an object."""
    objects, uploads, jobs, links, blobs = (
        tables.objects,
        tables.uploads,
        tables.jobs,
        tables.job_blobs,
        tables.blobs,
    )
    became = sa.exists().where(objects.c.tenant == tenant, objects.c.digest == uploads.c.digest)
    sums = (
        sa.select(sa.func.sum(objects.c.size)).where(objects.c.tenant == tenant),
        sa.select(sa.func.sum(uploads.c.length)).where(uploads.c.tenant == tenant, ~became),
        sa.select(sa.func.sum(blobs.c.size))
        .select_from(jobs.join(links, links.c.job == jobs.c.id).join(blobs, blobs.c.digest == links.c.digest))
        .where(jobs.c.tenant == tenant, links.c.role != "input"),
    )
    states = {state: _count(tenant, state).scalar_subquery() for state in ("queued", "running")}
    row = connection.execute(sa.select(*(each.scalar_subquery() for each in sums), *states.values())).one()
    return Usage(sum(int(each or 0) for each in row[:3]), int(row[3]), int(row[4]))


def _count(tenant: str, state: str) -> sa.Select[Any]:
    return (
        sa.select(sa.func.count())
        .select_from(tables.jobs)
        .where(tables.jobs.c.tenant == tenant, tables.jobs.c.state == state)
    )


def check(connection: Connection, tenant: str, quota: Quota | None, name: str, added: int) -> None:
    """Raises QuotaError where the tenant has more than it may, with `added` already in; the caller rolls back."""
    limit = getattr(quota, name) if quota else 0
    if not limit:
        return
    used = getattr(usage(connection, tenant), name)
    if used > limit:
        what = {"bytes": "bytes are kept", "queued": "jobs are waiting", "running": "jobs are running"}[name]
        raise QuotaError(
            f"{used - added} {what}, {added} more would be over the quota of {limit}",
            _REMEDIES[name],
            name,
            limit,
            used - added,
        )


def known(id: str, *prefixes: str) -> str:
    """The identifier. Raises NotFoundError where it cannot be one of these kinds."""
    if not PATTERN.match(id) or not id.startswith(tuple(f"{prefix}_" for prefix in prefixes)):
        raise absent(id)
    return id


def absent(id: str) -> NotFoundError:
    """The same for what never was, what is gone, and what belongs to somebody else."""
    return NotFoundError(f"there is no {id[:40]!r}", "list what there is; things that have expired are gone")


def page(
    connection: Connection,
    query: sa.Select[Any],
    id: sa.Column[str],
    after: str | None,
    limit: int,
    make: Callable[[RowMapping], Row],
) -> Page[Row]:
    """Newest first. The cursor is the last identifier seen: rows that come meanwhile shift nothing."""
    limit = max(1, min(limit, PAGE))
    if after is not None:
        if not PATTERN.match(after):
            raise TextError(f"{after[:40]!r} is not the cursor of a page", "take `after` from the page before")
        query = query.where(id < after)
    rows = connection.execute(query.order_by(id.desc()).limit(limit + 1)).mappings().all()
    return Page(tuple(make(row) for row in rows[:limit]), rows[limit - 1][id.name] if len(rows) > limit else None)
