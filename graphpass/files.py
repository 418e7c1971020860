"""Files are written whole or not at all, and whether they can be written is checked before the work.

    with replacing(Path("snn.onnx"), ModelError) as path:
        write(path)                   # in a folder of its own beside the target; a file beside it is a companion

When the block ends, what it wrote is made durable and renamed into place, companions before the file that names them.
A process that is killed leaves the old file or the new one. A target that is a symbolic link stays one.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graphpass.errors import GraphpassError, OptionError, wrong_type

Identity = str | tuple[int, int]  # of a file: its real path, its inode

PREFIX = ".graphpass-"  # of the folder beside a target
NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG  # for a file


def path_to(given: str | os.PathLike[str], what: str = "a path") -> Path:
    """What a public function was given as a path. what: its name in the error.

    Raises OptionError for another type, and for an empty text, which would be the current folder.
    """
    if not isinstance(given, str | os.PathLike) or not isinstance(os.fspath(given), str):
        raise wrong_type(what, given, "a text or a pathlib.Path")
    if not os.fspath(given):
        raise OptionError(f"{what} is empty", "give the name of a file, or . for the current folder")
    return Path(given)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Inside, an OSError names the file that is written, as one of an open file does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: str | Path, error: type[GraphpassError], remedy: str = "choose another place") -> Iterator[Path]:
    """A path to write to; what is written there becomes `path`. Where that fails, nothing changes. Raises `error`."""
    path = Path(path)
    try:
        special = _is_special(path)
        target = path if special else Path(os.path.realpath(path))
    except (OSError, ValueError) as problem:  # ValueError: a name with a NUL
        raise error(f"{path}: cannot be written ({problem})", remedy) from problem
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=None if special else target.parent) as folder:
            staged = Path(folder) / target.name
            yield staged
            if special:
                if os.path.realpath(target) != os.devnull and len(os.listdir(folder)) > 1:
                    raise error(f"{path}: is not a regular file, and nothing can be written beside it", remedy)
                with staged.open("rb") as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
                return
            written = sorted(Path(folder).iterdir(), key=lambda each: (each == staged, each.name))
            for each in written:
                _make_durable(each)
                _keep_mode(each, target.with_name(each.name))
            for each in written:
                os.replace(each, target.with_name(each.name))
            _make_durable(target.parent)
    except OSError as problem:
        raise error(f"{path}: cannot be written ({problem.strerror or problem})", remedy) from problem


def write_text(text: str, path: str | Path, error: type[GraphpassError]) -> None:
    """Write text in UTF-8. Raises `error` where that is not possible."""
    with replacing(path, error) as staged:
        staged.write_text(text, encoding="utf-8")


def require_targets(targets: Iterable[tuple[Path, Iterable[Path]]], sources: Iterable[Path]) -> None:
    """Raises OptionError unless all targets can be written and none of them is another target or a source.

    targets: paths, each with the companions that may be written with it. sources: files and folders that are read; some
    may not exist. A file under another name, by a symbolic or a hard link, is the same file.
    """
    files, folders = _expanded(sources)
    taken: dict[Identity, Path] = {}
    for target, companions in targets:
        for path in (target, *companions):
            with _named(path):
                if _is_special(path):
                    continue
                real = os.path.realpath(path)
                identities: list[Identity] = [real, *_inode(real)]
            if read := next((files[each] for each in identities if each in files), None):
                raise OptionError(f"{path}: would be written over {read}, which is read", "choose another name")
            if inside := next(
                (folder for folder in folders if Path(real).is_relative_to(os.path.realpath(folder))), None
            ):
                raise OptionError(f"{path}: lies in {inside}, which is read", "choose another folder")
            if other := next((taken[each] for each in identities if each in taken), None):
                raise OptionError(f"{path}: would be written over {other}, which is written too", "choose another name")
            taken.update(dict.fromkeys(identities, path))
        _require_writable(target)


def _require_writable(path: Path) -> None:
    """Raises OptionError unless a file of this name can be created in its folder, or replaced."""
    with _named(path):
        special = _is_special(path)
        target = path if special else Path(os.path.realpath(path))
        if not target.parent.is_dir():
            raise OptionError(f"{path.parent}: no such folder", "create it first")
        if target.is_dir():
            raise OptionError(f"{path}: is a folder", "give the name of a file")
        if target.exists() and not os.access(target, os.W_OK):
            raise OptionError(f"{path}: cannot be written (it is write-protected)", "choose another place")
        if not special:
            tempfile.TemporaryFile(dir=target.parent, prefix=PREFIX).close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as problem:  # ValueError: a name with a NUL
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise OptionError(f"{path}: cannot be written ({reason or problem})", "choose another place") from problem


def _expanded(sources: Iterable[Path]) -> tuple[dict[Identity, Path], list[Path]]:
    """All files that are read, by real path and by inode, and the folders."""
    files: dict[Identity, Path] = {}
    folders = []
    for source in sources:
        found = [source]
        if os.path.isdir(source):  # which is False of a name that no file can have
            folders.append(source)
            found = [Path(root) / name for root, _, names in os.walk(source, followlinks=True) for name in names]
        for file in found:
            with suppress(ValueError):  # a name with a NUL is that of no file
                real = os.path.realpath(file)
                files.update(dict.fromkeys((real, *_inode(real)), file))
    return files, folders


def _inode(path: str) -> list[tuple[int, int]]:
    """The identity that hard links of a file share; None where there is no regular file."""
    with suppress(OSError):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            return [(found.st_dev, found.st_ino)]
    return []


def _is_special(path: Path) -> bool:
    """Whether it is a device or a pipe; no file is renamed over those.

    Links are followed by the system: that of /dev/stdout may lead to a pipe, whose real path is that of no file.
    Raises OSError and ValueError for what can be the name of no file.
    """
    try:
        mode = os.stat(path).st_mode  # Path.exists raises nothing from Python 3.14 on
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _keep_mode(staged: Path, target: Path) -> None:
    with suppress(OSError):  # of a file system without modes
        if target.is_file():
            staged.chmod(stat.S_IMODE(target.stat().st_mode))


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if path.is_file():  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
