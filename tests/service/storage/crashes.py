"""Run as a program: stores a blob in children that die just before their 1st, 2nd, … call of the operating system.

Prints how many calls there are. After each death the store holds the whole blob or none, and storing works.
"""

import hashlib
import os
import sys
from pathlib import Path

from service.storage.blobs import Blobs
from service.storage.local import LocalBlobs

CALLS = ("open", "write", "fchmod", "fsync", "replace", "unlink", "link", "close", "truncate")
DATA = bytes(range(256)) * 1000
SENT = DATA[::-1]
UPLOAD = "upl_1"


class UnlimitedRoom:
    """A room for any number of bytes, whose methods may die like calls of the operating system."""

    id = "res_1"

    def need(self, size: int) -> None:
        """See service.storage.blobs.Room."""
        os.getpid()

    def hold(self, digest: str, size: int) -> None:
        """See service.storage.blobs.Room."""
        os.getpid()

    def settle(self) -> None:
        """See service.storage.blobs.Room."""
        os.getpid()


def put(blobs: Blobs) -> None:
    """Store a blob in two writes."""
    with blobs.writer(UnlimitedRoom()) as writer:
        writer.write(DATA[:100])
        writer.write(DATA[100:])
        writer.commit()


def send(blobs: Blobs) -> str:
    """Store the pieces of an upload and put them together; the digest."""
    with blobs.turn(UPLOAD):
        blobs.put_part(UPLOAD, "one", 0, SENT[:100])
        blobs.put_part(UPLOAD, "two", 100, SENT[100:])
    return blobs.join(UPLOAD, ("one", "two"), len(SENT), UnlimitedRoom())


def dies_at(number: int, blobs: LocalBlobs) -> bool:
    """Whether a child reached its call `number`, and died there."""
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
        send(blobs)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def main(folder: Path) -> int:
    """Let children die at every call; how many calls there are."""
    whole = {hashlib.sha256(data).hexdigest(): data for data in (DATA, SENT)}
    blobs = LocalBlobs(folder)
    for number in range(1, 1000):
        died = dies_at(number, blobs)
        for name, size in blobs.listing():
            assert (size, b"".join(blobs.read(name))) == (len(whole[name]), whole[name]), number
        assert set(blobs.scratch()) <= {UnlimitedRoom.id}, number
        for name in blobs.scratch():
            blobs.drop_scratch(name)
        put(blobs)
        assert b"".join(blobs.read(send(blobs))) == SENT, number
        assert dict(blobs.listing()) == {digest: len(data) for digest, data in whole.items()}, number
        assert not any((folder / "scratch").iterdir()), number
        for digest in whole:
            blobs.delete(digest)
        blobs.drop_parts(UPLOAD)
        if not died:
            return number - 1
    raise AssertionError("it does not end")


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
