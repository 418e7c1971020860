"""Uploads grow at their end only. On both databases."""

import pytest

from service.errors import (
    OffsetError,
    StorageUnavailableError,
)
from service.storage.metadata import Metadata
from tests.service.storage.stored import NOW, TTL, Blob, race


def test_an_upload_grows_at_its_end_only(metadata: Metadata, blob: Blob) -> None:
    made = metadata.uploads.create("acme", "dataset", name="d.npz", length=10, metadata={"a": "b"}, expires=NOW + TTL)
    assert metadata.uploads.get("acme", made.id) == made and made.offset == 0
    assert metadata.uploads.append("acme", made.id, 0, "one", 4).offset == 4
    for offset, size in ((0, 4), (5, 1), (4, 7)):
        with pytest.raises(OffsetError) as caught:
            metadata.uploads.append("acme", made.id, offset, "two", size)
        assert caught.value.offset == 4
    with pytest.raises(OffsetError):
        metadata.uploads.complete("acme", made.id, blob("a"))
    metadata.uploads.append("acme", made.id, 4, "two", 6)
    assert metadata.uploads.parts("acme", made.id) == ("one", "two")
    with pytest.raises(StorageUnavailableError):
        metadata.uploads.complete("acme", made.id, "e" * 64)
    assert metadata.uploads.complete("acme", made.id, blob("a")).sha256 == blob("a")
    with pytest.raises(OffsetError, match="is complete"):
        metadata.uploads.append("acme", made.id, 10, "three", 0)


def test_of_racing_pieces_one_is_taken(metadata: Metadata) -> None:
    made = metadata.uploads.create("acme", "model", name="", length=100, metadata={})
    found = race(6, lambda number: metadata.uploads.append("acme", made.id, 0, f"part{number}", 10 + number))
    taken = [each for each in found if not isinstance(each, OffsetError)]
    assert len(taken) == 1
    assert metadata.uploads.parts("acme", made.id) == (f"part{taken[0].offset - 10}",)
