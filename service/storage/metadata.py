"""The metadata of the service: tenants and keys, objects, uploads, jobs and the ledger of blobs, in one database.

    metadata = open_metadata(settings)          # migrated; raises StorageUnavailableError where there is no database
    metadata.objects.create("tenant", "model", …)

Every read takes the tenant, and NotFoundError is raised alike for what is absent and for what belongs to another one.
Methods block (call them from a thread), are atomic and may be repeated. They raise StorageError when the database does
not answer; then nothing was changed, or the change is complete.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Literal

from service.settings import Quota, Settings
from service.storage.records import (
    JSON,
    Job,
    JobKind,
    JobState,
    Key,
    ObjectKind,
    Page,
    StoredObject,
    Tenant,
    Upload,
    Usage,
)


class Keys:
    """Tenants and their keys; see service/auth.py for the texts of keys."""

    def create(self, tenant: str, sha256: str, label: str = "") -> Key:
        """A key; its tenant is created with the first one."""
        raise NotImplementedError

    def find(self, sha256: str) -> Key | None:
        """The key with this digest, unless it is revoked."""
        raise NotImplementedError

    def list(self, tenant: str | None = None) -> tuple[Key, ...]:
        """All keys, of one tenant or of all, oldest first, revoked ones too."""
        raise NotImplementedError

    def revoke(self, id: str) -> Key:
        """Revoke a key; once revoked it stays so. Raises NotFoundError."""
        raise NotImplementedError

    def tenants(self) -> tuple[Tenant, ...]:
        """All tenants."""
        raise NotImplementedError

    def usage(self, tenant: str) -> Usage:
        """What the tenant has now, as quotas count it."""
        raise NotImplementedError


class Objects:
    """Models and datasets."""

    def create(
        self,
        tenant: str,
        kind: ObjectKind,
        *,
        name: str,
        digest: str,
        size: int,
        media: str,
        description: JSON,
        origin: str = "",
        expires: datetime | None = None,
        quota: Quota | None = None,
    ) -> tuple[StoredObject, bool]:
        """An object for a committed blob, and True; or the tenant's own of the same kind and digest, and False.

        The one that is there keeps its name and lives until the later of both times. Raises QuotaError (`bytes`), and
        StorageUnavailableError where the blob was collected meanwhile (send it again).
        """
        raise NotImplementedError

    def get(self, tenant: str, id: str) -> StoredObject:
        """One. Raises NotFoundError."""
        raise NotImplementedError

    def list(
        self, tenant: str, *, kind: ObjectKind | None = None, after: str | None = None, limit: int = 50
    ) -> Page[StoredObject]:
        """A page, newest first; `after` is the cursor that the page before gave."""
        raise NotImplementedError

    def delete(self, tenant: str, id: str) -> None:
        """Remove one; unfinished jobs that read it go on. Raises NotFoundError."""
        raise NotImplementedError


class Uploads:
    """Resumable uploads: which pieces of which are durable; see service/storage/uploads.py for the bytes."""

    def create(
        self,
        tenant: str,
        kind: ObjectKind,
        *,
        name: str,
        length: int,
        metadata: JSON,
        expires: datetime | None = None,
        quota: Quota | None = None,
    ) -> Upload:
        """An empty upload of `length` bytes, which count towards the quota from now on. Raises QuotaError."""
        raise NotImplementedError

    def get(self, tenant: str, id: str) -> Upload:
        """One. Raises NotFoundError."""
        raise NotImplementedError

    def append(self, tenant: str, id: str, offset: int, part: str, size: int) -> Upload:
        """Record a stored piece. Raises OffsetError unless the upload stands at `offset` and has room for it."""
        raise NotImplementedError

    def parts(self, tenant: str, id: str) -> tuple[str, ...]:
        """Names of its pieces, in order."""
        raise NotImplementedError

    def complete(self, tenant: str, id: str, digest: str) -> Upload:
        """All bytes are in this committed blob, which lives at least as long as the upload."""
        raise NotImplementedError

    def delete(self, tenant: str, id: str) -> None:
        """Remove one. Raises NotFoundError."""
        raise NotImplementedError


class Jobs:
    """What people see of jobs. Steps of a workflow write it, and may do so twice."""

    def create(
        self,
        tenant: str,
        kind: JobKind,
        *,
        request: JSON,
        inputs: Mapping[str, str],
        idempotency_key: str | None = None,
        quota: Quota | None = None,
    ) -> tuple[Job, bool]:
        """A queued job and True; or the job that the same idempotency key made before, and False.

        `inputs` (name → digest) must be digests of objects or artifacts of the tenant: NotFoundError otherwise.
        Raises IdempotencyError where the key came with another kind or request, QuotaError (`queued`). The quota is
        checked in the transaction that inserts: of two racing requests for the last place one fails.
        """
        raise NotImplementedError

    def get(self, tenant: str, id: str) -> Job:
        """One. Raises NotFoundError."""
        raise NotImplementedError

    def list(
        self,
        tenant: str,
        *,
        kind: JobKind | None = None,
        states: Collection[JobState] = (),
        after: str | None = None,
        limit: int = 50,
    ) -> Page[Job]:
        """A page, newest first; no states means all."""
        raise NotImplementedError

    def start(self, id: str, quota: Quota | None = None) -> Job:
        """queued → running; any other state stays as it is and is in the answer. Raises QuotaError (`running`)."""
        raise NotImplementedError

    def finish(
        self,
        id: str,
        state: Literal["succeeded", "failed", "cancelled"],
        *,
        result: JSON | None = None,
        error: JSON | None = None,
        artifacts: Mapping[str, str] | None = None,
        expires: datetime | None = None,
    ) -> Job:
        """To its last state, with artifacts (name → digest of a committed blob); a finished job stays as it is.

        The inputs are no longer pinned.
        """
        raise NotImplementedError

    def unfinished(self) -> tuple[Job, ...]:
        """Queued and running jobs of all tenants, oldest first: what has to have a workflow."""
        raise NotImplementedError

    def counts(self) -> Mapping[tuple[JobKind, JobState], int]:
        """How many jobs of each kind and state there are: for metrics."""
        raise NotImplementedError

    def delete(self, tenant: str, id: str) -> None:
        """Remove a finished job. Raises NotFoundError, and StateError where it is not finished."""
        raise NotImplementedError


class Metadata:
    """The database. Implements `service.storage.blobs.Ledger`."""

    keys: Keys
    objects: Objects
    uploads: Uploads
    jobs: Jobs

    def hold(self, digest: str, size: int) -> None:
        """See Ledger."""
        raise NotImplementedError

    def ping(self) -> None:
        """Raises StorageError where the database does not answer: /readyz asks."""
        raise NotImplementedError

    def close(self) -> None:
        """Close its connections."""
        raise NotImplementedError


def open_metadata(settings: Settings) -> Metadata:
    """Connect and migrate. Errors name the variable to look at."""
    raise NotImplementedError
