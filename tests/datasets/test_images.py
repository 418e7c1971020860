"""Images are scaled, cut and normalised; an image that cannot be is refused with the name of its file."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import open_dataset
from graphpass.errors import OptionError
from tests.sources import FLOAT32, IDS, PIXELS, RGB, X, refuse, save_image, together


def first(folder: Path, spec: InputSpec, images: ImageOptions | None = None) -> NDArray[Any]:
    (image,) = next(open_dataset(str(folder), [spec], images).batches(1)).inputs["x"]
    return np.asarray(image)


def test_preparation_is_scale_then_normalise(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    expected = ((RGB / 255 - mean) / std).astype(np.float32)
    for axes, spec in (((2, 0, 1), PIXELS), ((0, 1, 2), InputSpec("x", FLOAT32, (None, 4, 6, 3)))):
        pixels = first(tmp_path, spec, ImageOptions(mean=mean, std=std))
        # three roundings of values below 1 (2^-25 each) over std 0.25, two of values below 4 (2^-23 each)
        np.testing.assert_allclose(pixels, expected.transpose(axes), rtol=0, atol=1e-6)


def test_one_channel(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", RGB[..., 0])
    pixels = first(tmp_path, InputSpec("x", FLOAT32, (None, 1, 4, 6)))
    np.testing.assert_array_equal(pixels[0], RGB[..., 0].astype(np.float32) / np.float32(255))
    save_image(tmp_path / "a.png", RGB.repeat(1, 2))
    assert first(tmp_path, InputSpec("x", FLOAT32, (None, 4, 6, 1))).shape == (4, 6, 1)


def test_size_is_the_options_where_the_model_is_free(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    free = InputSpec("x", FLOAT32, (None, 3, None, None))
    assert first(tmp_path, free).shape == (3, 224, 224)
    assert first(tmp_path, free, ImageOptions(size=5)).shape == (3, 5, 5)
    half = InputSpec("x", np.dtype(np.float16), (1, 3, 8, None))
    pixels = first(tmp_path, half, ImageOptions(size=5))
    assert pixels.shape == (3, 8, 5) and pixels.dtype == np.float16


def test_centre_is_cut_out_without_blur(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.pad(RGB, ((0, 0), (2, 3), (0, 0))))
    np.testing.assert_array_equal(first(tmp_path, PIXELS) * np.float32(255), RGB.transpose(2, 0, 1))


def test_scaling_comes_before_cutting(tmp_path: Path) -> None:
    tall = np.random.default_rng(2).integers(0, 256, (42, 18, 3), np.uint8)
    save_image(tmp_path / "a.png", tall)
    scaled = np.array(Image.fromarray(tall).resize((6, 14), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    # the rows at the cut see no pixels beyond it; one level of Pillow's fixed-point rounding elsewhere
    inner = first(tmp_path, PIXELS)[:, 1:-1] * 255
    np.testing.assert_allclose(inner, scaled[:, 6:8], rtol=0, atol=1.01)


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1), (3, 7), (5, 5), (641, 427)])
def test_any_proportion_fits(tmp_path: Path, shape: tuple[int, int]) -> None:
    save_image(tmp_path / "a.png", np.full((*shape, 3), 51, np.uint8))
    for size in (3, 224):
        spec = InputSpec("x", FLOAT32, (None, 3, size, size + 1))
        np.testing.assert_array_equal(first(tmp_path, spec), np.float32(51) / np.float32(255))


def test_palettes_and_transparency_are_made_plain(tmp_path: Path) -> None:
    for mode in ("P", "LA", "RGBA", "1"):
        Image.fromarray(RGB).convert(mode).save(tmp_path / f"{mode}.png")
    Image.fromarray(RGB).convert("P").save(tmp_path / "tRNS.png", transparency=bytes(range(256)))
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "CMYK.jpg")
    samples, _ = together(list(open_dataset(str(tmp_path), [PIXELS]).batches(4)))
    assert samples.shape == (6, 3, 4, 6)
    rgba = [path.name for path in sorted(tmp_path.iterdir())].index("RGBA.png")
    np.testing.assert_array_equal(samples[rgba] * np.float32(255), RGB.transpose(2, 0, 1))


def test_bitmaps_of_16_bits_a_pixel(tmp_path: Path) -> None:
    """5, 6 and 5 bits a channel: no more than 8."""
    size, pixels = struct.pack("<Iii", 40, 4, 4), struct.pack("<16H", *[0xF800] * 16)
    header = size + struct.pack("<HHIIiiII3I", 1, 16, 3, len(pixels), 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    start = 14 + len(header)
    whole = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels
    (tmp_path / "x.bmp").write_bytes(whole)
    np.testing.assert_array_equal(first(tmp_path, PIXELS)[:, 0, 0], [1, 0, 0])


def test_damage_in_exif_data_is_no_matter(tmp_path: Path) -> None:
    """Some photos of ImageNet have it. Nothing reads these data: warnings are errors in tests."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40
    Image.fromarray(RGB).save(tmp_path / "x.jpg", quality=100, exif=exif)
    assert first(tmp_path, PIXELS).shape == PIXELS.shape[1:]


