"""Keys, as their holders know them, and how often one may ask.

A key is `gp_` and 256 random bits in base64url. Stored is its SHA-256: with so many bits nothing slower is needed, and
a lookup by digest takes the same time for near misses as for far ones.
"""

import time
from collections.abc import Callable

from service.storage.metadata import Metadata
from service.storage.records import Key


def create_key(metadata: Metadata, tenant: str, label: str = "") -> tuple[Key, str]:
    """A new key and its text, which cannot be had again."""
    raise NotImplementedError


def renew_key(metadata: Metadata, tenant: str, label: str) -> tuple[Key, str]:
    """As create_key; earlier keys of the tenant with this label are revoked. `graphpass serve` prints such a one."""
    raise NotImplementedError


def authenticate(metadata: Metadata, text: str) -> Key | None:
    """The key with this text, unless it is revoked: `key.tenant` is whose it is, `key.id` what to count requests by."""
    raise NotImplementedError


class RateLimit:
    """Token buckets, one a key, in this process: `per_minute` requests at once and as many a minute; 0 is no limit."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        raise NotImplementedError

    def take(self, key: str) -> None:
        """Count one request. Raises RateError, which says when the next one may come."""
        raise NotImplementedError
