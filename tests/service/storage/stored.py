"""Rows that tests of the metadata make, and calls that race."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from service.errors import (
    ServiceError,
)
from service.storage import tables
from service.storage.metadata import Metadata
from service.storage.records import JobRecord, StoredObject

Blob = Callable[[str], str]
NOW = datetime.now(UTC)
TTL = timedelta(hours=1)


def model(metadata: Metadata, digest: str, tenant: str = "acme", **more) -> StoredObject:
    """A model of the tenant for a held blob."""
    fields = {"name": "net.onnx", "media": "application/onnx", "description": {"nodes": 3}, "origin": "", **more}
    return metadata.objects.create(tenant, "model", digest=digest, **fields)[0]


def job(metadata: Metadata, number: int = 0, tenant: str = "acme", **more) -> JobRecord:
    """A conversion without inputs."""
    return metadata.jobs.create(tenant, "conversion", **{"request": {"n": number}, "inputs": {}, **more})[0]


def race(count: int, call: Callable[[int], object]) -> list[object]:
    """Call a function in `count` threads at the same moment; the result or ServiceError of each."""
    barrier = threading.Barrier(count)

    def one(number: int) -> object:
        barrier.wait()
        try:
            return call(number)
        except ServiceError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def digest(text: str) -> str:
    """The digest that `blob` gives a text."""
    return (text.encode().hex() * 64)[:64]


def release(metadata: Metadata) -> None:
    """Release the reservation that `blob` made."""
    with metadata.database.write() as connection:
        connection.execute(sa.delete(tables.reservations))
