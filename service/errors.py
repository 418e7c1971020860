"""Every error that the service raises on purpose: what happened and what to do about it.

graphpass.errors.GraphpassError
└── ServiceError
    ├── SettingsError           a variable of the environment that makes no sense; names it
    ├── StorageError            the storage could not do it now; nothing was half done, so it can be tried again
    │   ├── StorageFullError        no space left
    │   ├── StorageUnavailableError the folder, the store or the database does not answer, or refuses
    │   └── StorageDamagedError     stored bytes are not those that were stored
    ├── ShortageError           the machine is short of something for a while: files, processes, memory, places
    ├── NotFoundError           there is no such thing, or it belongs to another tenant
    ├── TextError               a text that no database takes: NUL, half a surrogate pair, too long
    ├── ConflictError           what is asked for contradicts what is there
    │   ├── IdempotencyError        the key was used with another request
    │   ├── OffsetError             an upload goes on at another offset; says which
    │   └── StateError              a job is in a state that does not allow it
    └── LimitError              more than the tenant may have
        ├── QuotaError              names the quota, the limit and what is used
        └── RateError               says after how many seconds to come back
"""

from graphpass.errors import GraphpassError


class ServiceError(GraphpassError):
    """What happened and the remedy; printed as ``what; remedy``."""


class SettingsError(ServiceError):
    """A setting that makes no sense; the message names the variable."""


class StorageError(ServiceError):
    """The storage could not do it now. Nothing was half done: the same request may be sent again.

    what, remedy: for whoever runs the service, with folders and addresses. part: what is concerned, in words that
    anybody may see; "" where what and remedy are for anybody themselves.
    """

    state, advice = "does not answer now", "try again later"

    def __init__(self, what: str, remedy: str = "", *, part: str = "the storage"):
        super().__init__(what, remedy)
        self.part = part

    @property
    def public(self) -> tuple[str, str]:
        """What happened and what to do about it, for users: nothing of the machine is named."""
        return (f"{self.part} {self.state}", self.advice) if self.part else (self.what, self.remedy)


class StorageFullError(StorageError):
    """No space left where blobs or metadata are kept."""

    state, advice = "has no space left", "try again later; the operator has to make room"


class StorageUnavailableError(StorageError):
    """The folder, the store or the database does not answer, or refuses."""


class StorageDamagedError(StorageError):
    """Stored bytes are not those that were stored: their digest or their length differs."""

    state, advice = "has lost bytes", "tell the operator, who may have a backup"


class ShortageError(ServiceError):
    """The machine is short of something for a while: open files, processes, memory, places for children."""


class NotFoundError(ServiceError):
    """There is no such thing, or it belongs to another tenant: nobody can tell which."""


class TextError(ServiceError):
    """A text that no database takes: it holds NUL or half a surrogate pair, or is too long."""


class ConflictError(ServiceError):
    """What is asked for contradicts what is there."""


class IdempotencyError(ConflictError):
    """An idempotency key was used before, with another request."""


class OffsetError(ConflictError):
    """An upload goes on at another offset: `offset` bytes are there."""

    def __init__(self, what: str, remedy: str, offset: int):
        super().__init__(what, remedy)
        self.offset = offset


class StateError(ConflictError):
    """A job is in a state that does not allow it."""


class LimitError(ServiceError):
    """More than the tenant may have."""


class QuotaError(LimitError):
    """A quota (`bytes`, `queued`, `running`, `entries`, `pieces`) would be exceeded: `limit` may be, `used` are."""

    def __init__(self, what: str, remedy: str, quota: str, limit: int, used: int):
        super().__init__(what, remedy)
        self.quota = quota
        self.limit = limit
        self.used = used


class RateError(LimitError):
    """Too many requests with one key; come back after `retry_after` seconds."""

    def __init__(self, what: str, remedy: str, retry_after: float):
        super().__init__(what, remedy)
        self.retry_after = retry_after
