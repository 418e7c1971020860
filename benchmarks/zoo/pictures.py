"""Photos, prepared for each network of the zoo, from the packages of benchmarks/datasets.py."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from benchmarks import datasets
from benchmarks.assets import cache_folder, member, members
from benchmarks.datasets import Floats, labelled_photos, photo_crops, save
from benchmarks.zoo.entry import Samples
from benchmarks.zoo.lines import detector_values
from graphpass.graph.model import save as save_model

LARGE, SCALE = 128, 2  # side of super-resolution's images and its factor


def classified() -> Samples:
    """Both sets of labelled photos for evaluation, crops of one for calibration: benchmarks/datasets.py."""
    path = cache_folder() / "data" / "efficientnet_lite0_all_photos.npz"
    if not path.exists():
        parts = [np.load(datasets.photo_evaluation("efficientnet_lite0", each)) for each in ("photos", "more_photos")]
        save(path.name, **{key: np.concatenate([part[key] for part in parts]) for key in ("image", "labels")})
    return Samples(datasets.photo_calibration("efficientnet_lite0", 256), path)


def graded() -> Samples:
    """Photos for open_nsfw."""
    return Samples(datasets.photo_calibration("open_nsfw", 64), datasets.photo_evaluation("open_nsfw"))


def photo_samples(name: str, key: str, values: Callable[[Image.Image], Floats], calibration: int = 64) -> Samples:
    """Crops of the 50 photos for calibration, the 20 others for evaluation."""
    paths: list[Path] = []
    for part, photos in (("calibration", photo_crops(calibration, 0)), ("evaluation", labelled_photos("photos")[0])):
        path = cache_folder() / "data" / f"{name}_{part}_{len(photos)}.npz"
        if not path.exists():
            save(path.name, **{key: np.stack([values(photo) for photo in photos])})
        paths.append(path)
    return Samples(*paths)


def square(photo: Image.Image, side: int) -> Image.Image:
    return photo.resize((side, side), Image.Resampling.BILINEAR)


def random_squares(photo: Image.Image, count: int, least: float, seed: int) -> list[Image.Image]:
    """Squares of `least` to all of the shorter side at random places, every second one mirrored."""
    generator, squares = np.random.default_rng(seed), []
    for index in range(count):
        side = int(min(photo.size) * generator.uniform(least, 1.0))
        left, top = (int(generator.integers(0, length - side + 1)) for length in photo.size)
        cut = photo.crop((left, top, left + side, top + side))
        squares.append(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if index % 2 else cut)
    return squares


def detected(count: int = 24) -> Samples:
    """float32 [3, 320, 320] = pixels / 255, red first: `count` squares of the right half of a group of people.

    Calibration: squares of the left half, of another person and of photos of things.
    """
    folder = cache_folder() / "data"
    paths = folder / "nudenet_calibration.npz", folder / f"nudenet_evaluation_{count}.npz"
    if not all(path.exists() for path in paths):
        person, group = (Image.open(file).convert("RGB") for file in members("people", "*"))
        middle = group.width // 2
        left, right = (group.crop((edge, 0, edge + middle, group.height)) for edge in (0, middle))
        known = [*photo_crops(24, 0), *random_squares(person, 8, 0.6, 1), *random_squares(left, 32, 0.4, 3)]
        parts = known, random_squares(right, count, 0.4, 2)
        for path, photos in zip(paths, parts, strict=True):
            pixels = np.stack([np.asarray(square(photo, 320), np.float32) for photo in photos])
            save(path.name, images=pixels.transpose(0, 3, 1, 2) / np.float32(255))
    return Samples(*paths)


def focused() -> Samples:
    """float32 [3, 224, 224], ImageNet's mean and deviation."""
    return photo_samples("focus", "input_image", lambda photo: detector_values(square(photo, 224)), 24)


def super_resolution(kind: str) -> Path:
    """ESPCN with height and width left open; the published file names one size."""
    path = cache_folder() / "data" / f"espcn_{kind}.onnx"
    if not path.exists():
        proto = onnx.load(member("qonnx", f"*-espcn/{kind}/float_model.onnx"))
        weights = {tensor.name for tensor in proto.graph.initializer}
        inputs = [value for value in proto.graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        del proto.graph.value_info[:]
        for value in (*proto.graph.input, *proto.graph.output):
            for axis, name in ((0, "N"), (2, "H"), (3, "W")):
                value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(proto, path)
    return path


def enlarged(key: str) -> Samples:
    """Squares of photos at half their size (bicubic), and as they are: pixels / 255. key: the input's name."""
    folder, paths = cache_folder() / "data", []
    for part, photos in (("calibration", photo_crops(64, 0)), ("evaluation", labelled_photos("photos")[0])):
        path, truth = folder / f"espcn_{part}_{key[:5]}.npz", folder / f"espcn_{part}_truth.npz"
        if not (path.exists() and truth.exists()):
            whole = [square(photo, 2 * LARGE).crop((0, 0, LARGE, LARGE)) for photo in photos]
            small = [image.resize((LARGE // SCALE,) * 2, Image.Resampling.BICUBIC) for image in whole]
            arrays = [
                np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2) for images in (small, whole)
            ]
            values = [array.astype(np.float32) / np.float32(255) for array in arrays]
            save(path.name, **{key: values[0]})
            save(truth.name, images=values[1])
        paths += [path, truth]
    return Samples(paths[0], paths[2], paths[3])
