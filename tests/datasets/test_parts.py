"""Data that does not fit the model is refused with its place and a remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays, open_dataset
from graphpass.errors import DataError
from tests.sources import BAD, FLOAT32, IDS, SAMPLES, TARGETS, X, check_refusal, save_npz

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
        "'x' holds Python objects, not numbers",
        "save it as a plain array",
    ),
    "no samples": ([X], {"x": SAMPLES[:0]}, "no samples", "give at least one"),
    "lengths": ([X, IDS], {"x": SAMPLES, "ids": np.ones((6, 2), int)}, "'ids' has shape (6, 2)", LENGTHS),
    "label length": ([X], {"x": SAMPLES, "labels": TARGETS[:6]}, "'labels' has shape (6,)", LENGTHS),
    "samples on axis 1": (
        [X],
        {"x": SAMPLES, "labels": TARGETS[:3]},
        "'labels' has shape (3,)",
        "if axis 1 of 'x' holds",
    ),
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


def test_refused_models() -> None:
    with pytest.raises(DataError, match="model has no inputs; give a model"):
        from_arrays({}, [])
    with pytest.raises(DataError, match="model input 'x' has no batch axis; make it a constant"):
        from_arrays({"x": SAMPLES}, [InputSpec("x", FLOAT32, ())])
