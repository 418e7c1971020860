"""Encoded images as samples, which are decoded, scaled, cut and normalised only when they are read."""

import hashlib
import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from graphpass.datasets.parts import LABELS, Arrays, Header, InputSpec, Part, named
from graphpass.errors import DataError, OptionError
from graphpass.options.table import OPTIONS
from graphpass.wording import counted

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SIZE: int = OPTIONS["image_size"].default  # pixels of a side, if neither the model nor the options give a size


RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # filters, in the order of their numbers


@dataclass(frozen=True)
class ImageOptions:
    """x = (pixels/divisor − mean)/std, after the image was scaled and its centre cut out.

    size: height and width in pixels for a model that leaves them free, an error for a model of other sizes; None: SIZE
    if they are free. mean, std: one value, or one for each channel.
    fit: "fill": the shorter side fills the frame; "shorter": it becomes zoom times the frame's height; "stretch": both
    sides become zoom times those of the frame, whatever the proportions were. zoom is 1 or more. resample: one of
    RESAMPLING.
    """

    size: int | tuple[int, int] | None = None
    mean: tuple[float, ...] = (OPTIONS["mean"].default,)
    std: tuple[float, ...] = (OPTIONS["std"].default,)
    fit: str = "fill"
    zoom: float = 1.0
    resample: str = "bilinear"
    divisor: float = 255.0


@dataclass(frozen=True)
class Frame:
    """The array that an image becomes: float32 [channels, height, width], or [height, width, channels].

    mean, std: one for each channel. The others are those of ImageOptions.
    """

    height: int
    width: int
    channels: int
    channels_first: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str
    zoom: float
    resample: str
    divisor: float

    @property
    def shape(self) -> tuple[int, int, int]:
        area = self.height, self.width
        return (self.channels, *area) if self.channels_first else (*area, self.channels)


class EncodedImage(NamedTuple):
    """An encoded image. where: its place, for errors. read: its bytes; may raise anything."""

    where: str
    read: Callable[[], bytes]


def frame_for(where: Path | str, inputs: Sequence[InputSpec], options: ImageOptions) -> Frame:
    """The frame that a model with one image input needs; the options decide what the model leaves free."""
    spec = inputs[0] if len(inputs) == 1 else None
    if spec is None or not is_image(spec):
        raise DataError(
            f"{where}: images need a model with one float input [N, C, H, W] or [N, H, W, C], C = 1 or 3",
            "save the prepared samples as .npz",
        )
    return frame_of(spec, options, 1)


def frame_of(spec: InputSpec, options: ImageOptions, channels: int) -> Frame:
    """The frame of an image input. channels: their number if the model leaves it free.

    Raises OptionError for options that make no sense, or that contradict the model.
    """
    channels_first = spec.shape[1] in (1, 3)  # the order of ONNX where both are possible
    known, height, width = (spec.shape[axis] for axis in ((1, 2, 3) if channels_first else (3, 1, 2)))
    size, mean, std = options.size, options.mean, options.std
    wanted = (size, size) if isinstance(size, int) else size or (0, 0)
    if (size is not None and min(wanted) < 1) or not all(map(math.isfinite, mean + std)) or not all(v > 0 for v in std):
        raise OptionError(f"image size {size}, mean {mean}, std {std}", "give a size and std above 0")
    if size is not None and height and width and (height, width) != wanted:
        raise OptionError(
            f"image size {size} for a model whose input {spec.name!r} is {height} x {width}",
            "leave it out: images are made to fit the model",
        )
    return Frame(
        height or wanted[0] or SIZE,
        width or wanted[1] or SIZE,
        known or channels,
        channels_first,
        _per_channel("mean", mean, known or channels),
        _per_channel("std", std, known or channels),
        options.fit,
        options.zoom,
        options.resample,
        options.divisor,
    )


def is_image(spec: InputSpec) -> bool:
    """Whether an input takes images: floats [N, C, H, W] or [N, H, W, C], C = 1 or 3."""
    return len(spec.shape) == 4 and spec.dtype.kind == "f" and not {1, 3}.isdisjoint(spec.shape[1::2])


