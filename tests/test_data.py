"""Every source gives the same batches, and whatever does not fit is refused with its file and a remedy."""

import io
import itertools
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from graphpass.data import DIGEST_SAMPLES, Batch, Dataset, ImageOptions, InputSpec, from_arrays, open_dataset
from graphpass.errors import DataError, OptionError

FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)
X = InputSpec("x", FLOAT32, (None, 3, 2))
IDS = InputSpec("ids", INT64, (None, None))
PIXELS = InputSpec("x", FLOAT32, (None, 3, 4, 6))
SAMPLES = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
TARGETS = np.arange(7) % 4


def together(batches: list[Batch]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    labels = [batch.labels for batch in batches if batch.labels is not None]
    return np.concatenate([batch.inputs["x"] for batch in batches]), np.concatenate(labels) if labels else None


def check_whole(dataset: Dataset, labelled: bool = True) -> None:
    """All samples, in order, twice, in batches of 3, 3 and 1."""
    for _ in range(2):
        batches = list(dataset.batches(3))
        assert [batch.size for batch in batches] == [3, 3, 1]
        samples, labels = together(batches)
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples, SAMPLES)
        if labelled:
            assert labels is not None and labels.dtype == np.int64
            np.testing.assert_array_equal(labels, TARGETS)
    assert dataset.labelled is labelled
    assert dataset.samples in (7, None)


def save_npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def save_shards(folder: Path) -> str:
    for index, rows in enumerate((slice(0, 2), slice(2, 2), slice(2, 7))):
        save_npz(folder / f"shard{index}.npz", x=SAMPLES[rows], labels=TARGETS[rows])
    return str(folder)


def save_code(folder: Path, body: str) -> str:
    (folder / "source.py").write_text(f"import numpy as np\nX = np.zeros((2, 3, 2), np.float32)\n{body}")
    return f"{folder}/source.py:batches"


def save_function(folder: Path) -> str:
    np.save(folder / "x.npy", SAMPLES)
    body = f"""
def batches():
    buffer = np.empty((1, 3, 2), np.float32)
    for index, row in enumerate(np.load({str(folder / "x.npy")!r})):
        buffer[0] = row
        yield {{"x": buffer, "labels": [index % 4]}}
"""
    return save_code(folder, body)


# ---- sources


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


def test_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    check_whole(open_dataset(save_shards(tmp_path), [X]))


def test_function_that_refills_its_buffer(tmp_path: Path) -> None:
    dataset = open_dataset(save_function(tmp_path), [X], allow_code=True)
    assert (dataset.description, dataset.samples) == ("source.py:batches", None)
    check_whole(dataset)


def test_arrays() -> None:
    check_whole(from_arrays({"x": SAMPLES, "labels": TARGETS}, [X]))


def test_several_inputs_and_labels_of_any_form() -> None:
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.ones((7, 5), np.int32),
        "x": SAMPLES,
        "labels": np.ones((7, 2)),
    }
    batch = next(from_arrays(arrays, [X, IDS]).batches(10))
    assert list(batch.inputs) == ["x", "ids"]
    assert batch.inputs["ids"].dtype == np.int64
    assert batch.labels is not None and batch.labels.shape == (7, 2) and batch.labels.dtype == np.float64


def test_an_input_named_labels_is_an_input() -> None:
    spec = InputSpec("labels", FLOAT32, (None, 3, 2))
    dataset = from_arrays({"labels": SAMPLES}, [spec])
    assert not dataset.labelled
    assert next(dataset.batches(7)).labels is None


def test_fixed_batch_takes_any_number_of_samples() -> None:
    dataset = from_arrays({"x": SAMPLES}, [InputSpec("x", FLOAT32, (4, 3, 2))])
    assert [batch.size for batch in dataset.batches(4)] == [4, 3]


