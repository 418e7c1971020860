"""Every source gives the same batches and the same digest."""

import itertools
import os
import re
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays, open_dataset
from graphpass.errors import DataError, OptionError
from tests.properties import examples
from tests.sources import FLOAT32, IDS, SAMPLES, TARGETS, X, check_whole, save_function, save_npz, save_shards, together


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


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    size=st.integers(1, 12),
    limit=st.none() | st.integers(1, 40),
)
@examples(60)  # each example writes files
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
def test_other_samples_have_another_digest(other: dict[str, Any]) -> None:
    assert from_arrays(other, [X]).digest != from_arrays({"x": SAMPLES, "labels": TARGETS}, [X]).digest


def test_digest_depends_on_the_shape() -> None:
    spec = InputSpec("x", FLOAT32, (None, None))
    rows = np.zeros((6, 4), np.float32)
    assert from_arrays({"x": rows}, [spec]).digest != from_arrays({"x": rows.reshape(4, 6)}, [spec]).digest


@pytest.mark.parametrize("start", [0, 1, 4, 5, 9, 10, 11])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_batches_from_a_start(tmp_path, start, size):
    """From memory, from a mapped file, and from archives of both kinds, cut into shards."""
    values = np.arange(30, dtype=np.float32).reshape(10, 3)
    spec = [InputSpec("x", np.dtype(np.float32), (None, 3))]
    (shards := tmp_path / "shards").mkdir()
    np.save(tmp_path / "x.npy", values)
    np.savez(tmp_path / "x.npz", x=values)
    np.savez_compressed(shards / "a.npz", x=values[:4])
    np.savez(shards / "b.npz", x=np.asfortranarray(values[4:]))
    sources = [open_dataset(str(tmp_path / name), spec) for name in ("x.npy", "x.npz", "shards")]
    for dataset in (from_arrays({"x": values}, spec), *sources):
        for limit in (None, 8):
            expected = values[start:limit]
            found = [batch.inputs["x"] for batch in dataset.batches(size, limit, start)]
            assert [len(batch) for batch in found[:-1]] == [size] * max(len(found) - 1, 0)
            np.testing.assert_array_equal(np.concatenate([values[:0], *found]), expected)


def test_samples_that_are_not_read_take_no_memory() -> None:
    many = np.broadcast_to(np.zeros((1, 2), np.float32), (10**9, 2))
    dataset = from_arrays({"x": many}, [InputSpec("x", FLOAT32, (None, 2))])
    tracemalloc.start()
    try:
        assert [batch.size for batch in itertools.islice(dataset.batches(1, start=5), 3)] == [1, 1, 1]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
