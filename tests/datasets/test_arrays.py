"""Arrays from .npz and .npy are read row by row; damage is refused with the file's name."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpass.datasets.sources import open_dataset
from tests.sources import BAD, IDS, SAMPLES, TARGETS, X, check_whole, refuse


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4"])
def test_npz(tmp_path: Path, save: Callable[..., None], order: Any, kind: str) -> None:
    save(tmp_path / "d.npz", x=np.array(SAMPLES, kind, order=order), labels=TARGETS.astype(np.uint8))
    dataset = open_dataset(str(tmp_path / "d.npz"), [X])
    assert (dataset.description, dataset.samples) == ("d.npz", 7)
    check_whole(dataset)


def test_npy_is_mapped_and_unlabelled(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", SAMPLES)
    dataset = open_dataset(str(tmp_path / "d.npy"), [X])
    check_whole(dataset, labelled=False)
    rows = next(dataset.batches(2)).inputs["x"]
    assert not rows.flags.owndata and not rows.flags.writeable  # a view of the file


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "d.npz"
    save(path, x=SAMPLES, labels=TARGETS)
    whole = path.read_bytes()
    for start in range(0, len(whole), 7):
        path.write_bytes(whole[:start])
        refuse(path, "cannot be read as .npz (", "write it again with np.savez", [X])
    middle = whole.index(SAMPLES.tobytes()[:8]) if save is np.savez else 180
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    refuse(path, "cannot be read as .npz (", "write it again with np.savez", [X])


def test_npz_members_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", pickle.dumps([1, 2]))
    refuse(path, "cannot be read as .npz (ValueError: the magic string", "write it again with np.savez", [X])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (9, 3, 2), "fortran_order": False, "descr": "<f4"})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    refuse(path, "'x' is shorter than its header says", "write it again", [X])


def test_refused_npy(tmp_path: Path) -> None:
    path = tmp_path / "d.npy"
    np.save(path, SAMPLES)
    refuse(path, "one array for a model with several inputs", "save an .npz with the arrays x, ids", [X, IDS])
    whole = path.read_bytes()
    for end in (0, 5, 60, len(whole) - 1):
        path.write_bytes(whole[:end])
        refuse(path, "cannot be read as .npy (", "write it again with np.save", [X])
    np.save(path, SAMPLES.astype(object))
    refuse(path, "'x' holds pickled Python objects", "save it as a plain array of float32", [X])
    np.save(path, SAMPLES[:0])
    refuse(path, "no samples", "give at least one", [X])
    np.save(path, BAD)
    refuse(path, "in sample 4", "remove or repair the sample", [X])
