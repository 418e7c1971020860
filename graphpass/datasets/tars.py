"""Tar files of images as WebDataset lays them out: members of a sample differ in what follows the first dot alone.

    cat/0001.jpg   the image
    cat/0001.cls   its label, a whole number in text; for all samples or for none
    cat/0001.json  (and .txt) is not read

Members are read where they lie in the file: nothing is extracted, so their paths lead nowhere, and nothing is
unpickled. The tar is not compressed, as WebDataset wants it; images are compressed already.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.dataset import Dataset, dataset_of
from graphpass.datasets.images import (
    IMAGE_SUFFIXES,
    EncodedImage,
    ImageOptions,
    digest_of_pictures,
    frame_for,
    image_part,
    labelled,
)
from graphpass.datasets.parts import InputSpec, Part, named
from graphpass.errors import DataError
from graphpass.wording import counted

LARGEST = 64 << 20  # bytes of a member
LONGEST = 20  # characters of a label
TAR = ".tar"
LABEL, UNREAD = ".cls", (".json", ".txt")


@dataclass
class _Sample:
    picture: EncodedImage | None = None
    label: int | None = None


def open_tars(files: Sequence[Path], description: str, inputs: Sequence[InputSpec], options: ImageOptions) -> Dataset:
    """The samples of tar files in the order of their members. Raises DataError."""
    frame = frame_for(files[0], inputs, options)
    read = [(str(path), *tar_pictures(path)) for path in files]

    def digest() -> str:
        found = (each for _, pictures, labels in read for each in labelled(pictures, labels))
        return digest_of_pictures(found, frame)

    def parts() -> Iterator[Part]:
        return (image_part(where, inputs[0].name, pictures, labels, frame) for where, pictures, labels in read)

    return dataset_of(description, inputs, parts, digest, images=True)


def tar_pictures(path: Path) -> tuple[list[EncodedImage], NDArray[np.int64] | None]:
    """The images of a tar file, and their labels [n] if they have any. Only headers and labels are read."""
    samples: dict[str, _Sample] = {}
    with named(f"{path}: cannot be read as a tar file", "write it again, without compression"):
        size, (members, whole) = path.stat().st_size, _members(path)
    for member in members:
        where, (key, suffix) = f"{path}, {member.name!r:.200}", _split(member.name)
        if member.isdir() or Path(member.name).name.startswith("."):
            continue
        fits = suffix in UNREAD or 0 < member.size <= LARGEST
        if not member.isreg() or member.issparse() or not fits:
            raise DataError(f"{where}: not a file of 1 to {LARGEST} bytes", "write images and labels as plain files")
        if member.offset_data + member.size > size:
            raise DataError(f"{where}: the file ends before it", "write the tar again")
        sample = samples.setdefault(key, _Sample())
        if suffix in IMAGE_SUFFIXES and sample.picture is None:
            sample.picture = EncodedImage(where, partial(_bytes, path, member.offset_data, member.size))
        elif suffix == LABEL and sample.label is None:
            sample.label = _label(where, _bytes(path, member.offset_data, min(member.size, LONGEST + 1)))
        elif suffix not in UNREAD:
            raise DataError(
                f"{where}: not the one image or label of a sample",
                f"keep one of {', '.join(IMAGE_SUFFIXES)} and one {LABEL} for each; {', '.join(UNREAD)} are not read",
            )
    if not whole:
        raise DataError(
            f"{path}: breaks off, or is damaged, behind {counted(len(members), 'member')}",
            "write it again, as one tar",
        )
    if not samples:
        raise DataError(f"{path}: a tar file without samples", "write images into it, as WebDataset does")
    if alone := next((key for key, sample in samples.items() if sample.picture is None), None):
        raise DataError(f"{path}, {alone!r:.200}: a sample without an image", "remove it, or add the image")
    labels = [sample.label for sample in samples.values()]
    if None in labels and any(label is not None for label in labels):
        raise DataError(f"{path}: some samples have labels, others none", "label all of them or none")
    pictures = [sample.picture for sample in samples.values() if sample.picture is not None]
    return pictures, None if None in labels else np.array(labels, np.int64)


def is_tar(path: Path) -> bool:
    """Whether a file begins as a tar file does."""
    with path.open("rb") as file:
        return file.read(263)[257:262] == b"ustar"


def _members(path: Path) -> tuple[list[tarfile.TarInfo], bool]:
    """All members, and whether they are all that the file holds: behind them it has zeros, and nothing else.

    tarfile takes a header that is cut off or damaged for the end, as it takes the end of the first of two joined tars.
    """
    with tarfile.open(path, "r:") as tar, path.open("rb") as file:
        members, offset = [], 0
        for member in tar:
            if tar.offset <= offset:  # of a size below 0: tarfile would read the same members again without end
                raise ValueError(f"{member.name!r:.200} has a size below 0")
            members.append(member)
            offset = tar.offset
        file.seek(tar.offset)
        ended = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
        rest = iter(partial(file.read, 1 << 20), b"")
        return members, ended and not any(block.strip(b"\0") for block in rest)


def _split(name: str) -> tuple[str, str]:
    """The name up to the first dot of its last part, and the rest.

    >>> _split("a.b/0001.seg.PNG")
    ('a.b/0001', '.seg.png')
    """
    folder, slash, last = name.rpartition("/")
    stem, dot, rest = last.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{rest}".lower()


def _bytes(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _label(where: str, text: bytes) -> int:
    if not re.fullmatch(rb"\s*-?[0-9]{1,18}\s*", text):
        raise DataError(f"{where}: {text!r:.40} is not a label", "write a whole number")
    return int(text)
