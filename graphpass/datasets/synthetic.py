"""Made-up inputs, for use without data: abstract images, smooth noise, random words.

    images    alternately dead leaves (discs of all sizes that hide one another, some textured; Lee, Mumford, Huang,
              2001) and noise with a 1/f spectrum; both have the statistics of small parts of photographs
    numbers   standard normal; smooth, as 1/f noise, along axes that are free or have many positions
    integers  uniform over the rows of the table that they index; else 1

Calibration on them is worse than on real data; docs/calibration.md says by how much.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import Frame, ImageOptions, frame_of, is_image
from graphpass.datasets.parts import SAMPLES_FIRST, Arrays, InputSpec
from graphpass.datasets.sources import from_arrays
from graphpass.errors import DataError
from graphpass.wording import counted

LENGTH = 64  # positions along an axis that the model leaves free
LEAVES = 300  # discs of an image, at most
SMALLEST, LARGEST = 0.03, 0.6  # radius of a disc, as a share of the image's side

Floats = NDArray[np.float32]


def synthetic_dataset(
    specs: Sequence[InputSpec], images: ImageOptions, samples: int, seed: int, tables: Mapping[str, int]
) -> Dataset:
    """`samples` made-up samples of a model's inputs, the same for the same seed.

    images: size of images if the model leaves it free, and the mean and deviation to normalise with. tables: number of
    rows of the table that an integer input indexes, by its name. Raises OptionError if a size is given although the
    model fixes it, and if the number of means does not fit the channels; DataError for inputs of no common axis 0.
    """
    sizes = {spec.name: spec.shape[0] for spec in specs if spec.shape and spec.shape[0] is not None}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{size} of {name!r}" for name, size in sizes.items())
        raise DataError(f"axis 0 counts samples, and the inputs have different sizes there: {found}", SAMPLES_FIRST)
    arrays: Arrays = {}
    fixed = replace(images, size=None) if any(is_image(spec) and None in spec.shape[1:] for spec in specs) else images
    for number, spec in enumerate(specs):
        if not spec.shape:
            raise DataError(f"model input {spec.name!r} has no batch axis", "make it a constant of the model")
        generator = np.random.default_rng((seed, number))
        if spec.dtype.kind != "f":
            arrays[spec.name] = _integers(spec, samples, generator, tables.get(spec.name))
        elif is_image(spec):
            frame = frame_of(spec, images if None in spec.shape[1:] else fixed, 3)
            arrays[spec.name] = _normalised(frame, samples, generator).astype(spec.dtype)
        else:
            arrays[spec.name] = _numbers(_sizes(spec, LENGTH), samples, generator).astype(spec.dtype)
    made = from_arrays(arrays, specs, counted(samples, "synthetic sample"))
    return replace(made, held=sum(values.nbytes for values in arrays.values()))


def _sizes(spec: InputSpec, free: int) -> tuple[int, ...]:
    return tuple(free if size is None else size for size in spec.shape[1:])


def _integers(
    spec: InputSpec, samples: int, generator: np.random.Generator, rows: int | None
) -> NDArray[np.integer | np.bool_]:
    shape = (samples, *_sizes(spec, LENGTH))
    return (np.ones(shape) if rows is None else generator.integers(0, rows, shape)).astype(spec.dtype)


def _numbers(sizes: tuple[int, ...], samples: int, generator: np.random.Generator) -> Floats:
    """Standard normal [N, …], smooth along all axes but the shortest, which counts as channels."""
    if len(sizes) < 2:
        return generator.standard_normal((samples, *sizes)).astype(np.float32)
    channels = int(np.argmin(sizes))
    inner = tuple(size for axis, size in enumerate(sizes) if axis != channels)
    found = np.stack([_noise(sizes[channels], inner, generator) for _ in range(samples)])
    return np.moveaxis(found, 1, 1 + channels)


def _noise(channels: int, sizes: tuple[int, ...], generator: np.random.Generator) -> Floats:
    """Normal noise [C, …] of mean 0 and deviation 1 a channel, amplitude 1/f."""
    frequencies = np.meshgrid(*(np.fft.fftfreq(size) * size for size in sizes), indexing="ij")
    length = np.sqrt(sum(np.square(each) for each in frequencies))
    spectrum = np.fft.fftn(generator.standard_normal((channels, *sizes)), axes=range(1, 1 + len(sizes)))
    values = np.fft.ifftn(spectrum / np.maximum(length, 1), axes=range(1, 1 + len(sizes))).real
    axes = tuple(range(1, 1 + len(sizes)))
    values -= values.mean(axes, keepdims=True)
    deviation = values.std(axes, keepdims=True)
    return np.asarray(values / np.where(deviation > 0, deviation, 1), np.float32)


def _normalised(frame: Frame, samples: int, generator: np.random.Generator) -> Floats:
    """(pixels/divisor − mean)/std as a folder of images gives them, in the model's order of axes."""
    size = (frame.channels, frame.height, frame.width)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (frame.mean, frame.std))
    pictures = [_leaves(size, generator) if k % 2 else _clouds(size, generator) for k in range(samples)]
    found = (np.stack(pictures) * np.float32(255 / frame.divisor) - mean) / std
    return np.ascontiguousarray(found if frame.channels_first else found.transpose(0, 2, 3, 1))


def _clouds(size: tuple[int, int, int], generator: np.random.Generator) -> Floats:
    """1/f noise as an image in 0 … 1, its colours correlated as those of photographs are: mostly light and dark."""
    noise = _noise(size[0], size[1:], generator)
    grey = _noise(1, size[1:], generator)
    mixed = 0.9 * grey + 0.3 * noise
    contrast, light = generator.uniform(0.1, 0.35), generator.uniform(0.25, 0.75)
    return np.clip(light + contrast * mixed, 0, 1).astype(np.float32)


def _leaves(size: tuple[int, int, int], generator: np.random.Generator) -> Floats:
    """Discs from the back to the front; radii of density r⁻³, so that the image looks the same at every scale."""
    channels, height, width = size
    picture = _clouds(size, generator)
    texture = _noise(1, (height, width), generator)[0]
    share = generator.random(LEAVES)
    radii = 1 / np.sqrt(share / SMALLEST**2 + (1 - share) / LARGEST**2)
    for radius in max(height, width) * radii:
        y, x = generator.uniform(0, height), generator.uniform(0, width)
        top, bottom = max(int(y - radius), 0), min(int(y + radius) + 1, height)
        left, right = max(int(x - radius), 0), min(int(x + radius) + 1, width)
        rows, columns = np.ogrid[top:bottom, left:right]
        inside = np.square(rows - y) + np.square(columns - x) <= radius**2
        light, tint = generator.uniform(0, 1), generator.normal(0, 0.12, channels)
        roughness = generator.choice([0.0, 0.1])
        shades = light + tint[:, None, None] + roughness * texture[top:bottom, left:right]
        patch = picture[:, top:bottom, left:right]
        patch[:] = np.where(inside, shades, patch)
    return np.clip(picture, 0, 1).astype(np.float32)
