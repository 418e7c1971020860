"""Keys found without a thread: the same as `find` finds, at once after every change, and without waiting."""

import pytest

from service.auth import authenticate, authenticate_at_once, create_key
from service.settings import load_settings
from service.storage.database import sqlite_module
from service.storage.key_lookup import NotAtOnceError
from service.storage.metadata import Metadata, opened


def test_it_finds_what_a_thread_finds(metadata: Metadata) -> None:
    key, text = create_key(metadata, "new", "laptop")
    if not metadata.database.is_sqlite:
        with pytest.raises(NotAtOnceError):
            authenticate_at_once(metadata, text)
        return
    assert authenticate_at_once(metadata, text) == key == authenticate(metadata, text)
    for other in ("", "gp_", text + "x", text.upper(), "gp_\udcff", "gp_" + "x" * 10**6):
        assert authenticate_at_once(metadata, other) is None


def test_a_key_that_another_process_revokes_is_unknown_at_once(tmp_path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with opened(settings) as here, opened(settings) as elsewhere:
        for _ in range(20):
            key, text = create_key(elsewhere, "acme")
            assert authenticate_at_once(here, text) == key
            elsewhere.keys.revoke(key.id)
            assert authenticate_at_once(here, text) is None
        texts = [create_key(elsewhere, "acme", "serve", alone=True)[1] for _ in range(3)]
        assert [authenticate_at_once(here, text) is not None for text in texts] == [False, False, True]


def test_it_waits_for_nobody_and_goes_on_after_a_fault(tmp_path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with opened(settings) as metadata:
        key, text = create_key(metadata, "acme")
        with metadata.database.write():  # somebody writes
            assert authenticate_at_once(metadata, text) == key
        metadata.keys.close()
        metadata.database.engine.dispose()
        locked = sqlite_module().connect(tmp_path / "graphpass.db", isolation_level=None)
        locked.execute("PRAGMA locking_mode=EXCLUSIVE")
        locked.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(NotAtOnceError):
                authenticate_at_once(metadata, text)
        finally:
            locked.close()
        assert authenticate_at_once(metadata, text) == key


def test_what_is_kept_open_is_no_folder_of_its_own(tmp_path) -> None:
    """A path with characters that mean something in a URI leads to the same database."""
    settings = load_settings(data_dir=tmp_path / "a?b#c %41")
    with opened(settings) as metadata:
        key, text = create_key(metadata, "acme")
        assert authenticate_at_once(metadata, text) == key
