"""Unpacking a .zip of a user: every rule is checked on the directory first, then counted while bytes are written."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from graphpass.errors import GraphpassError
from graphpass.wording import counted
from service.sandbox.failures import TaskLimitError
from service.sandbox.limits import Limits
from service.sandbox.outcome import out_of_room
from service.sandbox.workplace import is_plain

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # a first member; the end of an empty archive
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LONGEST_NAME = 255  # bytes of each part of a path, as file systems have it
DEEPEST = 32  # folders
ENCRYPTED = 1
BLOCK = 1 << 20
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


def is_archive(path: Path) -> bool:
    """Whether a file's first bytes are those of a .zip."""
    with path.open("rb") as file:
        return file.read(4) in SIGNATURES


def listing(path: Path, limits: Limits, refusal: type[GraphpassError]) -> list[zipfile.ZipInfo]:
    """What the directory of an archive holds. Raises `refusal` for a damaged one, and for too many files."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except DAMAGE as error:
        raise refusal(f"{path}: not a readable .zip ({error})", "pack it again") from error
    if len(infos) > limits.files:
        raise refusal(
            f"{path}: {counted(len(infos), 'file')}, at most {limits.files:,} are allowed", "pack fewer, larger ones"
        )
    return infos


def members(path: Path, limits: Limits, refusal: type[GraphpassError]) -> list[zipfile.ZipInfo]:
    """The files of an archive that may be unpacked, once its directory keeps all rules.

    Raises `refusal` naming the archive, the member and the rule.
    """
    infos = listing(path, limits, refusal)
    seen: set[str] = set()
    folders: set[str] = set()
    for info in infos:
        name = info.filename.rstrip("/")
        if reason := _wrong(info, name):
            raise refusal(f"{path}: member {info.filename[:200]!r} {reason}", "pack plain files under plain names")
        if not info.is_dir() and name in seen:
            raise refusal(f"{path}: member {name!r} appears twice", "pack it once")
        (folders if info.is_dir() else seen).add(name)
        folders.update(str(parent) for parent in PurePosixPath(name).parents)
    if both := sorted(folders & seen):
        raise refusal(f"{path}: member {both[0]!r} is a file and a folder", "pack it again")
    return [info for info in infos if not info.is_dir() and not _is_litter(info.filename)]


def unpack(path: Path, target: Path, limits: Limits, refusal: type[GraphpassError]) -> None:
    """Write an archive's files beneath `target`.

    Errors as of `members`, and for what its directory lies about; TaskLimitError for more bytes than may be written.
    """
    wanted = members(path, limits, refusal)
    if sum(info.file_size for info in wanted) > limits.file_bytes:
        raise TaskLimitError(out_of_room(limits, f"{path.name} unpacks to"))
    left = limits.file_bytes
    with zipfile.ZipFile(path) as archive:
        for info in wanted:
            place = target / info.filename
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with archive.open(info) as member, place.open("xb") as file:
                    written = _copy(member, file, left)
                if written < min(info.file_size, left):
                    raise EOFError(f"it has {counted(written, 'byte')}, not {info.file_size}")
            except DAMAGE as error:
                raise refusal(f"{path}: member {info.filename!r} is damaged ({error})", "pack it again") from error
            left -= written
            if left < 0:
                raise TaskLimitError(out_of_room(limits, f"{path.name} unpacks to"))


def _copy(member: IO[bytes], file: IO[bytes], most: int) -> int:
    """Copy to the end, or until more than `most` bytes are copied. Returns how many."""
    total = 0
    while total <= most and (block := member.read(BLOCK)):
        file.write(block)
        total += len(block)
    return total


def _wrong(info: zipfile.ZipInfo, name: str) -> str:
    """The rule that a member breaks; "" for none."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not is_plain(name) or name != str(PurePosixPath(name)):
        return "has a path that is absolute, climbs out of the archive or cannot be shown"
    parts = PurePosixPath(name).parts
    if len(parts) > DEEPEST or any(len(part.encode()) > LONGEST_NAME for part in parts):
        return f"has a name of more than {LONGEST_NAME} bytes, or lies deeper than {DEEPEST} folders"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a symbolic link" if stat.S_ISLNK(kind) else "is not a plain file"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in METHODS:
        return "is neither stored nor deflated"
    return ""


def _is_litter(name: str) -> bool:
    """Whether a file is one that some systems add to every archive."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name in {".DS_Store", "Thumbs.db"}
