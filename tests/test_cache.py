"""Kept results are exactly what was kept, or nothing."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from graphpass import cache
from graphpass.cache import Cache, kept_files, key_of
from graphpass.errors import OptionError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.write_bytes(b"0123456789" * 100)
    return path


def read(folder: Cache, key: str, tmp_path: Path) -> bytes | None:
    target = tmp_path / "read"
    return target.read_bytes() if folder.read(key, target) else None


def test_a_result_is_found_again_by_another_run(tmp_path: Path, source: Path) -> None:
    Cache(tmp_path / "kept").write("key", source)
    assert read(Cache(tmp_path / "kept"), "key", tmp_path) == source.read_bytes()
    assert read(Cache(tmp_path / "kept"), "other", tmp_path) is None


@pytest.mark.parametrize("damage", ["cut", "changed", "no digest", "empty digest", "strange digest", "other file"])
def test_damage_costs_work_and_no_answer(tmp_path: Path, source: Path, damage: str) -> None:
    folder = Cache(tmp_path / "kept")
    folder.write("key", source)
    kept, digest = folder.folder / "key", folder.folder / "key.sha256"
    match damage:
        case "cut":
            kept.write_bytes(kept.read_bytes()[:-1])
        case "changed":
            kept.write_bytes(b"1" + kept.read_bytes()[1:])
        case "no digest":
            digest.unlink()
        case "empty digest":
            digest.write_text("")
        case "strange digest":
            digest.write_bytes(b"\xff\xfe")
        case _:
            source.write_bytes(b"of another key")
            folder.write("second", source)
            kept.write_bytes((folder.folder / "second").read_bytes())
    assert read(folder, "key", tmp_path) is None
    folder.write("key", source)
    assert read(folder, "key", tmp_path) == source.read_bytes()


def test_what_was_used_least_recently_goes_first(tmp_path: Path, source: Path) -> None:
    folder = Cache(tmp_path / "kept", most=2500)
    for number, key in enumerate("abc"):
        folder.write(key, source)
        if number == 1:
            assert read(folder, "a", tmp_path)  # used after b
    assert [key for key in "abc" if read(folder, key, tmp_path)] == ["a", "c"]
    assert sorted(path.name for path in folder.folder.iterdir()) == ["a", "a.sha256", "c", "c.sha256"]


def test_a_full_disk_costs_only_the_cache(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Cache(tmp_path / "kept")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(cache.shutil, "copyfile", full)
        folder.write("key", source)
    assert read(folder, "key", tmp_path) is None


def test_a_run_that_is_killed_as_it_writes_leaves_nothing_that_is_taken(tmp_path: Path, source: Path) -> None:
    """Killed between any two steps of writing."""
    code = """
import os, sys
from pathlib import Path
from graphpass import cache, files
left = int(sys.argv[3])
real = os.replace
def replace(*arguments):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    return real(*arguments)
os.replace = replace
cache.Cache(sys.argv[1]).write("key", Path(sys.argv[2]))
"""
    for steps, whole in ((0, False), (1, False), (2, True)):
        folder = tmp_path / f"kept{steps}"
        subprocess.run([sys.executable, "-c", code, folder, source, str(steps)], check=False)
        assert (read(Cache(folder), "key", tmp_path) is not None) == whole


def test_several_runs_share_a_folder(tmp_path: Path) -> None:
    """Writers and readers of the same few keys, in a folder with room for half of them: an answer is never wrong."""
    wrong: list[bytes] = []

    def run(seed: int) -> None:
        folder, own = Cache(tmp_path / "kept", most=4000), tmp_path / f"run{seed}"
        own.mkdir()
        for turn in range(40):
            number = (seed * 7 + turn) % 8
            content = bytes([number]) * 1000
            found = read(folder, f"key{number}", own)
            if found is None:
                (own / "made").write_bytes(content)
                folder.write(f"key{number}", own / "made")
            elif found != content:
                wrong.append(found)

    runs = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert not wrong


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path, source: Path) -> None:
    for bad in (source, source / "inside", "a\0b"):
        with pytest.raises(OptionError, match="not a writable folder"):
            Cache(bad)


def test_keys_tell_kinds_parts_and_versions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key_of("a", model="1"), key_of("b", model="1"), key_of("a", model="2"), key_of("a", data="1")}
    monkeypatch.setattr(cache, "version", lambda _: "another")
    assert len({*keys, key_of("a", model="1")}) == 5


def test_a_run_makes_a_file_once_with_or_without_a_cache(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> str:
        made.append("made")
        return "text"

    for folder in (None, tmp_path / "kept", tmp_path / "kept"):
        with kept_files(folder) as kept:
            assert [kept.text("key", make), kept.text("key", make)] == ["text", "text"]
    assert len(made) == 2


def test_only_results_are_discarded(tmp_path: Path, source: Path) -> None:
    folder = Cache(tmp_path / "kept")
    folder.write(key_of("a"), source)
    (folder.folder / "notes.txt").write_text("mine")
    folder.discard()
    assert [path.name for path in folder.folder.iterdir()] == ["notes.txt"]
    (folder.folder / "notes.txt").unlink()
    folder.discard()
    assert not folder.folder.exists()
