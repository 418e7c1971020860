"""Run as a program: stores a blob in children that die just before their 1st, 2nd, … call of the operating system.

Prints how many calls there are. After each death the store holds the whole blob or none, and storing works.
"""

import hashlib
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.storage.local import LocalBlobs

CALLS = ("open", "write", "fchmod", "fsync", "replace", "unlink", "link", "close")
DATA = bytes(range(256)) * 1000
UPLOAD = "upl_1"


class Ledger:
    """Dies like a call of the operating system."""

    def hold(self, digest: str, size: int) -> None:
        """See service.storage.blobs.Ledger."""
        os.getpid()


def put(blobs: LocalBlobs) -> None:
    """Store a blob in two writes, and a part of an upload."""
    with blobs.writer() as writer:
        writer.write(DATA[:100])
        writer.write(DATA[100:])
        writer.commit()
    blobs.put_part(UPLOAD, "part", DATA)


def dies_at(number: int, blobs: LocalBlobs) -> bool:
    """Whether a child got as far as its call `number`, and died of it."""
    child = os.fork()
    if child == 0:
        left = [number]

        def mortal(call):
            def wrapped(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
                return call(*arguments, **options)

            return wrapped

        for name in (*CALLS, "getpid"):
            setattr(os, name, mortal(getattr(os, name)))
        put(blobs)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def main(folder: Path) -> int:
    """How many calls there were to die at."""
    digest = hashlib.sha256(DATA).hexdigest()
    blobs = LocalBlobs(folder, Ledger())
    for number in range(1, 1000):
        died = dies_at(number, blobs)
        for name, size in blobs.listing():
            assert (name, size, b"".join(blobs.read(name))) == (digest, len(DATA), DATA), number
        put(blobs)
        assert b"".join(blobs.read(digest)) == b"".join(blobs.read_part(UPLOAD, "part")) == DATA
        blobs.tidy(datetime.now(UTC) + timedelta(minutes=1))
        assert not any((folder / "scratch").iterdir()), number
        blobs.delete(digest)
        blobs.drop_parts(UPLOAD)
        if not died:
            return number - 1
    raise AssertionError("it does not end")


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