def test_digest_of_images(tmp_path: Path) -> None:
    image = save_image(tmp_path / "data" / "a" / "a.png")
    save_image(tmp_path / "data" / "b" / "b.png", RGB[::-1])

    def digest(**options: Any) -> str:
        return open_dataset(str(tmp_path / "data"), [PIXELS], ImageOptions(**options)).digest

    expected = digest()
    os.utime(image, (0, 0))
    assert digest() == expected
    with pytest.raises(OptionError, match="image size 9 for a model whose input"):
        digest(size=9)
    assert digest(mean=(0.5,)) != expected
    image.rename(image.with_name("c.png"))
    assert digest() == expected
    image.parent.rename(tmp_path / "data" / "c")
    assert digest() != expected  # other order, other labels


def test_refused_images(tmp_path: Path) -> None:
    save_image(tmp_path / "cat" / "a.png")
    image = save_image(tmp_path / "cat" / "b.jpg", np.zeros((64, 64, 3), np.uint8))
    remedy = f"save it as a whole 8-bit image of at most {Image.MAX_IMAGE_PIXELS} pixels"
    for content in (b"", b"no image", image.read_bytes()[:-200]):
        image.write_bytes(content)
        refuse(tmp_path, "cannot be read as an image (", remedy, [PIXELS], str(image))
    Image.fromarray(np.full((4, 6), 999, np.uint16)).save(image, "PNG")
    refuse(tmp_path, "more than 8 bits a channel", remedy, [PIXELS], str(image))
    image.write_bytes(b"no image")
    refuse(tmp_path, "(ValueError: not a PNG, JPEG, WEBP or BMP file)", remedy, [PIXELS], str(image))
    image.unlink()
    (tmp_path / "cat" / "notes.txt").write_text("")
    refuse(tmp_path, "not an image", "move it out", [PIXELS], str(tmp_path / "cat" / "notes.txt"))
    (tmp_path / "cat" / "notes.txt").unlink()
    stray = save_image(tmp_path / "stray.png")
    refuse(tmp_path, "not a folder of images", "move it out", [PIXELS], str(stray))


@pytest.mark.parametrize(("colours", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])  # with alpha from 4 on
def test_pngs_of_16_bits(tmp_path: Path, colours: int, channels: int) -> None:
    """Pillow opens those with colours or alpha as images of 8 bits."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 6, 4, 16, colours, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(6 * 2 * channels)) * 4)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    image = tmp_path / "a.png"
    image.write_bytes(b"".join(parts))
    refuse(tmp_path, "more than 8 bits a channel", "8-bit image", [PIXELS], str(image))


@pytest.mark.parametrize("pixels", [10, 23])  # Pillow raises an error above twice its limit, else warns
def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    image = save_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    refuse(tmp_path, "(DecompressionBomb", f"at most {pixels} pixels", [PIXELS], str(image))


@pytest.mark.parametrize(
    "inputs",
    [
        [X],
        [PIXELS, IDS],
        [InputSpec("x", np.dtype(np.uint8), (None, 3, 4, 6))],
        [InputSpec("x", FLOAT32, (None, None, None, None))],
        [InputSpec("x", FLOAT32, (None, 2, 3, 4))],
    ],
)
def test_models_that_take_no_images(tmp_path: Path, inputs: list[InputSpec]) -> None:
    save_image(tmp_path / "a.png")
    refuse(tmp_path, "images need a model with one float input", "save the prepared samples as .npz", inputs)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (ImageOptions(mean=(0.1, 0.2)), "image mean has 2 values.*; give one value or 3"),
        (ImageOptions(std=()), "image std has 0 values.*; give one value or 3"),
        (ImageOptions(std=(1.0, 0.0, 1.0)), "std .*; give a size and std above 0"),
        (ImageOptions(mean=(np.nan,)), "mean .*; give"),
        (ImageOptions(size=0), "image size 0.*; give a size"),
    ],
)
def test_image_options_that_make_no_sense(tmp_path: Path, options: ImageOptions, match: str) -> None:
    save_image(tmp_path / "a.png")
    with pytest.raises(OptionError, match=match):
        open_dataset(str(tmp_path), [PIXELS], options)