@pytest.mark.parametrize(
    ("given_type", "wanted"),
    [("f8", "f4"), ("f4", "f2"), ("f2", "f4"), ("i4", "i8"), ("u1", "i4"), ("i8", "u1"), ("?", "?")],
)
def test_types_cast_within_a_kind(given_type: str, wanted: str) -> None:
    rows = np.array([[0], [1]], given_type)
    batch = next(from_arrays({"x": rows}, [InputSpec("x", np.dtype(wanted), (None, 1))]).batches(2))
    assert batch.inputs["x"].dtype == np.dtype(wanted)
    np.testing.assert_array_equal(batch.inputs["x"], rows)


# ---- batches and digest


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    size=st.integers(1, 12),
    limit=st.none() | st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)  # each example writes files
def test_batches_are_the_first_samples(lengths: list[int], size: int, limit: int | None) -> None:
    total = sum(lengths)
    rows, labels = np.arange(total * 2, dtype=np.float32).reshape(total, 2), np.arange(total)
    spec = InputSpec("x", FLOAT32, (None, 2))
    with tempfile.TemporaryDirectory() as folder:
        for index, (start, stop) in enumerate(itertools.pairwise(np.cumsum([0, *lengths]))):
            save_npz(Path(folder, f"{index}.npz"), x=rows[start:stop], labels=labels[start:stop])
        cut = list(open_dataset(folder, [spec]).batches(size, limit))
    whole = list(from_arrays({"x": rows, "labels": labels}, [spec]).batches(size, limit))
    kept = total if limit is None else min(limit, total)
    for batches in (cut, whole):
        assert [batch.size for batch in batches] == [size] * (kept // size) + [kept % size] * (kept % size > 0)
        samples, targets = together(batches)
        np.testing.assert_array_equal(samples, rows[:kept])
        assert targets is not None
        np.testing.assert_array_equal(targets, labels[:kept])


@pytest.mark.parametrize(("size", "limit"), [(0, None), (-1, None), (1, 0)])
def test_sizes_below_one_are_refused(size: int, limit: int | None) -> None:
    with pytest.raises(OptionError, match=r"arrays: .*; choose a size and a limit of 1 or more"):
        from_arrays({"x": SAMPLES}, [X]).batches(size, limit)


def test_a_limit_ends_a_function_without_end(tmp_path: Path) -> None:
    source = save_code(tmp_path, "def batches():\n    while True:\n        yield {'x': X}\n")
    batches = list(open_dataset(source, [X], allow_code=True).batches(3, 7))
    assert [batch.size for batch in batches] == [3, 3, 1]


def test_only_one_shard_is_read_at_a_time(tmp_path: Path) -> None:
    save_shards(tmp_path)
    batches = open_dataset(str(tmp_path), [X]).batches(2)
    next(batches)
    (tmp_path / "shard2.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"shard2\.npz"):
        next(batches)


def test_digest_is_of_the_samples_alone(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {"x": SAMPLES, "labels": TARGETS}
    expected = from_arrays(arrays, [X]).digest
    assert re.fullmatch("[0-9a-f]{64}", expected)
    wide: dict[str, NDArray[Any]] = {
        "labels": TARGETS.astype(np.int16),
        "x": SAMPLES.astype(">f8", order="F"),
    }
    (tmp_path / "shards").mkdir()
    for source in (
        save_npz(tmp_path / "d.npz", **arrays),
        save_npz(tmp_path / "wide.npz", **wide),
        save_shards(tmp_path / "shards"),
        save_function(tmp_path),
    ):
        assert open_dataset(source, [X], allow_code=True).digest == expected, source
    os.utime(tmp_path / "d.npz", (0, 0))
    assert open_dataset(str(tmp_path / "d.npz"), [X]).digest == expected
    assert open_dataset(str(tmp_path / "x.npy"), [X]).digest == from_arrays({"x": SAMPLES}, [X]).digest


@pytest.mark.parametrize(
    "other",
    [
        {"x": SAMPLES},
        {"x": SAMPLES[::-1], "labels": TARGETS},
        {"x": SAMPLES, "labels": TARGETS[::-1]},
        {"x": SAMPLES[:6], "labels": TARGETS[:6]},
    ],
)
def test_digest_tells_other_samples_apart(other: dict[str, Any]) -> None:
    assert from_arrays(other, [X]).digest != from_arrays({"x": SAMPLES, "labels": TARGETS}, [X]).digest


def test_digest_depends_on_the_shape() -> None:
    spec = InputSpec("x", FLOAT32, (None, None))
    rows = np.zeros((6, 4), np.float32)
    assert from_arrays({"x": rows}, [spec]).digest != from_arrays({"x": rows.reshape(4, 6)}, [spec]).digest


def test_digest_of_a_function_without_end(tmp_path: Path) -> None:
    source = save_code(tmp_path, "def batches():\n    while True:\n        yield {'x': X.repeat(999, 0)}\n")
    same = from_arrays({"x": np.zeros((DIGEST_SAMPLES, 3, 2), np.float32)}, [X])
    assert open_dataset(source, [X], allow_code=True).digest == same.digest


# ---- refusals: one line with the place and the remedy

BAD = SAMPLES.copy()
BAD[4, 0, 0] = np.nan
NAMES = "name the arrays x, ids, and optionally labels"
LENGTHS = "give every array the same length on axis 0"
REFUSALS: dict[str, tuple[list[InputSpec], dict[str, Any], str, str]] = {
    "renamed": ([X], {"arr_0": SAMPLES}, "holds 'arr_0' where", "rename the array, for example np.savez("),
    "missing": ([X, IDS], {"x": SAMPLES}, "'ids' is missing", NAMES),
    "wrong": ([X, IDS], {"x": SAMPLES, "idx": TARGETS}, "'ids' is missing, 'idx' is not an input", NAMES),
    "extra": ([X], {"x": SAMPLES, "y": SAMPLES}, "'y' is not an input", "name the arrays x, and"),
    "empty archive": ([X], {}, "'x' is missing", "name the arrays x"),
    "rank": ([X], {"x": SAMPLES[0]}, "shape (3, 2), the model takes (N, 3, 2)", "reshape, transpose"),
    "dimension": (
        [X],
        {"x": SAMPLES[:, :2]},
        "shape (7, 2, 2), the model takes (N, 3, 2)",
        "reshape, transpose",
    ),
    "scalar": ([X], {"x": np.float32(0)}, "shape (), the model takes (N, 3, 2)", "reshape"),
    "images": (
        [X],
        {"x": SAMPLES.astype(np.uint8)},
        "is uint8, the model takes float32",
        "scale it as in tr",
    ),
    "integers": (
        [X],
        {"x": SAMPLES.astype(np.int64)},
        "is int64, the model takes float32",
        "save it as float32",
    ),
    "floats": ([IDS], {"ids": np.ones((7, 2))}, "is float64, the model takes int64", "save it as int64"),
    "text": ([IDS], {"ids": np.full((7, 2), "a")}, "the model takes int64", "save it as int64"),
    "complex": ([X], {"x": SAMPLES * 1j}, "is complex64, the model takes", "save it as float32"),
    "objects": (
        [X],
        {"x": SAMPLES.astype(object)},
        "'x' holds pickled Python objects",
        "save it as a plain array",
    ),
    "no samples": ([X], {"x": SAMPLES[:0]}, "no samples", "give at least one"),
    "lengths": ([X, IDS], {"x": SAMPLES, "ids": np.ones((6, 2), int)}, "'ids' has shape (6, 2)", LENGTHS),
    "label length": ([X], {"x": SAMPLES, "labels": TARGETS[:6]}, "'labels' has shape (6,)", LENGTHS),
    "label scalar": ([X], {"x": SAMPLES, "labels": np.int64(3)}, "'labels' has shape ()", LENGTHS),
    "label text": ([X], {"x": SAMPLES, "labels": np.full(7, "cat")}, "labels of type", "labels as integers"),
    "label objects": ([X], {"x": SAMPLES, "labels": TARGETS.astype(object)}, "labels of type", "as integers"),
    "nan": ([X], {"x": BAD}, "'x' holds NaN or inf as float32 in sample 4", "remove or repair the sample"),
    "overflow": (
        [X],
        {"x": BAD.astype(float) * 0 + 1e39},
        "NaN or inf as float32 in sample 0",
        "remove or rep",
    ),
    "range": (
        [IDS],
        {"ids": np.full((7, 2), 2**63, np.uint64)},
        "out of range as int64 in sample 0",
        "int64 can",
    ),
}


@pytest.mark.parametrize("home", ["arrays", "npz"])
@pytest.mark.parametrize("case", REFUSALS)
def test_refused_arrays(tmp_path: Path, case: str, home: str) -> None:
    inputs, arrays, what, remedy = REFUSALS[case]
    where = "arrays" if home == "arrays" else save_npz(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError) as refusal:  # noqa: PT012 - opening or reading may refuse
        dataset = from_arrays(arrays, inputs) if home == "arrays" else open_dataset(where, inputs)
        list(dataset.batches(3))
    check_refusal(refusal.value, where, what, remedy)


def check_refusal(error: DataError, where: str, what: str, remedy: str) -> None:
    assert error.what.startswith(where)
    assert what in error.what
    assert remedy in error.remedy
    assert "\n" not in str(error)


def refuse(source: Path | str, what: str, remedy: str, inputs: list[InputSpec], where: str = "") -> None:
    """Opening and reading the source raises; the error starts with `where`, by default the source."""
    with pytest.raises(DataError) as refusal:
        list(open_dataset(str(source), inputs, allow_code=True).batches(2))
    check_refusal(refusal.value, where or str(source), what, remedy)


def test_refused_names(tmp_path: Path) -> None:
    refuse(tmp_path / "none.npz", "no such file or folder", "use .npz, .npy", [X])
    refuse("\0", "no such file", "use .npz", [X])
    (tmp_path / "d.csv").write_text("1,2")
    refuse(tmp_path / "d.csv", "data of an unknown kind", "use .npz, .npy", [X])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".DS_Store").write_text("hidden")
    refuse(tmp_path / "folder", "neither .npz shards nor images", "use .npz, .npy", [X])


def test_refused_models() -> None:
    with pytest.raises(DataError, match="model has no inputs; give a model"):
        from_arrays({}, [])
    with pytest.raises(DataError, match="model input 'x' has no batch axis; make it a constant"):
        from_arrays({"x": SAMPLES}, [InputSpec("x", FLOAT32, ())])


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


def test_shards_that_do_not_fit_together(tmp_path: Path) -> None:
    save_npz(tmp_path / "0.npz", ids=np.ones((2, 3), int), labels=TARGETS[:2])
    second = tmp_path / "1.npz"
    remedy = "pad or crop every sample to one shape, and label all of them or none"
    save_npz(second, ids=np.ones((2, 4), int), labels=TARGETS[:2])
    refuse(tmp_path, "'ids' has samples of another shape or type than in", remedy, [IDS], str(second))
    save_npz(second, ids=np.ones((2, 3), int))
    refuse(tmp_path, "'labels' has samples of another shape or type", remedy, [IDS], str(second))
    save_npz(second, ids=np.ones((2, 3), int), labels=[0.5, 1])
    refuse(tmp_path, "'labels' has samples of another shape or type", remedy, [IDS], str(second))
    second.write_bytes(b"no archive")
    refuse(tmp_path, "cannot be read as .npz", "write it again", [IDS], str(second))
    second.unlink()
    (tmp_path / "notes.txt").write_text("")
    refuse(tmp_path, "not an .npz shard", "move it out", [IDS], str(tmp_path / "notes.txt"))


def test_shards_without_samples(tmp_path: Path) -> None:
    save_npz(tmp_path / "0.npz", x=SAMPLES[:0])
    refuse(tmp_path, "no samples", "give at least one", [X], str(tmp_path / "0.npz"))


# ---- functions


def test_code_needs_permission(tmp_path: Path) -> None:
    source = save_code(tmp_path, "raise SystemExit('imported')")
    with pytest.raises(DataError) as refusal:
        open_dataset(source, [X])
    check_refusal(refusal.value, source, "not allowed here", "save what it yields as .npz")


@pytest.mark.parametrize(
    ("body", "what", "remedy"),
    [
        ("import no_such_module", "failed on import (ModuleNotFoundError", "set PYTHONPATH"),
        ("raise SystemExit(0)", "failed on import (SystemExit", "mend it"),
        ("def other(): pass", "has no function 'batches'", "define batches()"),
        ("batches = 3", "has no function 'batches'", "define batches()"),
        ("def batches(path): pass", "failed (TypeError", "it takes no arguments"),
        ("def batches(): return 3", "failed (TypeError", "yields dicts of arrays"),
        ("def batches(): yield X; raise OSError", "item 0: is a ndarray", "yield dicts of arrays keyed by"),
        ("def batches(): yield None", "item 0: is a NoneType", "yield dicts of arrays keyed by"),
        ("def batches(): yield {'x': [[1], [1, 2]]}", "item 0: is not made of arrays", "numpy arrays"),
        (
            "def batches(): yield {'x': X}; raise OSError('two\\nlines')",
            "item 1: failed (OSError: two lines)",
            "",
        ),
        ("def batches(): yield {'x': X}; yield {'y': X}", "item 1: holds 'y'", "rename the array"),
        ("def batches(): yield {'x': X}; yield {'x': X + np.inf}", "item 1: 'x' holds NaN or inf", "repair"),
        (
            "def batches(): yield {'x': X}; yield {'x': X, 'labels': [0, 1]}",
            "item 1: 'labels' has",
            "label all",
        ),
        ("def batches(): yield from ()", "no samples", "start afresh when called again"),
        ("def batches(): yield {'x': X[:0]}", "no samples", "start afresh when called again"),
        ("once = iter([{'x': X}])\ndef batches(): return once", "returns one iterator twice", "use yield"),
    ],
)
def test_refused_functions(tmp_path: Path, body: str, what: str, remedy: str) -> None:
    source = save_code(tmp_path, body)
    refuse(source, what, remedy, [X], source.removesuffix(":batches"))


def test_refused_python_files(tmp_path: Path) -> None:
    path = save_code(tmp_path, "").removesuffix(":batches")
    refuse(path, "which function yields the data?", f"write {path}:function", [X])
    refuse(tmp_path / "none.py:batches", "no such file", "use", [X], str(tmp_path / "none.py"))


def test_functions_may_use_dataclasses_and_lists(tmp_path: Path) -> None:
    body = """
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
@dataclass
class Row:
    x: np.ndarray
def batches():
    return [{"x": Row(np.ones((2, 3, 2))).x}]
"""
    (tmp_path / "rows.py").write_text(body)
    dataset = open_dataset(f"{tmp_path}/rows.py:batches", [X], allow_code=True)
    for _ in range(2):
        assert next(dataset.batches(2)).inputs["x"].sum() == 12


# ---- folders of images

RGB = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


def save_image(path: Path, pixels: NDArray[np.uint8] = RGB, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def first(folder: Path, spec: InputSpec, images: ImageOptions | None = None) -> NDArray[Any]:
    (image,) = next(open_dataset(str(folder), [spec], images).batches(1)).inputs["x"]
    return np.asarray(image)


def test_classes_are_labelled_in_the_order_of_their_names(tmp_path: Path) -> None:
    for index, name in enumerate(["cat/b.png", "cat/a.bmp", "ape/z.PNG", "dog/w.webp"]):
        options = {"lossless": True} if name.endswith("webp") else {}
        save_image(tmp_path / name, np.full((4, 6, 3), index, np.uint8), **options)
    (tmp_path / "bee").mkdir()  # a class without images keeps its number
    dataset = open_dataset(str(tmp_path), [PIXELS])
    assert (dataset.description, dataset.samples, dataset.labelled) == (tmp_path.name, 4, True)
    batches = list(dataset.batches(3))
    assert [batch.size for batch in batches] == [3, 1]
    samples, labels = together(batches)
    assert labels is not None and labels.tolist() == [0, 2, 2, 3] and labels.dtype == np.int64
    np.testing.assert_array_equal(samples[:, 0, 0, 0], np.array([2, 1, 0, 3], np.float32) / np.float32(255))


def test_integer_class_names_are_the_labels(tmp_path: Path) -> None:
    for name in ("7", "10", "007"):
        save_image(tmp_path / name / "a.png")
    _, labels = together(list(open_dataset(str(tmp_path), [PIXELS]).batches(3)))
    assert labels is not None and labels.tolist() == [7, 10, 7]


def test_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    save_image(tmp_path / "b.jpeg")
    dataset = open_dataset(str(tmp_path), [PIXELS])
    assert (dataset.samples, dataset.labelled) == (2, False)
    assert next(dataset.batches(2)).labels is None


def test_preparation_is_scale_then_normalise(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    expected = ((RGB / 255 - mean) / std).astype(np.float32)
    for axes, spec in (((2, 0, 1), PIXELS), ((0, 1, 2), InputSpec("x", FLOAT32, (None, 4, 6, 3)))):
        pixels = first(tmp_path, spec, ImageOptions(mean=mean, std=std))
        # three roundings of values below 1 (2^-25 each) over std 0.25, two of values below 4 (2^-23 each)
        np.testing.assert_allclose(pixels, expected.transpose(axes), rtol=0, atol=1e-6)


def test_one_channel(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", RGB[..., 0])
    pixels = first(tmp_path, InputSpec("x", FLOAT32, (None, 1, 4, 6)))
    np.testing.assert_array_equal(pixels[0], RGB[..., 0].astype(np.float32) / np.float32(255))
    save_image(tmp_path / "a.png", RGB.repeat(1, 2))
    assert first(tmp_path, InputSpec("x", FLOAT32, (None, 4, 6, 1))).shape == (4, 6, 1)


def test_size_is_the_options_where_the_model_is_free(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    free = InputSpec("x", FLOAT32, (None, 3, None, None))
    assert first(tmp_path, free).shape == (3, 224, 224)
    assert first(tmp_path, free, ImageOptions(size=5)).shape == (3, 5, 5)
    half = InputSpec("x", np.dtype(np.float16), (1, 3, 8, None))
    pixels = first(tmp_path, half, ImageOptions(size=5))
    assert pixels.shape == (3, 8, 5) and pixels.dtype == np.float16


def test_centre_is_cut_out_without_blur(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.pad(RGB, ((0, 0), (2, 3), (0, 0))))
    np.testing.assert_array_equal(first(tmp_path, PIXELS) * np.float32(255), RGB.transpose(2, 0, 1))


def test_scaling_comes_before_cutting(tmp_path: Path) -> None:
    tall = np.random.default_rng(2).integers(0, 256, (42, 18, 3), np.uint8)
    save_image(tmp_path / "a.png", tall)
    scaled = np.array(Image.fromarray(tall).resize((6, 14), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    # the rows at the cut see no pixels beyond it; one level of Pillow's fixed-point rounding elsewhere
    inner = first(tmp_path, PIXELS)[:, 1:-1] * 255
    np.testing.assert_allclose(inner, scaled[:, 6:8], rtol=0, atol=1.01)


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1), (3, 7), (5, 5), (641, 427)])
def test_any_proportion_fits(tmp_path: Path, shape: tuple[int, int]) -> None:
    save_image(tmp_path / "a.png", np.full((*shape, 3), 51, np.uint8))
    for size in (3, 224):
        spec = InputSpec("x", FLOAT32, (None, 3, size, size + 1))
        np.testing.assert_array_equal(first(tmp_path, spec), np.float32(51) / np.float32(255))


def test_palettes_and_transparency_are_made_plain(tmp_path: Path) -> None:
    for mode in ("P", "LA", "RGBA", "1"):
        Image.fromarray(RGB).convert(mode).save(tmp_path / f"{mode}.png")
    Image.fromarray(RGB).convert("P").save(tmp_path / "tRNS.png", transparency=bytes(range(256)))
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "CMYK.jpg")
    samples, _ = together(list(open_dataset(str(tmp_path), [PIXELS]).batches(4)))
    assert samples.shape == (6, 3, 4, 6)
    rgba = [path.name for path in sorted(tmp_path.iterdir())].index("RGBA.png")
    np.testing.assert_array_equal(samples[rgba] * np.float32(255), RGB.transpose(2, 0, 1))


def test_digest_of_images(tmp_path: Path) -> None:
    image = save_image(tmp_path / "data" / "a" / "a.png")
    save_image(tmp_path / "data" / "b" / "b.png", RGB[::-1])

    def digest(**options: Any) -> str:
        return open_dataset(str(tmp_path / "data"), [PIXELS], ImageOptions(**options)).digest

    expected = digest()
    os.utime(image, (0, 0))
    assert digest() == digest(size=9) == expected  # the model fixes the size
    assert digest(mean=(0.5,)) != expected
    image.rename(image.with_name("c.png"))
    assert digest() == expected
    image.parent.rename(tmp_path / "data" / "c")
    assert digest() != expected  # other order, other labels


def test_refused_images(tmp_path: Path) -> None:
    save_image(tmp_path / "cat" / "a.png")
    image = save_image(tmp_path / "cat" / "b.jpg", np.zeros((64, 64, 3), np.uint8))
    remedy = f"save it as a whole 8-bit image of at most {Image.MAX_IMAGE_PIXELS} pixels"
    for content in (b"", b"no image", image.read_bytes()[:-200]):
        image.write_bytes(content)
        refuse(tmp_path, "cannot be read as an image (", remedy, [PIXELS], str(image))
    Image.fromarray(np.full((4, 6), 999, np.uint16)).save(image, "PNG")
    refuse(tmp_path, "more than 8 bits a channel", remedy, [PIXELS], str(image))
    image.unlink()
    (tmp_path / "cat" / "notes.txt").write_text("")
    refuse(tmp_path, "not an image", "move it out", [PIXELS], str(tmp_path / "cat" / "notes.txt"))
    (tmp_path / "cat" / "notes.txt").unlink()
    stray = save_image(tmp_path / "stray.png")
    refuse(tmp_path, "not a folder of images", "move it out", [PIXELS], str(stray))


@pytest.mark.parametrize("pixels", [10, 23])  # Pillow raises an error above twice its limit, else warns
def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    image = save_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    refuse(tmp_path, "(DecompressionBomb", f"at most {pixels} pixels", [PIXELS], str(image))


@pytest.mark.parametrize(
    "inputs",
    [
        [X],
        [PIXELS, IDS],
        [InputSpec("x", np.dtype(np.uint8), (None, 3, 4, 6))],
        [InputSpec("x", FLOAT32, (None, None, None, None))],
        [InputSpec("x", FLOAT32, (None, 2, 3, 4))],
    ],
)
def test_models_that_take_no_images(tmp_path: Path, inputs: list[InputSpec]) -> None:
    save_image(tmp_path / "a.png")
    refuse(tmp_path, "images need a model with one float input", "save the prepared samples as .npz", inputs)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (ImageOptions(mean=(0.1, 0.2)), "image mean has 2 values.*; give one value or 3"),
        (ImageOptions(std=()), "image std has 0 values.*; give one value or 3"),
        (ImageOptions(std=(1.0, 0.0, 1.0)), "std .*; give a size and std above 0"),
        (ImageOptions(mean=(np.nan,)), "mean .*; give"),
        (ImageOptions(size=0), "image size 0.*; give a size"),
    ],
)
def test_image_options_that_make_no_sense(tmp_path: Path, options: ImageOptions, match: str) -> None:
    save_image(tmp_path / "a.png")
    with pytest.raises(OptionError, match=match):
        open_dataset(str(tmp_path), [PIXELS], options)
