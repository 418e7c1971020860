"""Rendered lines and pages of text, for networks that read or find it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.assets import cache_folder
from benchmarks.datasets import Floats, save
from benchmarks.zoo.entry import Samples
from graphpass.errors import DataError

FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
WORDS = (
    "about above across after again air along always animal answer apple around autumn back ball bank bear because "
    "before below better bird black blue boat body book bread bridge bright brother brown build butter camera "
    "castle cause centre chair change circle city class clear climb cloud coast coffee colour corner cotton country "
    "cover cross crystal dance danger deep desert dinner doctor dream early earth east engine evening every farm "
    "fast father field finger first fish flower forest fresh friend garden gentle glass golden grass green ground "
    "happy harbour heavy high history hotel hour house island journey juice kitchen lake language large letter "
    "light listen little market meadow metal middle minute mirror money morning mother mountain music narrow never "
    "north number ocean open orange paper pencil people picture place planet pocket quarter quiet railway rain "
    "reason river round school season second seven shadow silver simple sister slow small smoke south spring square "
    "station stone street strong summer sunday table thirty through today travel valley village voice water weather "
    "white window winter wood yellow"
).split()
HEIGHT, WIDTH = 48, 320  # of PP-OCR's recogniser
PAGE = 320  # side of a page


def words(generator: np.random.Generator) -> str:
    """One to four words, or a word and a number, a price or a date."""
    kind = generator.integers(0, 5)
    first = str(generator.choice(WORDS))
    if kind == 0:
        return f"{first.capitalize()} {generator.integers(1, 9999)}"
    if kind == 1:
        return f"{first.upper()} ${generator.integers(1, 999)}.{generator.integers(0, 100):02d}"
    if kind == 2:
        date = [generator.integers(low, high) for low, high in ((1, 29), (1, 13), (1990, 2030))]
        return f"{date[0]:02d}/{date[1]:02d}/{date[2]} {first}"
    return " ".join([first.capitalize(), *generator.choice(WORDS, generator.integers(0, 3))])


def font(generator: np.random.Generator, least: int, most: int) -> ImageFont.FreeTypeFont:
    name = str(generator.choice(FONTS))
    try:
        return ImageFont.truetype(name, int(generator.integers(least, most)))
    except OSError as error:
        raise DataError(f"the font {name} is missing", "apt-get install fonts-dejavu-core") from error


def line_image(text: str, generator: np.random.Generator) -> Image.Image:
    """The text in a random font and size, dark on light or light on dark, with noise; RGB, as tall as it needs."""
    face = font(generator, 22, 40)
    left, top, right, bottom = face.getbbox(text)
    margin = [int(each) for each in generator.integers(3, 10, 2)]
    size = int(right - left) + 2 * margin[0], int(bottom - top) + 2 * margin[1]
    dark, light = (tuple(int(each) for each in generator.integers(*limits, 3)) for limits in ((0, 90), (170, 256)))
    paper, ink = (light, dark) if generator.random() < 0.7 else (dark, light)
    image = Image.new("RGB", size, paper)
    ImageDraw.Draw(image).text((margin[0] - left, margin[1] - top), text, ink, face)
    return noisy(image, generator)


def noisy(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32) + generator.normal(0, 8, (image.height, image.width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def recogniser_values(image: Image.Image) -> Floats:
    """float32 [3, 48, 320] = (pixels / 255 − 0.5) / 0.5, blue first; zeros behind the end. PP-OCR's way."""
    width = min(WIDTH, max(1, round(image.width * HEIGHT / image.height)))
    pixels = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)[:, :, ::-1]
    values = np.zeros((3, HEIGHT, WIDTH), np.float32)
    values[:, :, :width] = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return values


def detector_values(image: Image.Image) -> Floats:
    """float32 [3, H, W] = (pixels / 255 − mean) / deviation of ImageNet, the order of channels as given."""
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((np.asarray(image, np.float32) / 255 - mean) / deviation).transpose(2, 0, 1)


def page_image(generator: np.random.Generator) -> Image.Image:
    """A page of three to six lines."""
    shade = int(generator.integers(200, 256))
    page = Image.new("RGB", (PAGE, PAGE), (shade, shade, shade - int(generator.integers(0, 30))))
    draw, top = ImageDraw.Draw(page), int(generator.integers(8, 40))
    for _ in range(generator.integers(3, 7)):
        face, text = font(generator, 16, 36), words(generator)
        left, above, right, below = (int(each) for each in face.getbbox(text))
        if top + below - above > PAGE - 8:
            break
        ink = tuple(int(each) for each in generator.integers(0, 100, 3))
        draw.text((int(generator.integers(4, max(5, PAGE - (right - left)))) - left, top - above), text, ink, face)
        top += below - above + int(generator.integers(8, 40))
    return noisy(page, generator)


def classes_of(lines: Sequence[str], characters: Sequence[str]) -> np.ndarray:
    """Numbers of the characters (blank is 0) as int64 [N, longest], −1 behind the end."""
    number = {character: index + 1 for index, character in enumerate(characters)}
    found = np.full((len(lines), max(map(len, lines))), -1, np.int64)
    for row, line in enumerate(lines):
        found[row, : len(line)] = [number[character] for character in line]
    return found


def line_samples(name: str, characters: Sequence[str], calibration: int = 128, evaluation: int = 100) -> Samples:
    """Lines for a recogniser with these characters."""
    folder = cache_folder() / "data"
    paths = [folder / f"{name}_{part}.npz" for part in (f"lines_{calibration}", f"lines_{evaluation}", "truth")]
    if not all(path.exists() for path in paths):
        texts = {}
        for path, count, seed in zip(paths, (calibration, evaluation), (1, 2), strict=False):
            generator = np.random.default_rng(seed)
            texts[path] = [words(generator) for _ in range(count)]
            save(path.name, x=np.stack([recogniser_values(line_image(text, generator)) for text in texts[path]]))
        save(paths[2].name, classes=classes_of(texts[paths[1]], characters))
    return Samples(paths[0], paths[1], paths[2])


def page_samples(name: str, reverse: bool, calibration: int = 64, evaluation: int = 30) -> Samples:
    """Pages for a detector. reverse: blue first. The input is called x (PP-OCR) or image (CRAFT)."""
    folder, paths = cache_folder() / "data", []
    for count, seed in ((calibration, 1), (evaluation, 2)):
        path: Path = folder / f"{name}_pages_{count}.npz"
        if not path.exists():
            generator = np.random.default_rng(seed)
            images = [page_image(generator) for _ in range(count)]
            if reverse:
                images = [Image.fromarray(np.asarray(image)[:, :, ::-1].copy()) for image in images]
            key = "x" if name.startswith("ppocr") else "image"
            save(path.name, **{key: np.stack([detector_values(image) for image in images])})
        paths.append(path)
    return Samples(paths[0], paths[1])