def _per_channel(option: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(set(values)) == 1:
        return values[:1] * channels
    if len(values) != channels:
        raise OptionError(
            f"image {option} has {counted(len(values), 'value')}, the model takes {counted(channels, 'channel')}",
            f"give one value or {channels}",
        )
    return values


def image_part(
    where: str, name: str, pictures: Sequence[EncodedImage], labels: NDArray[np.int64] | None, frame: Frame
) -> Part:
    """Pictures as samples of the input `name`; only those that are asked for are read."""
    columns = {name: Header((len(pictures), *frame.shape), np.dtype(np.float32))}
    if labels is not None:
        columns[LABELS] = Header(labels.shape, labels.dtype)

    def read(cuts: Iterable[slice]) -> Iterator[Arrays]:
        for cut in cuts:
            arrays: Arrays = {name: np.stack([_prepared(picture, frame) for picture in pictures[cut]])}
            yield arrays if labels is None else arrays | {LABELS: labels[cut]}

    return Part(where, columns, read)


def is_decoded(value: object) -> bool:
    """Whether it is an image of Pillow."""
    return isinstance(value, Image.Image)


def _prepared(picture: EncodedImage, frame: Frame) -> NDArray[np.float32]:
    """The image of the bytes as `prepared` makes it."""
    remedy = f"remove it, or save it as a whole 8-bit image of at most {Image.MAX_IMAGE_PIXELS} pixels"
    with named(f"{picture.where}: cannot be read as an image", remedy), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of damage in EXIF data, which nothing here reads
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _opened(picture.read()) as image:
            return prepared(image, frame)


def _opened(content: bytes) -> Image.Image:
    """The image that the bytes are, not yet decoded."""
    try:
        image = Image.open(io.BytesIO(content), formats=IMAGE_FORMATS)
    except UnidentifiedImageError as error:  # whose message is an address in memory
        raise ValueError(f"not a {', '.join(IMAGE_FORMATS[:-1])} or {IMAGE_FORMATS[-1]} file") from error
    deep = any(";16" in str(tile.args) for tile in image.tile)
    if deep and image.format == "PNG":  # Pillow would read the upper 8 bits of a colour; in a BMP, 16 bits are a pixel
        raise ValueError("more than 8 bits a channel")
    return image


def prepared(image: Image.Image, frame: Frame) -> NDArray[np.float32]:
    """(pixels/divisor − mean)/std of the image, scaled and cut to the frame: float32 of the frame's shape."""
    if image.mode.startswith(("I", "F")):
        raise ValueError("more than 8 bits a channel")
    if "transparency" in image.info:  # alpha is dropped; Pillow would warn of it
        image = image.copy()
        del image.info["transparency"]
    plain = _cut(image.convert("L" if frame.channels == 1 else "RGB"), frame)
    scaled = np.array(plain, np.float32).reshape(frame.height, frame.width, frame.channels)
    scaled /= frame.divisor
    scaled -= np.array(frame.mean, np.float32)
    scaled /= np.array(frame.std, np.float32)
    return scaled.transpose(2, 0, 1) if frame.channels_first else scaled


def _cut(image: Image.Image, frame: Frame) -> Image.Image:
    """The centre of the scaled image, as large as the frame."""
    resample = Image.Resampling(RESAMPLING.index(frame.resample))
    if frame.fit == "fill":
        return image.resize((frame.width, frame.height), resample, _centre(image.size, frame))
    wide, high = round(frame.zoom * frame.width), round(frame.zoom * frame.height)
    if frame.fit == "shorter":
        (width, height), side = image.size, high
        wide, high = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    if wide * high > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(f"scaled to {wide} x {high} pixels, it is too long")
    left, upper = (wide - frame.width) // 2, (high - frame.height) // 2
    return image.resize((wide, high), resample).crop((left, upper, left + frame.width, upper + frame.height))


def _centre(size: tuple[int, int], frame: Frame) -> tuple[float, float, float, float]:
    """The box of an image that fills the frame: left, upper, right, lower, in the image's pixels.

    Its corner lies on a whole pixel of the scaled image, so that an image that needs no scaling is not blurred.
    Cutting comes before scaling, so that a very long image does not outgrow memory.
    """
    (width, height), wanted = size, (frame.width, frame.height)
    scale = min(width / wanted[0], height / wanted[1])
    left, upper = (max(0, int((full / scale - part) / 2)) * scale for full, part in zip(size, wanted, strict=True))
    return left, upper, min(width, left + wanted[0] * scale), min(height, upper + wanted[1] * scale)


def digest_of_pictures(pictures: Iterable[tuple[EncodedImage, int | None]], frame: Frame) -> str:
    """sha256 (hex) of the frame, and of the bytes and the label of every picture; nothing is decoded."""
    digest = hashlib.sha256(f"{frame}\n".encode())
    for picture, label in pictures:
        with named(f"{picture.where}: cannot be read", "see that it can be read, and that it holds the image itself"):
            content = hashlib.sha256(picture.read()).hexdigest()
        digest.update(f"{content} {label}\n".encode())
    return digest.hexdigest()


def labelled(
    pictures: Sequence[EncodedImage], labels: NDArray[np.int64] | None
) -> Iterator[tuple[EncodedImage, int | None]]:
    """Each picture with its label."""
    return zip(pictures, [None] * len(pictures) if labels is None else labels.tolist(), strict=True)
