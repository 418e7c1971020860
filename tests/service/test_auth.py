"""Keys and rate limits."""

import base64
import hashlib
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import auth
from service.auth import RateLimit, authenticate, create_key
from service.errors import NotFoundError, RateError, TextError
from service.storage.metadata import Metadata
from tests.service.clocks import ManualClock


def test_a_key_lets_its_tenant_in_until_it_is_revoked(metadata: Metadata) -> None:
    key, text = create_key(metadata, "new", "laptop")
    assert (key.tenant, key.label, key.revoked) == ("new", "laptop", None)
    assert authenticate(metadata, text) == key
    second, other = create_key(metadata, "new")
    revoked = metadata.keys.revoke(key.id)
    assert revoked.revoked is not None and abs((datetime.now(UTC) - revoked.revoked).total_seconds()) < 60
    assert authenticate(metadata, text) is None and authenticate(metadata, other) == second
    assert metadata.keys.revoke(key.id) == revoked
    assert metadata.keys.list("new") == (revoked, second)
    assert "new" in [tenant.name for tenant in metadata.keys.tenants()]
    assert len(metadata.keys.list()) == 4


def test_keys_have_256_random_bits_of_which_the_digest_is_stored(metadata: Metadata) -> None:
    texts = set()
    for _ in range(20):
        key, text = create_key(metadata, "acme")
        texts.add(text)
        assert text.startswith("gp_") and len(base64.urlsafe_b64decode(text[3:] + "=")) == 32
        assert key.sha256 == hashlib.sha256(text.encode()).hexdigest()
        assert text not in repr(key)
    assert len(texts) == 20


@pytest.mark.parametrize("text", ["", "gp_", "gp_" + "A" * 43, "Bearer x", "gp_\0", "gp_\ud800", "gp_" + "x" * 10**6])
def test_other_texts_let_nobody_in(metadata: Metadata, text: str) -> None:
    create_key(metadata, "acme")
    assert authenticate(metadata, text) is None


def test_the_key_of_serve_replaces_the_one_before(metadata: Metadata) -> None:
    kept = [create_key(metadata, "acme", "ci")[1], create_key(metadata, "other", "serve")[1]]
    texts = [create_key(metadata, "acme", "serve", alone=True)[1] for _ in range(3)]
    assert [authenticate(metadata, text) is not None for text in texts] == [False, False, True]
    assert all(authenticate(metadata, text) for text in kept)
    assert [key.label for key in metadata.keys.list("acme")].count("serve") == 1  # no pile of keys


@pytest.mark.parametrize("tenant", ["", "a b", "a/b", "-a", "x" * 101, "ä", "a\n"])
def test_names_that_no_tenant_can_have_are_refused(metadata: Metadata, tenant: str) -> None:
    with pytest.raises(TextError, match="is not the name of a tenant"):
        create_key(metadata, tenant)


def test_revoking_what_is_not_there(metadata: Metadata) -> None:
    for id in ("key_" + "0" * 26, "x", "mod_" + "0" * 26):
        with pytest.raises(NotFoundError):
            metadata.keys.revoke(id)


def test_a_bucket_gives_its_tokens_at_once_and_then_as_they_come() -> None:
    clock = ManualClock(1000.0)
    limit = RateLimit(60, clock)
    for _ in range(60):
        limit.take("a")
    with pytest.raises(RateError, match="more than 60 requests a minute; wait 1 seconds") as caught:
        limit.take("a")
    assert caught.value.retry_after == pytest.approx(1)
    limit.take("b")
    clock.now += 1
    limit.take("a")
    with pytest.raises(RateError):
        limit.take("a")
    clock.now += 3600
    for _ in range(60):
        limit.take("a")
    with pytest.raises(RateError):
        limit.take("a")


def test_zero_is_no_limit() -> None:
    limit = RateLimit(0)
    for _ in range(10_000):
        limit.take("a")


@given(st.integers(1, 20), st.lists(st.floats(0, 30), max_size=60))
def test_never_more_than_a_full_bucket_and_the_rate(per_minute: int, pauses: list[float]) -> None:
    clock, taken = ManualClock(1000.0), []
    limit = RateLimit(per_minute, clock)
    for pause in pauses:
        clock.now += pause
        try:
            limit.take("a")
        except RateError as error:
            before = clock.now
            clock.now += error.retry_after + 1e-6  # rounding of the clock's floats
            limit.take("a")
            taken.append(clock.now)
            clock.now = max(clock.now, before)
        else:
            taken.append(clock.now)
    for first, begin in enumerate(taken):
        for last, end in enumerate(taken[first:], 1):
            assert last <= per_minute + math.ceil((end - begin) * per_minute / 60 + 1e-3)


def test_buckets_that_are_full_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "BUCKETS", 10)
    clock = ManualClock(1000.0)
    limit = RateLimit(60, clock)
    for number in range(1000):
        clock.now += 1
        limit.take(f"{number}")
        assert len(limit._buckets) <= 10
