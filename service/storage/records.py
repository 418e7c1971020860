"""Frozen rows of the metadata. Times are aware and in UTC; digests are SHA-256 in lower-case hex."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

Row = TypeVar("Row")
JSON = Mapping[str, Any]
ObjectKind = Literal["model", "dataset"]
JobKind = Literal["conversion", "evaluation", "ranking", "search", "sweep"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
UNFINISHED: tuple[JobState, ...] = ("queued", "running")
FINISHED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Tenant:
    """Whoever owns objects, jobs and keys."""

    name: str
    created: datetime


@dataclass(frozen=True)
class Key:
    """A bearer key of a tenant. Its text is known to nobody but its holder: `sha256` is what is stored."""

    id: str
    tenant: str
    label: str
    sha256: str
    created: datetime
    revoked: datetime | None


@dataclass(frozen=True)
class StoredObject:
    """An immutable model or dataset. `origin` says where it came from: an upload, or the job that made it.

    `whole_description` is the blob of the JSON that `description` is a summary of; None where nothing is left out.
    """

    id: str
    tenant: str
    kind: ObjectKind
    name: str
    digest: str
    size: int
    media: str
    description: JSON
    whole_description: str | None
    origin: str
    created: datetime
    expires: datetime | None


@dataclass(frozen=True)
class Upload:
    """A resumable upload: `offset` of `length` bytes are durable. `sha256` is set when it is complete."""

    id: str
    tenant: str
    kind: ObjectKind
    name: str
    metadata: JSON
    length: int
    offset: int
    sha256: str | None
    created: datetime
    expires: datetime | None


@dataclass(frozen=True)
class JobRecord:
    """A conversion, an evaluation or a sweep. The engine's workflow has the same id; this row is what people see.

    `inputs` pins the blobs that the job reads: they stay while it is unfinished, whatever happens to the objects.
    `artifacts` are the files it made, by name.
    """

    id: str
    tenant: str
    kind: JobKind
    request: JSON
    state: JobState
    error: JSON | None
    result: JSON | None
    inputs: Mapping[str, str]
    artifacts: Mapping[str, str]
    idempotency_key: str | None
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: datetime | None


@dataclass(frozen=True)
class Usage:
    """What one tenant has now."""

    bytes: int
    queued: int
    running: int
    entries: int


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, newest first. `after` is the cursor of the next page, None at the end."""

    rows: tuple[Row, ...]
    after: str | None
