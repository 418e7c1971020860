"""Results of long work in a folder, by the digest of all that they depend on.

    KEY                 = SHA-256 of the version of graphpass and of all that the work depends on
    FOLDER/KEY          the file as it was kept
    FOLDER/KEY.sha256   the digest of its bytes

A file appears whole, before its digest does; one without its digest, or with another one, is as good as none and goes.
So a run that is killed, or a disk that is full, costs work and never an answer. Several runs may share a folder. The
files that were used least recently go where all together exceed the limit.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graphpass.errors import OptionError
from graphpass.files import naming, replacing

DIGEST = ".sha256"
ENTRY = re.compile(r"[0-9a-f]{64}(\.sha256)?")
MOST = 4 << 30  # bytes of a folder


def key_of(kind: str, **parts: Any) -> str:
    """The key of a result. parts: JSON; everything that the result depends on beside the version of graphpass."""
    text = json.dumps([kind, version("graphpass"), parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A folder of results. most: bytes. Raises OptionError where it cannot be written."""

    def __init__(self, folder: str | Path, most: int = MOST):
        self.folder, self._most = Path(folder), most
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            raise OptionError(f"{folder}: not a writable folder ({error})", "choose another one") from error

    def read(self, key: str, target: Path) -> bool:
        """Whether there is a result; `target` is then a copy of it, which stays when others clean up."""
        kept = self.folder / key
        try:
            known = kept.with_suffix(DIGEST).read_text("ascii")
            shutil.copyfile(kept, target)
        except (OSError, UnicodeDecodeError):
            return False
        if _digest(target) != known:
            target.unlink()
            self._drop(kept)
            return False
        with suppress(OSError):
            os.utime(kept)
        return True

    def write(self, key: str, source: Path) -> None:
        """Keep a copy of a file. Where there is no room for it, it is not kept."""
        kept = self.folder / key
        with suppress(OptionError), replacing(kept, OptionError) as staged:
            shutil.copyfile(source, staged)
        with suppress(OptionError), replacing(kept.with_suffix(DIGEST), OptionError) as staged:
            staged.write_text(_digest(source), "ascii")
        self._clean()

    def discard(self) -> None:
        """Remove all results, and the folder if nothing else is in it."""
        for path in list(self.folder.iterdir()):
            if ENTRY.fullmatch(path.name):
                self._drop(path)
        with suppress(OSError):
            self.folder.rmdir()

    def _clean(self) -> None:
        """Drop what was used least recently until the rest is within the limit."""
        found = sorted(self._files(), key=lambda each: each[1], reverse=True)
        total = 0
        for path, _, size in found:
            total += size
            if total > self._most:
                self._drop(path)

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        for path in self.folder.iterdir():
            if path.suffix != DIGEST and path.is_file():
                with suppress(OSError):  # another run dropped it
                    found = path.stat()
                    yield path, found.st_mtime, found.st_size

    def _drop(self, path: Path) -> None:
        for each in (path.with_suffix(DIGEST), path):
            with suppress(OSError):
                each.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Kept:
    """Files of one run: made once, found again in a cache if there is one, gone when the run ends."""

    def __init__(self, folder: Path, cache: Cache | None):
        self._folder, self._cache = folder, cache

    def file(self, key: str, make: Callable[[Path], None]) -> Path:
        """The file of a key, made where it is not there yet."""
        path = self._folder / key
        if path.exists() or (self._cache and self._cache.read(key, path)):
            return path
        with naming(path):
            make(path)
        if self._cache:
            self._cache.write(key, path)
        return path

    def give(self, key: str, text: str) -> None:
        """The text of a key, made elsewhere."""
        _write(self._folder / key, text)

    def text(self, key: str, make: Callable[[], str]) -> str:
        """The text of a key."""
        path = self.file(key, lambda path: _write(path, make()))
        return path.read_text("utf-8")


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


@contextmanager
def kept_files(cache: str | Path | None) -> Iterator[Kept]:
    """Files for one run. cache: a folder whose results are used and kept; None: nothing is kept. Raises OptionError."""
    with tempfile.TemporaryDirectory(prefix="graphpass-") as folder:
        yield Kept(Path(folder), None if cache is None else Cache(cache))
