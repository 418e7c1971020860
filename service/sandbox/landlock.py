"""Landlock: which files a confined process reaches, as far as the running kernel can limit that.

ABI 1 (Linux 5.13) guards reading, writing, making and removing; 2 moving between folders; 3 truncation; 4 TCP; 5 ioctl
on devices; 6 signals and abstract sockets. Not guarded: stat, and attributes of files, whose change seccomp.py refuses.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION = 1
_PATH_BENEATH = 1
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
TRUNCATE = 1 << 14
_REMOVE, _MAKE, _REFER = (1 << 4) | (1 << 5), (1 << 7) | (1 << 8), 1 << 13  # make: folders and plain files
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE | _REMOVE | _MAKE | _REFER
DEVICE = READ_FILE | WRITE_FILE | (1 << 15)  # ioctl
_FOR_FILES = WRITE_FILE | READ_FILE | TRUNCATE | 1 | (1 << 15)
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP, _SCOPES = 3, 3


def abi() -> int:
    """The kernel's Landlock ABI; 0 where there is none, or where a container forbids it."""
    version: int = _syscall(_CREATE, None, 0, _VERSION)
    return max(version, 0)


def restrict(readable: Iterable[Path], writable: Iterable[Path], devices: Iterable[Path] = ()) -> int:
    """Leave this thread, and those it starts, only what lies beneath these paths; paths that do not exist are skipped.

    Needs no_new_privs. Returns the ABI that was applied, 0 for none. Raises OSError when the kernel refuses.
    """
    version = abi()
    if not version:
        return 0
    handled = next(_HANDLED[known] for known in sorted(_HANDLED, reverse=True) if known <= version)
    attributes = [handled, *([_TCP] if version >= 4 else []), *([_SCOPES] if version >= 6 else [])]
    packed = struct.pack(f"{len(attributes)}Q", *attributes)
    ruleset = _syscall(_CREATE, packed, len(packed), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    try:
        for paths, access in ((readable, READ), (writable, WRITE), (devices, DEVICE)):
            for path in paths:
                _allow(ruleset, path, access & handled)
        if _syscall(_RESTRICT, ruleset, 0):
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _FOR_FILES
        if _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, place), 0):
            raise OSError(ctypes.get_errno(), "landlock_add_rule", str(path))
    finally:
        os.close(place)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer: int = call(ctypes.c_long(number), *wide)
    return answer
