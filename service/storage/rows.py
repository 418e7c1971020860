"""What tables of several kinds share: texts that may be stored, quotas, pages."""

import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from graphpass.wording import counted
from service.errors import NotFoundError, QuotaError, TextError
from service.settings import Quota
from service.storage import tables
from service.storage.database import dumps
from service.storage.ids import PATTERN
from service.storage.records import JSON, UNFINISHED, Page, Usage

LENGTH = 255  # characters of a name
PAGE = 200  # most rows of a page
PAGE_BYTES = 2**20  # of the JSON in them; one row there is always
Row = TypeVar("Row")
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTAS = {  # what there is of it, and what to do
    "bytes": ("bytes are kept", "delete models, datasets or jobs, or wait until they expire"),
    "queued": ("jobs are waiting", "wait until some of your jobs have started, or cancel some"),
    "running": ("jobs are running", "wait until one of your jobs has finished"),
    "entries": (
        "models, datasets, uploads and jobs are kept",
        "delete models, datasets, uploads or finished jobs, or wait until they expire",
    ),
}


def text(what: str, value: str, length: int = LENGTH) -> str:
    """Return the text. Raises TextError where no database would store it."""
    if len(value) > length:
        raise TextError(f"{what} has {counted(len(value), 'character')}", f"use at most {length}")
    if "\0" in value or _SURROGATE.search(value):
        raise TextError(f"{what} holds a character that cannot be stored", "leave out NUL and lone surrogates")
    return value


def json(what: str, value: JSON) -> JSON:
    """Return the value. Raises TextError where it is no JSON that a database stores: NaN, infinity, circles."""
    try:
        dumps(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise TextError(f"{what} cannot be written as JSON: {error}", "use finite numbers and plain values") from error
    return value


def lock(connection: Connection, tenant: str) -> None:
    """Lock what the tenant has until this transaction ends, so that nobody else counts it. Raises NotFoundError."""
    query = sa.select(tables.tenants.c.name).where(tables.tenants.c.name == tenant)
    if connection.scalar(query.with_for_update(key_share=True)) is None:
        raise NotFoundError(f"there is no tenant {tenant!r}", "create a key for it: graphpass keys create TENANT")


def _usage() -> sa.Select[Any]:
    def of(table: sa.Table, figure: sa.ColumnElement[Any], *where: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
        ours = table.c.tenant == sa.bindparam("tenant")
        return sa.select(figure).select_from(table).where(ours, *where).scalar_subquery()

    charges, reservations, objects = tables.charges, tables.reservations, tables.objects
    uploads, jobs = tables.uploads, tables.jobs
    states = (of(jobs, sa.func.count(), jobs.c.state == state) for state in ("queued", "running"))
    sums = (
        of(charges, sa.func.sum(charges.c.size)),
        of(reservations, sa.func.sum(reservations.c.bytes)),
        of(uploads, sa.func.sum(uploads.c.length), uploads.c.sha256.is_(None)),
        of(jobs, sa.func.sum(jobs.c.reserved), jobs.c.id != sa.bindparam("besides"), jobs.c.state.in_(UNFINISHED)),
    )
    counts = (of(objects, sa.func.count()), of(uploads, sa.func.count()), of(jobs, sa.func.count()))
    return sa.select(*states, *sums, *counts)


USAGE = _usage()  # made once: to make it takes longer than to run it


def usage(connection: Connection, tenant: str, besides: str = "") -> Usage:
    """What the tenant has, as quotas count it.

    bytes = Σ charges + Σ reservations + Σ lengths of uploads that are not complete, until their pieces are gone
            + Σ bytes reserved for results of unfinished jobs, but for the job `besides`

    A blob counts once, however often the tenant refers to it, from before its bytes are there until they are gone.
    """
    row = connection.execute(USAGE, {"tenant": tenant, "besides": besides}).one()
    return Usage(sum(int(each or 0) for each in row[2:6]), int(row[0]), int(row[1]), sum(row[6:]))


def check(
    connection: Connection, tenant: str, quota: Quota | None, names: Collection[str], added: int, besides: str = ""
) -> None:
    """Raise QuotaError where the tenant has more than it may, `added` included; the caller rolls back."""
    limits = {name: getattr(quota, name) for name in names} if quota else {}
    if not any(limits.values()):
        return
    found = usage(connection, tenant, besides)
    for name, limit in limits.items():
        used = getattr(found, name)
        if limit and used > limit:
            raise over(name, limit, used - added, added)


def over(name: str, limit: int, used: int, added: int) -> QuotaError:
    """The error of `added` more that would be over a quota."""
    what, remedy = _QUOTAS[name]
    message = f"{used:,} {what}, {added:,} more would be over the quota of {limit:,}"
    return QuotaError(message, remedy, name, limit, used)


def known(id: str, *prefixes: str) -> str:
    """Return the identifier. Raises NotFoundError where it cannot be one of these kinds."""
    if not PATTERN.match(id) or not id.startswith(tuple(f"{prefix}_" for prefix in prefixes)):
        raise absent(id)
    return id


def absent(id: str) -> NotFoundError:
    """The error of an identifier that is unknown: one that never was, is gone, or belongs to another tenant."""
    return NotFoundError(f"there is no {id[:40]!r}", "list what there is; things that have expired are gone")


def page(
    connection: Connection,
    query: sa.Select[Any],
    id: sa.Column[str],
    after: str | None,
    limit: int,
    make: Callable[[RowMapping], Row],
) -> Page[Row]:
    """A page of rows, newest first: as many as `limit` and PAGE_BYTES allow.

    The cursor is the last identifier of the page, so rows that are added meanwhile shift nothing.
    """
    limit = max(1, min(limit, PAGE))
    if after is not None:
        if not PATTERN.match(after):
            raise TextError(f"{after[:40]!r} is not the cursor of a page", "take `after` from the page before")
        query = query.where(id < after)
    kept: list[RowMapping] = []
    room = PAGE_BYTES
    for row in connection.execute(query.order_by(id.desc()).limit(limit + 1)).mappings():
        room -= sum(len(dumps(value)) for value in row.values() if isinstance(value, dict | list))
        if kept and (len(kept) == limit or room < 0):
            return Page(tuple(map(make, kept)), kept[-1][id.name])
        kept.append(row)
    return Page(tuple(map(make, kept)), None)
