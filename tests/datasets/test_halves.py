"""Two halves of a dataset hold every sample once, whatever the source and however it is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphpass.datasets.halves import fewer, halves
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays, open_dataset
from graphpass.errors import DataError

SPECS = [InputSpec("x", np.dtype(np.float32), (None, 2))]


def read(dataset, size, start=0):
    return [(batch.inputs["x"][:, 0].tolist(), batch.labels.tolist()) for batch in dataset.batches(size, start=start)]


@given(st.integers(4, 40), st.integers(1, 9), st.integers(0, 12))
def test_each_sample_is_in_one_half(samples, size, start):
    arrays = {"x": np.arange(2.0 * samples, dtype=np.float32).reshape(-1, 2), "labels": np.arange(samples)}
    for first, half in enumerate(halves(from_arrays(arrays, SPECS))):
        expected = list(range(first, samples, 2))
        assert half.samples == len(expected)
        found = [label for _, labels in read(half, size, start) for label in labels]
        assert found == expected[start:]
        assert all(x == [2 * label for label in labels] for x, labels in read(half, size))


def test_files_in_shards_and_functions(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    whole = np.arange(22, dtype=np.float32).reshape(-1, 2)
    for number, rows in enumerate((slice(0, 3), slice(3, 4), slice(4, 11))):
        np.savez(shards / f"{number}.npz", x=whole[rows], labels=np.arange(11)[rows])
    code = tmp_path / "data.py"
    code.write_text(
        "import numpy as np\ndef samples():\n    for k in range(11):\n"
        "        yield {'x': np.array([[2.0 * k, 0]]), 'labels': np.array([k])}\n"
    )
    for source in (str(shards), f"{code}:samples"):
        even, odd = halves(open_dataset(source, SPECS, allow_code=True))
        assert [label for _, labels in read(even, 4) for label in labels] == [0, 2, 4, 6, 8, 10]
        assert [label for _, labels in read(odd, 4) for label in labels] == [1, 3, 5, 7, 9]
        assert len({even.digest, odd.digest, open_dataset(source, SPECS, allow_code=True).digest}) == 3


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="3 samples; one half decides"):
        halves(from_arrays({"x": np.zeros((3, 2), np.float32)}, SPECS))


@pytest.mark.parametrize(("samples", "least", "step"), [(64, 16, 4), (61, 16, 2), (31, 16, 1), (400, 16, 4), (8, 1, 2)])
def test_fewer_samples_are_evenly_spread_and_as_many_as_are_needed(samples, least, step):
    arrays = {"x": np.zeros((samples, 2), np.float32), "labels": np.arange(samples)}
    whole = from_arrays(arrays, SPECS)
    found = fewer(whole, least)
    assert [label for _, labels in read(found, 5) for label in labels] == list(range(0, samples, step))
    assert (found is whole) == (step == 1)
