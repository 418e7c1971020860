"""A folder as a dataset: .npz shards, images in a subfolder for each class, or images without labels."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.arrays import archive_part
from graphpass.datasets.dataset import Dataset, dataset_of
from graphpass.datasets.images import IMAGE_SUFFIXES, ImageOptions, digest_of_files, frame_for, image_part
from graphpass.datasets.parts import InputSpec, named
from graphpass.errors import DataError

SUFFIXES = "use .npz, .npy, a folder of .npz shards, a folder of images or file.py:function"


def open_folder(folder: Path, inputs: Sequence[InputSpec], options: ImageOptions) -> Dataset:
    """Open a folder that holds data of one kind. Anything else in it is refused; hidden entries are ignored."""
    if shards := shard_files(folder):
        return dataset_of(folder.name, inputs, lambda: map(archive_part, shards))
    files, labels = image_files(folder)
    frame = frame_for(folder, inputs, options)
    return dataset_of(
        folder.name,
        inputs,
        lambda: [image_part(folder, inputs[0].name, files, labels, frame)],
        lambda: digest_of_files(files, labels, frame),
    )


def shard_files(folder: Path) -> list[Path]:
    """The .npz shards of a folder in the order of their names; none if it holds images. Refuses a mixture."""
    entries = _visible(folder)
    shards = [entry for entry in entries if entry.suffix.lower() == ".npz"]
    if shards:
        _refuse_others(entries, shards, "an .npz shard")
    return shards


def image_files(folder: Path) -> tuple[list[Path], NDArray[np.int64] | None]:
    """The images of a folder, and labels [n] if each class has a subfolder. Refuses files that are not images."""
    entries = _visible(folder)
    classes = [entry for entry in entries if entry.is_dir()]
    files, labels = _classified(classes) if classes else (_images(entries), None)
    if not files:
        raise DataError(f"{folder}: a folder with neither .npz shards nor images", SUFFIXES)
    _refuse_others(entries, classes or files, "a folder of images" if classes else "an image")
    return files, labels


def _visible(folder: Path) -> list[Path]:
    """What the folder holds, sorted by name; hidden entries (.DS_Store) are not data."""
    with named(f"{folder}: cannot be read", "check its permissions"):
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


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
