"""Who sends a request, as far as that is known before anything is done for it."""

import hashlib
from dataclasses import dataclass

from starlette.types import Scope

from service.auth import RateLimit, authenticate_at_once
from service.connections.bounds import caller
from service.storage.key_lookup import NotAtOnceError
from service.storage.metadata import Metadata
from service.storage.records import Key

COUNTED = "/v1/"  # where requests with a key are counted


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    name: requests of one name take turns. It stands for a tenant, or else for one Authorization header, or an address.
    key: the valid key that was sent, if any. is_known: whether that is found out; if not, a thread has to ask.
    """

    name: str
    key: Key | None
    sends_key: bool
    is_known: bool

    def is_counted(self, scope: Scope) -> bool:
        """Whether the request counts for a key, or as a refusal; all others count for their address, key or not."""
        return self.sends_key and str(scope["path"]).startswith(COUNTED)


class Callers:
    """Finds out who sends a request, and refuses who sends too many before anything else is done for it."""

    def __init__(self, metadata: Metadata, rate: RateLimit):
        self._metadata, self._rate = metadata, rate

    def of(self, scope: Scope) -> Caller:
        """Who sends this request. It is not counted yet."""
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if header is None:
            return Caller(caller(scope["client"][0] if scope.get("client") else ""), None, False, True)
        name = hashlib.sha256(header).hexdigest()
        scheme, _, text = header.decode("latin1").partition(" ")
        if scheme.lower() != "bearer" or not text:
            return Caller(name, None, True, True)
        try:
            key = authenticate_at_once(self._metadata, text.strip())
        except NotAtOnceError:
            return Caller(name, None, True, False)
        return Caller(f"tenant {key.tenant}" if key else name, key, True, True)

    def count(self, scope: Scope, asking: Caller) -> None:
        """Count the request of a valid key. Raises RateError."""
        if asking.key is not None and scope["path"].startswith(COUNTED):
            self._rate.take(asking.key.id)
