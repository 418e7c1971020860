"""Keys as their holders know them, and how many requests each may send.

A key is `gp_` and 256 random bits in base64url. Stored is its SHA-256: with so many bits nothing slower is needed, and
what a lookup by digest tells by its time is of no use to whoever cannot choose digests.
"""

import hashlib
import math
import secrets
import threading
import time
from collections.abc import Callable

from service.errors import RateError
from service.storage.metadata import Metadata
from service.storage.records import Key

PREFIX = "gp_"
BYTES = 32
LONGEST = 128  # characters of a text that is worth hashing
BUCKETS = 10_000  # after so many, full buckets are forgotten


def create_key(metadata: Metadata, tenant: str, label: str = "", *, alone: bool = False) -> tuple[Key, str]:
    """A new key and its text, which cannot be had again. alone: it replaces the tenant's keys with this label.

    Raises TextError for a name that no tenant can have.
    """
    text = PREFIX + secrets.token_urlsafe(BYTES)
    return metadata.keys.create(tenant, _sha256(text), label, alone=alone), text


def authenticate(metadata: Metadata, text: str) -> Key | None:
    """The key with this text, unless it is revoked: `key.tenant` is whose it is, `key.id` what to count requests by."""
    if not text.startswith(PREFIX) or len(text) > LONGEST:
        return None
    return metadata.keys.find(_sha256(text))


def authenticate_at_once(metadata: Metadata, text: str) -> Key | None:
    """As `authenticate`, without blocking. Raises NotAtOnceError where that is not possible: then ask in a thread."""
    if not text.startswith(PREFIX) or len(text) > LONGEST:
        return None
    return metadata.keys.find_at_once(_sha256(text))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class RateLimit:
    """Token buckets, one a key, in this process: `per_minute` requests at once and as many a minute; 0 is no limit."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self._capacity = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, at which time

    def take(self, key: str) -> None:
        """Count one request. Raises RateError, which says when the next one may come."""
        if not self._capacity:
            return
        with self._lock:
            now = self._clock()
            tokens = self._tokens(key, now)
            if tokens < 1:
                wait = (1 - tokens) * 60 / self._capacity
                raise RateError(
                    f"more than {self._capacity} requests a minute", f"wait {math.ceil(wait)} seconds", retry_after=wait
                )
            if len(self._buckets) >= BUCKETS:
                self._buckets = {each: self._buckets[each] for each in self._buckets if not self._full(each, now)}
            self._buckets[key] = (tokens - 1, now)

    def _tokens(self, key: str, now: float) -> float:
        tokens, then = self._buckets.get(key, (self._capacity, now))
        return min(self._capacity, tokens + (now - then) * self._capacity / 60)

    def _full(self, key: str, now: float) -> bool:
        return self._tokens(key, now) >= self._capacity
