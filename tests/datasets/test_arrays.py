"""Arrays from .npz and .npy are read row by row; damage and lies about sizes are refused with the file's name."""

import io
import pickle
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import open_dataset
from graphpass.errors import DataError
from tests.properties import examples
from tests.sources import BAD, FLOAT32, IDS, SAMPLES, TARGETS, X, check_whole, refuse


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


@pytest.mark.parametrize("second", ["x.npy", "x"])  # numpy reads both as x
def test_an_npz_with_one_name_twice(tmp_path: Path, second: str) -> None:
    """Whichever of the two was meant, the other would be left out without a word."""
    path, array = tmp_path / "d.npz", io.BytesIO()
    np.save(array, SAMPLES)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # Python's, of the duplicate
        for name in ("x.npy", second):
            archive.writestr(name, array.getvalue())
    refuse(path, "two arrays have the name 'x'", "write it again with np.savez", [X])


def test_refused_npy(tmp_path: Path) -> None:
    path = tmp_path / "d.npy"
    np.save(path, SAMPLES)
    refuse(path, "one array for a model with several inputs", "save an .npz with the arrays x, ids", [X, IDS])
    whole = path.read_bytes()
    for end in (0, 5, 60, len(whole) - 1):
        path.write_bytes(whole[:end])
        refuse(path, "cannot be read as .npy (", "write it again with np.save", [X])
    np.save(path, SAMPLES.astype(object))
    refuse(path, "'x' holds Python objects, not numbers", "save it as a plain array of float32", [X])
    np.save(path, SAMPLES[:0])
    refuse(path, "no samples", "give at least one", [X])
    np.save(path, BAD)
    refuse(path, "in sample 4", "remove or repair the sample", [X])


def npy(kind: Any, shape: tuple[int, ...], body: bytes = b"") -> bytes:
    """An .npy whose header says this, whatever there is of it."""
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def write(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    """An .npy, or an .npz of it as `x`."""
    if path.suffix == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x.npy", content)
    return path


@pytest.mark.parametrize("name", ["d.npy", "d.npz", "shards/a.npz"])
@pytest.mark.parametrize(
    ("kind", "shape", "what"),
    [
        ("|S0", (10**14,), "its samples hold no values"),
        ("|V0", (10**14,), "its samples hold no values"),
        ("<U0", (10**14,), "its samples hold no values"),
        ([("a", "<f4", (0,))], (10**14,), "its samples hold no values"),
        ("<f4", (10**12, 0), "its samples hold no values"),
        ("<f4", (-5, 2), "'x' has shape (-5, 2)"),
        ("|O", (10**14,), "'x' holds Python objects, not numbers"),
        ([("a", "<f4")], (0,), "'x' has shape (0,)"),
        ("<f4", (10**14, 2), "cannot be read as .np"),
        ("<f4", (2**62, 2**62), "cannot be read as .np"),
    ],
)
def test_sizes_that_cost_nothing_to_claim(tmp_path: Path, name: str, kind: Any, shape: Any, what: str) -> None:
    (tmp_path / "shards").mkdir()
    path = write(tmp_path / name, npy(kind, shape))
    with pytest.raises(DataError) as refusal:
        open_dataset(str(path.parent if "/" in name else path), [InputSpec("x", FLOAT32, (None, None))])
    assert refusal.value.what.startswith(f"{path}: ") and what in refusal.value.what and refusal.value.remedy


def test_a_directory_that_lies_about_sizes(tmp_path: Path) -> None:
    """Deflate unpacks a byte to at most 1,032 bytes, and reads nothing behind the end of the archive."""
    path = write(tmp_path / "d.npz", npy("<f4", (10**9, 2), bytes(800)), zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    entry = content.index(b"PK\x01\x02")
    for packed in (None, 2**32 - 2):
        with path.open("r+b") as file:
            if packed is not None:
                file.seek(entry + 20)
                file.write(struct.pack("<I", packed))
            file.seek(entry + 24)
            file.write(struct.pack("<I", 2**32 - 2))
        refuse(path, "'x.npy' cannot be 4,294,967,294 bytes, packed to", "write it again with np.savez", [X])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy("<f4", (10**6, 3, 2), bytes(24 * 10**6)))
    refuse(path, "'x.npy' is neither stored nor deflated", "write it again with np.savez", [X])


SIZES = st.integers(-2, 4) | st.sampled_from([2**31, 2**32 + 1, 2**63 - 1, 2**63, 2**64, 10**30])
KINDS = st.sampled_from(["|S0", "<U0", "|V0", "|u1", "|S1", "<f4", ">f8", "?", "|O", [("a", "|V0")], "<f4:", None, 7])


@given(KINDS, st.lists(SIZES, max_size=4).map(tuple), st.integers(0, 300), st.booleans())
@examples(150)  # each example writes a file
def test_samples_are_never_more_than_bytes(kind: Any, shape: tuple[int, ...], size: int, packed: bool) -> None:
    spec = InputSpec("x", np.dtype(np.uint8 if kind == "|u1" else np.float32), (None,) * len(shape))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "d.npz" if packed else "d.npy"), npy(kind, shape, bytes(size)))
        try:
            samples = open_dataset(str(path), [spec]).samples
        except DataError:
            return
        assert samples is not None and 0 < samples <= path.stat().st_size


def of_python_2(order: Literal["C", "F"]) -> bytes:
    """An .npy as NumPy wrote it in Python 2: sizes are `long`."""
    text = f"{{'descr': '<f4', 'fortran_order': {order == 'F'}, 'shape': (7L, 3L, 2L), }}".encode()
    header = text.ljust(128 - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + SAMPLES.astype("<f4").tobytes(order)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_python_2_are_read_without_a_warning(tmp_path: Path, order: Literal["C", "F"]) -> None:
    (tmp_path / "d.npy").write_bytes(of_python_2(order))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", of_python_2(order))
    with pytest.warns(UserWarning, match="Python 2"):  # what NumPy says of it
        np.load(tmp_path / "d.npy")
    for name in ("d.npy", "d.npz"):
        check_whole(open_dataset(str(tmp_path / name), [X]), labelled=False)


def test_npy_in_fortran_order(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.asfortranarray(SAMPLES))
    check_whole(open_dataset(str(tmp_path / "d.npy"), [X]), labelled=False)
