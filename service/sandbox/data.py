"""A user's data file as a dataset. Its bytes say what it is, never its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphpass.datasets.arrays import archive_part, npy_part
from graphpass.datasets.dataset import Dataset, dataset_of
from graphpass.datasets.folders import image_files, open_folder, shard_files
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import LABELS, Header, InputSpec
from graphpass.datasets.tables import holds_pictures, is_parquet, open_tables, size_of
from graphpass.datasets.tars import is_tar, open_tars, tar_pictures
from graphpass.errors import DataError
from service.sandbox.archives import is_archive, listing, unpack
from service.sandbox.workplace import Workplace

NPY = b"\x93NUMPY"
NUMBERS = "biuf"  # kinds of dtypes that a model takes, or that are labels
KINDS = (
    "give an .npz, an .npy, a .zip of .npz shards or of images with one folder a class, or a .tar or .parquet of images"
)


@dataclass(frozen=True)
class DataFile:
    """kind: npz, npy, shards, images (in a folder), tar or parquet (images, too). path: of the file, or of the folder
    that it was unpacked to.
    """

    kind: str
    path: Path

    def dataset(self, inputs: Sequence[InputSpec], images: ImageOptions) -> Dataset:
        """The samples for a model's inputs. Raises DataError where they do not fit."""
        match self.kind:
            case "npz":
                return dataset_of(self.path.name, inputs, lambda: [archive_part(self.path)])
            case "npy":
                return dataset_of(self.path.name, inputs, lambda: [npy_part(self.path, inputs)])
            case "tar":
                return open_tars([self.path], self.path.name, inputs, images)
            case "parquet":
                return open_tables([self.path], self.path.name, inputs, images)
        return open_folder(self.path, inputs, images)

    def describe(self) -> dict[str, Any]:
        """Describe the data as far as that is possible without a model."""
        match self.kind:
            case "npz":
                return _described([self.path])
            case "npy":
                (column,) = npy_part(self.path, [InputSpec("array", np.dtype(np.float32), ())]).columns.values()
                return _summary({"array": column}, self.path)
            case "shards":
                return _described(shard_files(self.path))
            case "tar":
                pictures, labels = tar_pictures(self.path)
                return _of_images(len(pictures), labels is not None)
            case "parquet":
                if not holds_pictures(self.path):
                    raise DataError(f"{self.path}: a table without a column of images", "give arrays as .npz or .npy")
                return _of_images(*size_of(self.path))
        files, labels = image_files(self.path)
        if empty := next((file for file in files if not file.stat().st_size), None):
            raise DataError(f"{empty}: an empty file", "leave it out, or give the image")
        classes = sorted({file.parent.name for file in files}) if labels is not None else []
        return {**_of_images(len(files), labels is not None), "classes": classes}


def _of_images(samples: int, labels: bool) -> dict[str, Any]:
    return {"samples": samples, "labels": labels, "arrays": {}, "classes": []}


def data_file(place: Workplace, role: str) -> DataFile:
    """The data of an argument, unpacked where it is an archive of files."""
    path = place.file(role)
    if not is_archive(path):
        with path.open("rb") as file:
            start = file.read(len(NPY))
        kind = "npy" if start == NPY else "tar" if is_tar(path) else "parquet" if is_parquet(path) else ""
        if not kind:
            raise DataError(f"{path}: data of an unknown kind", KINDS)
        return DataFile(kind, path)
    names = [info.filename for info in listing(path, place.limits, DataError)]
    if names and all(name.endswith(".npy") for name in names):
        return DataFile("npz", path)
    folder = place.scratch(role)
    unpack(path, folder, place.limits, DataError)
    folder = _root(folder)
    shards = shard_files(folder)
    if shards and shards[0].suffix.lower() != ".npz":
        raise DataError(f"{path}: a .zip of {shards[0].suffix} files", "give one such file, as it is")
    return DataFile("shards" if shards else "images", folder)


def _root(folder: Path) -> Path:
    """The folder that holds the data: most archives have one folder with everything in it at their top."""
    while True:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        if not any(inner.is_dir() or inner.suffix.lower() == ".npz" for inner in entries[0].iterdir()):
            return folder  # one class of images
        folder = entries[0]


def _described(files: Sequence[Path]) -> dict[str, Any]:
    """The description of one .npz, or of shards that fit together."""
    parts = [(path, archive_part(path).columns) for path in files]
    summaries = [_summary(columns, path) for path, columns in parts]
    first = summaries[0]
    for path, other in zip(files, summaries, strict=True):
        if _forms(other) != _forms(first):
            raise DataError(
                f"{path}: arrays of other names, shapes or types than in {files[0]}", "save all in the same way"
            )
    samples = sum(each["samples"] for each in summaries)
    arrays = {name: {**array, "shape": [samples, *array["shape"][1:]]} for name, array in first["arrays"].items()}
    return {**first, "samples": samples, "arrays": arrays}


def _forms(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: (array["dtype"], array["shape"][1:]) for name, array in summary["arrays"].items()}


def _summary(columns: Any, path: Path) -> dict[str, Any]:
    headers: dict[str, Header] = dict(columns)
    if not headers:
        raise DataError(f"{path}: no arrays", KINDS)
    for name, header in headers.items():
        if header.dtype.hasobject:
            raise DataError(
                f"{path}: {name!r} holds Python objects, not numbers", "save it as a plain array of numbers"
            )
        if header.dtype.kind not in NUMBERS:
            raise DataError(f"{path}: {name!r} is {header.dtype}", "save an array of numbers, or of true and false")
        if not header.shape:
            raise DataError(f"{path}: {name!r} has no axis of samples", "give every array the samples on axis 0")
    lengths = {header.shape[0] for header in headers.values()}
    if len(lengths) > 1:
        raise DataError(
            f"{path}: arrays of {', '.join(map(str, sorted(lengths)))} samples",
            "give all arrays the same number of samples",
        )
    if lengths == {0}:
        raise DataError(f"{path}: no samples", "give at least one")
    arrays = {name: {"dtype": str(h.dtype), "shape": list(h.shape)} for name, h in headers.items()}
    return {"samples": lengths.pop(), "labels": LABELS in headers, "arrays": arrays}
