"""Calibration and evaluation data: every source becomes the same ordered batches of a model's inputs.

    source               what it is                                      held in memory
    x.npz                arrays by input name, optionally "labels"       a batch: members are read row by row
    x.npy                the samples of a model with one input           a batch: the file is memory-mapped
    x.parquet, x.arrow   columns of arrays, or of encoded images         some rows
    x.tar                images as WebDataset lays them out              a batch: decoded when it is read
    folder of these      shards in the order of their names              the same
    folder of images     a subfolder for each class, or a flat folder    a batch: decoded when it is read
    file.py:function     a function that yields dicts of arrays          what it yields, and a batch
    dict of arrays       `from_arrays`                                   the arrays

A member of an .npz that was saved in Fortran order is the exception: it is loaded whole. Names, shapes, types
and lengths are checked when a source is opened, from headers alone; values (NaN, inf, integers out of range)
and all that a function yields after its first dict are checked when read. Batches may be read-only views.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.arrays import array_part, npy_part
from graphpass.datasets.dataset import Dataset, dataset_of
from graphpass.datasets.folders import SHARDS, SUFFIXES, holds_images, open_files, open_folder
from graphpass.datasets.functions import code_of, open_function
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import InputSpec
from graphpass.errors import DataError


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputSpec], description: str = "arrays"
) -> Dataset:
    """Arrays [n, ...] by input name, optionally "labels". Raises DataError if they do not fit the model."""
    part = array_part(description, {name: np.asarray(array) for name, array in arrays.items()})
    return dataset_of(description, inputs, lambda: [part])


def open_dataset(
    source: str, inputs: Sequence[InputSpec], images: ImageOptions | None = None, allow_code: bool = False
) -> Dataset:
    """Open one of the sources of the module's table.

    images: how a folder of images is prepared; other sources ignore it. The labels of images are the ranks of their
    folders' names, or the names themselves where all are integers. allow_code: whether the file of file.py:function
    may be imported and its function called; it is called again for every pass.
    Raises DataError naming the file and the remedy, OptionError for image options that make no sense.
    """
    code = code_of(source)
    path = path_of(source)
    if not os.path.exists(path):  # unlike the method, it takes names that cannot exist
        raise DataError(f"{path}: no such file or folder", SUFFIXES)
    if not (path.is_dir() or path.is_file()):
        raise DataError(f"{path}: neither a file nor a folder", SUFFIXES)
    if code:
        return open_function(path, code[1], inputs, allow_code)
    if path.is_dir():
        return open_folder(path, inputs, images or ImageOptions())
    match path.suffix.lower():
        case suffix if suffix in SHARDS:
            return open_files([path], path.name, inputs, images or ImageOptions())
        case ".npy":
            return dataset_of(path.name, inputs, lambda: [npy_part(path, inputs)])
        case ".py":
            raise DataError(f"{path}: which function yields the data?", f"write {path}:function")
    raise DataError(f"{path}: data of an unknown kind", SUFFIXES)


def path_of(source: str) -> Path:
    """The file or folder that a source is read from; for a function, the file of its code."""
    code = code_of(source)
    return code[0] if code else Path(source)


def is_made_of_images(source: str) -> bool:
    """Whether the samples of a source are made of images; options of images apply to those alone."""
    path = path_of(source)
    known = os.path.isdir(path) or (os.path.isfile(path) and path.suffix.lower() in SHARDS)
    return known and holds_images(path)
