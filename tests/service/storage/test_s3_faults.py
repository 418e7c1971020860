"""S3 that fails at random or does not answer: every call gives the right bytes or a typed error, and ends in time."""

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from service.errors import StorageError, StorageUnavailableError
from service.settings import load_settings
from service.storage import s3 as module
from service.storage.blobs import Blobs
from service.storage.stores import open_blobs
from tests.service.servers import Gate, S3Server
from tests.service.storage import crashes

FAULTS = (500, 503, Gate.RESET, Gate.CUT)


class Random(Gate):
    """A gate in which two of five requests fail; the same seed gives the same faults."""

    def __init__(self, store: S3Server):
        self.chance, self.failed = random.Random(7), 0
        super().__init__(store)

    def fault(self) -> int | None:
        """See Gate."""
        if self.status is not None or self.opened.is_set() or self.chance.random() > 0.4:
            return self.status
        self.failed += 1
        return self.chance.choice(FAULTS)


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Random]:
    """A gate in front of the S3 server of this run, with short timeouts."""
    monkeypatch.setattr(module, "GIVE_UP", timedelta(seconds=0.3))
    monkeypatch.setattr(module, "SILENCE", timedelta(seconds=1))
    for name, value in S3Server.KEYS.items():
        monkeypatch.setenv(name, value)
    gate = Random(s3)
    yield gate
    gate.close()


@pytest.fixture
def faulty(gate: Random, s3: S3Server, tmp_path: Path) -> Blobs:
    """An empty bucket behind the gate."""
    settings = load_settings(data_dir=tmp_path, store_url=f"s3://{s3.bucket()}/x", store_endpoint=gate.endpoint)
    return open_blobs(settings)


def put(blobs: Blobs, data: bytes) -> str:
    """Try once to store a blob."""
    with blobs.writer(crashes.UnlimitedRoom()) as writer:
        writer.write(data)
        writer.commit()
        return writer.digest


def everything(blobs: Blobs, data: bytes, path: Path) -> list[tuple[Callable[[], object], object]]:
    """Calls of a store, and their results."""
    digest = hashlib.sha256(data).hexdigest()
    return [
        (lambda: put(blobs, data), digest),
        (lambda: blobs.size(digest), len(data)),
        (lambda: b"".join(blobs.read(digest, 5, len(data) - 5, 1)), data[5:-5]),
        (lambda: blobs.fetch(digest, path), None),
    ]


def until_it_works(call: Callable[[], object]) -> object:
    """Call until it succeeds, and return the result; every failure has to be a typed error."""
    for _ in range(100):
        with suppress(StorageError):
            return call()
    raise AssertionError("it never works")


def test_every_call_is_right_or_says_that_it_is_not(faulty: Blobs, gate: Random, tmp_path: Path) -> None:
    for number in range(4):
        data = os.urandom(3 * module.LEAST_PIECE // 2)
        for call, expected in everything(faulty, data, tmp_path / f"{number}"):
            assert until_it_works(call) == expected
        assert (tmp_path / f"{number}").read_bytes() == data
    assert gate.failed > 5
    gate.open()
    assert len(list(faulty.listing())) == 4


def test_a_store_that_says_nothing_is_not_waited_for_long(faulty: Blobs, gate: Random) -> None:
    gate.status = Gate.HANG
    began = time.monotonic()
    for call in (faulty.probe, lambda: faulty.size("0" * 64), lambda: put(faulty, b"x")):
        with pytest.raises(StorageUnavailableError, match="does not answer"):
            call()
    assert time.monotonic() - began < 3 * 3
