"""Made-up inputs: their kinds, sizes and statistics, and the same inputs for the same seed."""

import numpy as np
import pytest

from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.synthetic import synthetic_dataset
from graphpass.errors import DataError, OptionError

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int64)


MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)


def made(
    *specs: InputSpec,
    samples: int = 12,
    seed: int = 0,
    tables: dict[str, int] | None = None,
    images: ImageOptions | None = None,
) -> Dataset:
    images = images or ImageOptions(mean=MEAN, std=STD)
    return synthetic_dataset(specs, images, samples, seed, tables or {})


def arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    (batch,) = dataset.batches(1000)
    return batch.inputs


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((None, 3, 32, 48), (12, 3, 32, 48)),
        ((None, 3, None, None), (12, 3, 40, 40)),
        ((None, None, None, 1), (12, 40, 40, 1)),
        ((None, 24, 24, 3), (12, 24, 24, 3)),
    ],
)
def test_images_are_normalised_as_a_folder_of_them(shape, expected) -> None:
    channels = expected[1] if shape[1] in (1, 3) else expected[3]
    images = ImageOptions(40 if None in shape[1:] else None, MEAN[:channels], STD[:channels])
    found = arrays(made(InputSpec("x", FLOAT, shape), images=images))["x"]
    assert found.shape == expected and found.dtype == np.float32
    pixels = (found if shape[1] in (1, 3) else found.transpose(0, 3, 1, 2)) * np.array([0.5, 0.25, 0.2])[
        :channels, None, None
    ] + np.array([0.5, 0.4, 0.3])[:channels, None, None]
    assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6  # float32 rounds the scaling
    assert pixels.std() > 0.1


def neighbours(images: np.ndarray) -> float:
    """Correlation of pixels that lie side by side."""
    return float(np.corrcoef(images[..., 1:].ravel(), images[..., :-1].ravel())[0, 1])


def test_pixels_are_like_their_neighbours_and_colours_like_one_another() -> None:
    images = arrays(made(InputSpec("x", FLOAT, (None, 3, 64, 64))))["x"]
    for half in (images[::2], images[1::2]):
        assert neighbours(half) > 0.7  # of photographs about 0.9 to 0.95, of white noise 0
        assert np.corrcoef(half[:, 0].ravel(), half[:, 1].ravel())[0, 1] > 0.7
    edges = np.abs(np.diff(images[1::2], axis=-1))  # of discs: much of nothing and some that is large
    assert np.median(edges) < 0.1 < np.percentile(edges, 95)


def test_the_same_seed_gives_the_same_samples() -> None:
    spec = InputSpec("x", FLOAT, (None, 3, 16, 16))
    assert made(spec).digest == made(spec).digest != made(spec, seed=1).digest
    assert made(spec).samples == 12 and made(spec).description == "12 synthetic samples"


def test_numbers_and_words() -> None:
    specs = (
        InputSpec("rows", FLOAT, (None, 7)),
        InputSpec("steps", FLOAT, (None, None, 5)),
        InputSpec("ids", INT, (None, None)),
        InputSpec("mask", INT, (None, None)),
    )
    found = arrays(made(*specs, samples=200, tables={"ids": 30}))
    assert found["rows"].shape == (200, 7) and abs(found["rows"].std() - 1) < 0.1
    assert found["steps"].shape == (200, 64, 5) and abs(found["steps"].std() - 1) < 1e-3
    assert neighbours(found["steps"].swapaxes(1, 2)) > 0.7
    assert set(np.unique(found["ids"])) == set(range(30))
    assert (found["mask"] == 1).all() and found["mask"].shape == (200, 64)


def test_an_input_without_samples_is_refused() -> None:
    with pytest.raises(DataError, match="has no batch axis"):
        made(InputSpec("rate", INT, ()))


def test_options_of_images_that_no_input_could_follow_are_refused() -> None:
    fixed, free = InputSpec("x", FLOAT, (None, 3, 16, 16)), InputSpec("y", FLOAT, (None, 3, None, None))
    with pytest.raises(OptionError, match="image size 8 for a model whose input 'x' is 16 x 16"):
        made(fixed, images=ImageOptions(size=8))
    with pytest.raises(OptionError, match="image mean has 2 values, the model takes 3 channels"):
        made(free, images=ImageOptions(mean=(0.5, 0.4)))
    both = arrays(made(fixed, free, images=ImageOptions(size=8)))
    assert both["x"].shape[2:] == (16, 16) and both["y"].shape[2:] == (8, 8)
