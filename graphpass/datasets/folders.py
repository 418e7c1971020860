"""A folder as a dataset: shards, images in a subfolder for each class, or images without labels."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.arrays import archive_part
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
from graphpass.datasets.parts import InputSpec, named
from graphpass.datasets.tables import TABLES, holds_pictures, open_tables
from graphpass.datasets.tars import TAR, open_tars
from graphpass.errors import DataError

SUFFIXES = "use .npz, .npy, .parquet, .arrow, .tar, a folder of such shards, a folder of images or file.py:function"
SHARDS = (".npz", TAR, *TABLES)


def open_folder(folder: Path, inputs: Sequence[InputSpec], options: ImageOptions) -> Dataset:
    """Open a folder that holds data of one kind. Anything else in it is refused; hidden entries are ignored."""
    if shards := shard_files(folder):
        return open_files(shards, folder.name, inputs, options)
    files, labels = image_files(folder)
    frame = frame_for(folder, inputs, options)
    pictures = [EncodedImage(str(file), file.read_bytes) for file in files]
    return dataset_of(
        folder.name,
        inputs,
        lambda: [image_part(str(folder), inputs[0].name, pictures, labels, frame)],
        lambda: digest_of_pictures(labelled(pictures, labels), frame),
        images=True,
    )


def open_files(files: Sequence[Path], description: str, inputs: Sequence[InputSpec], options: ImageOptions) -> Dataset:
    """Open files of one kind of SHARDS, whose samples follow one another."""
    suffix = files[0].suffix.lower()
    if suffix == TAR:
        return open_tars(files, description, inputs, options)
    if suffix in TABLES:
        return open_tables(files, description, inputs, options)
    return dataset_of(description, inputs, lambda: map(archive_part, files))


def holds_images(path: Path) -> bool:
    """Whether a folder or a file of SHARDS holds images; options of images apply to those alone."""
    files = shard_files(path) if path.is_dir() else [path]
    if not files or files[0].suffix.lower() == TAR:
        return True
    return files[0].suffix.lower() in TABLES and holds_pictures(files[0])


def shard_files(folder: Path) -> list[Path]:
    """The files of one kind of SHARDS in a folder, in the order of their names; none if it holds images.

    Refuses a mixture.
    """
    entries = _visible(folder)
    for suffix in SHARDS:
        if shards := [entry for entry in entries if entry.suffix.lower() == suffix]:
            _refuse_others(entries, shards, f"an {suffix} shard" if suffix[1] in "an" else f"a {suffix} shard")
            return shards
    return []


def image_files(folder: Path) -> tuple[list[Path], NDArray[np.int64] | None]:
    """The images of a folder, and labels [n] if each class has a subfolder. Refuses files that are not images."""
    entries = _visible(folder)
    classes = [entry for entry in entries if entry.is_dir()]
    files, labels = _classified(classes) if classes else (_images(entries), None)
    if not files:
        raise DataError(f"{folder}: a folder with neither shards nor images", SUFFIXES)
    _refuse_others(entries, classes or files, "a folder of images" if classes else "an image")
    return files, labels


def _visible(folder: Path) -> list[Path]:
    """What the folder holds, sorted by name; hidden entries (.DS_Store) are not data."""
    with named(f"{folder}: cannot be read", "check its permissions"):
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        special = [entry for entry in entries if not (entry.is_dir() or entry.is_file())]
    for entry in special:  # a pipe, which might be waited for without end, or a link to nothing
        raise DataError(f"{entry}: neither a file nor a folder", "move it out of the folder")
    return entries


def _images(entries: Iterable[Path]) -> list[Path]:
    return [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.is_dir()]


def _refuse_others(entries: Iterable[Path], known: Sequence[Path], kind: str) -> None:
    accepted = set(known)
    for entry in entries:
        if entry not in accepted:
            raise DataError(f"{entry}: not {kind}, unlike the other entries", "move it out of the folder")


def _classified(classes: Sequence[Path]) -> tuple[list[Path], NDArray[np.int64]]:
    """Images of all class folders, and labels [n]: the folders' names if all are integers, else their rank."""
    numbered = all(re.fullmatch(r"[0-9]{1,18}", folder.name) for folder in classes)
    files: list[Path] = []
    labels: list[int] = []
    for rank, folder in enumerate(classes):
        entries = _visible(folder)
        images = _images(entries)
        _refuse_others(entries, images, "an image")
        files += images
        labels += [int(folder.name) if numbered else rank] * len(images)
    return files, np.array(labels, np.int64)
