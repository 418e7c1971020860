"""Small sources of data of every kind, and checks of what they give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graphpass.datasets.dataset import Batch, Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import open_dataset
from graphpass.errors import DataError

FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)
X = InputSpec("x", FLOAT32, (None, 3, 2))
IDS = InputSpec("ids", INT64, (None, None))
PIXELS = InputSpec("x", FLOAT32, (None, 3, 4, 6))
SAMPLES = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
TARGETS = np.arange(7) % 4
BAD = SAMPLES.copy()
BAD[4, 0, 0] = np.nan
RGB = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


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


def check_refusal(error: DataError, where: str, what: str, remedy: str) -> None:
    assert error.what.startswith(where)
    assert what in error.what
    assert remedy in error.remedy
    assert "\n" not in str(error)


def refuse(
    source: Path | str,
    what: str,
    remedy: str,
    inputs: list[InputSpec],
    where: str = "",
    images: ImageOptions | None = None,
) -> None:
    """Opening and reading the source raises; the error starts with `where`, by default the source."""
    with pytest.raises(DataError) as refusal:
        list(open_dataset(str(source), inputs, images, allow_code=True).batches(2))
    check_refusal(refusal.value, where or str(source), what, remedy)


def save_image(path: Path, pixels: NDArray[np.uint8] = RGB, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path
