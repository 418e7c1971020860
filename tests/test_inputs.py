"""What is given in Python as data, and is none."""

import numpy as np
import pytest

from graphpass.datasets.images import ImageOptions
from graphpass.errors import DataError
from graphpass.inputs import dataset_of
from tests.legal import network


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it is on another device")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"x": [[1.0, 2.0], [3.0]]}, "'x' cannot be made an array (ValueError: "),
        ({"x": Broken()}, "'x' cannot be made an array (RuntimeError: it is on another device)"),
        (Broken(), "'x' cannot be made an array (RuntimeError: it is on another device)"),
        ({"x": None}, "'x' holds Python objects, not numbers"),
        ({"x": "text"}, "'x' has shape ()"),
        ({1: np.zeros((2, 8), np.float32)}, "holds '1' where the model takes 'x'"),
    ],
)
def test_what_is_no_array(data, words):
    with pytest.raises(DataError) as caught:
        dataset_of(data, network(), ImageOptions())
    assert words in str(caught.value) and "\n" not in str(caught.value)
