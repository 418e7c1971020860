"""Functions that yield data: called again for every pass, refused where they misbehave."""

from pathlib import Path

import numpy as np
import pytest

from graphpass.datasets.dataset import DIGEST_SAMPLES
from graphpass.datasets.sources import from_arrays, open_dataset
from graphpass.errors import DataError
from tests.sources import X, check_refusal, check_whole, refuse, save_code, save_function


def test_function_that_refills_its_buffer(tmp_path: Path) -> None:
    dataset = open_dataset(save_function(tmp_path), [X], allow_code=True)
    assert (dataset.description, dataset.samples) == ("source.py:batches", None)
    check_whole(dataset)


def test_a_limit_ends_a_function_without_end(tmp_path: Path) -> None:
    source = save_code(tmp_path, "def batches():\n    while True:\n        yield {'x': X}\n")
    batches = list(open_dataset(source, [X], allow_code=True).batches(3, 7))
    assert [batch.size for batch in batches] == [3, 3, 1]


def test_digest_of_a_function_without_end(tmp_path: Path) -> None:
    source = save_code(tmp_path, "def batches():\n    while True:\n        yield {'x': X.repeat(999, 0)}\n")
    same = from_arrays({"x": np.zeros((DIGEST_SAMPLES, 3, 2), np.float32)}, [X])
    assert open_dataset(source, [X], allow_code=True).digest == same.digest


def test_code_needs_permission(tmp_path: Path) -> None:
    source = save_code(tmp_path, "raise SystemExit('imported')")
    with pytest.raises(DataError) as refusal:
        open_dataset(source, [X])
    check_refusal(refusal.value, source, "not allowed here", "save what it yields as .npz")


@pytest.mark.parametrize(
    ("body", "what", "remedy"),
    [
        ("import no_such_module", "failed on import (ModuleNotFoundError", "set PYTHONPATH"),
        ("raise SystemExit(0)", "failed on import (SystemExit", "correct it"),
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
