"""Identifiers that sort by time: `<prefix>_<26 base32 characters>`, 50 bits of milliseconds and 80 random bits."""

import re
import secrets
import threading
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
PREFIXES = ("mod", "dat", "upl", "con", "eva", "ran", "sea", "swe", "key", "res")
PATTERN = re.compile(rf"\A({'|'.join(PREFIXES)})_[{ALPHABET}]{{26}}\Z")


class Ids:
    """A source of identifiers. Each is larger than those it gave before, within one millisecond too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self, prefix: str) -> str:
        """A new identifier."""
        with self._lock:
            self._last = max(self._last + 1, (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80))
            value = self._last
        return f"{prefix}_" + "".join(ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
