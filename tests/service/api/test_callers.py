"""Who sends a request: a tenant whatever its key, another header, or an address; and who sends too many."""

from pathlib import Path
from typing import Any

import pytest

from service.api.callers import Callers
from service.auth import RateLimit, create_key
from service.errors import RateError
from service.settings import load_settings
from service.storage.metadata import opened


def scope(header: str | None = None, path: str = "/v1/jobs", host: str = "192.0.2.1") -> dict[str, Any]:
    """The ASGI scope of a request."""
    headers = [] if header is None else [(b"authorization", header.encode("latin1"))]
    return {"path": path, "headers": headers, "client": (host, 1)}


def test_who_it_is(tmp_path: Path) -> None:
    with opened(load_settings(data_dir=tmp_path)) as metadata:
        callers = Callers(metadata, RateLimit(0))
        (first, one), (_, two) = create_key(metadata, "acme"), create_key(metadata, "acme")
        found = callers.of(scope(f"Bearer {one}"))
        assert found.key == first and found.is_known and found.sends_key
        assert found.name == callers.of(scope(f"bearer  {two} ")).name  # of one tenant
        for wrong in ("Bearer gp_x", f"Basic {one}", "Bearer", "\xff", f"Bearer {one}x"):
            other = callers.of(scope(wrong))
            assert other.key is None and other.sends_key and other.name != found.name
        assert callers.of(scope()).name == "192.0.2.1" and not callers.of(scope()).sends_key
        assert callers.of(scope(host="2001:db8::1")).name == callers.of(scope(host="2001:db8::2")).name
        metadata.keys.revoke(first.id)
        assert callers.of(scope(f"Bearer {one}")).key is None


def test_requests_of_a_key_are_counted_before_anything_is_done(tmp_path: Path) -> None:
    with opened(load_settings(data_dir=tmp_path)) as metadata:
        callers = Callers(metadata, RateLimit(5))
        _, one = create_key(metadata, "acme")
        _, two = create_key(metadata, "acme")
        asked, other = scope(f"Bearer {one}"), scope(f"Bearer {two}")
        for _ in range(5):
            callers.count(asked, callers.of(asked))
        with pytest.raises(RateError):
            callers.count(asked, callers.of(asked))
        callers.count(other, callers.of(other))
        alive = scope(f"Bearer {one}", "/livez")
        callers.count(alive, callers.of(alive))


def test_what_needs_no_key_counts_for_the_address_even_with_one(tmp_path: Path) -> None:
    """Otherwise whoever sends a key could ask for /metrics as often as it likes."""
    with opened(load_settings(data_dir=tmp_path)) as metadata:
        callers = Callers(metadata, RateLimit(5))
        _, text = create_key(metadata, "acme")
        for path, counted in {"/v1/jobs": True, "/metrics": False, "/readyz": False, "/": False}.items():
            for header in (f"Bearer {text}", "Bearer gp_x"):
                asked = scope(header, path)
                assert callers.of(asked).is_counted(asked) == counted
            assert not callers.of(scope(path=path)).is_counted(scope(path=path))
