"""Preparation by name, as torchvision prepares images, and by a processor's configuration, as transformers does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from graphpass import api
from graphpass.command_options import CommandOptions
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.processors import LARGEST_CONFIG, PRESETS, options_of, read_config
from graphpass.datasets.sources import open_dataset
from graphpass.errors import DataError, OptionError
from graphpass.options import table
from tests.sources import FLOAT32, refuse, save_image

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMALISED = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "do_rescale": True, "rescale_factor": 1 / 255}
SHAPES = [(40, 30), (31, 47), (48, 48), (200, 64), (64, 201), (20, 21)]
FREE = InputSpec("x", FLOAT32, (None, 3, None, None))
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {  # what → processor of transformers, its configuration
    "stretched": ("ViT", {"size": {"height": 24, "width": 32}, "resample": 2, **NORMALISED}),
    "shorter side, then the centre": ("CLIP", {
        "size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 18}, "do_center_crop": True, "resample": 3,
        **NORMALISED,
    }),
    "one number": ("CLIP", {"size": 24, "crop_size": 24, "do_center_crop": True, "resample": 3, **NORMALISED}),
    "stretched, then the centre": ("DeiT", {
        "size": {"height": 32, "width": 32}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True,
        "resample": 3, **NORMALISED,
    }),
    "a share of the shorter side": ("ConvNext", {"size": {"shortest_edge": 28}, "crop_pct": 0.875, "resample": 3,
                                                 **NORMALISED}),
    "its own share": ("ConvNext", {"size": {"shortest_edge": 28}, "resample": 2, **NORMALISED}),
    "large": ("ConvNext", {"size": {"shortest_edge": 384}, "resample": 2, **NORMALISED}),
    "pixels as they are": ("ViT", {"size": {"height": 16, "width": 16}, "resample": 0, "do_normalize": False,
                                   "do_rescale": False}),
    "another factor": ("ViT", {"size": {"height": 16, "width": 16}, "resample": 1, "do_normalize": False,
                               "do_rescale": True, "rescale_factor": 1 / 127.5}),
}  # fmt: skip


def prepared(folder: Path, options: ImageOptions) -> list[NDArray[Any]]:
    return list(next(open_dataset(str(folder), [FREE], options).batches(100)).inputs["x"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number, shape in enumerate(SHAPES):
        save_image(path / f"{number}.png", random.integers(0, 256, (*shape, 3), np.uint8))
    return path


def opened(folder: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("what", CONFIGS)
def test_a_configuration_prepares_as_its_processor_does(folder: Path, what: str) -> None:
    transformers = pytest.importorskip("transformers")
    kind, config = CONFIGS[what]
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**config)
    found = prepared(folder, options_of({"image_processor_type": f"{kind}ImageProcessor", **config}))
    for image, mine in zip(opened(folder), found, strict=True):
        (theirs,) = processor(image, return_tensors="np")["pixel_values"]
        # the same pixels; a few roundings of float32 in other orders
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 if config["do_rescale"] else 0)


def test_what_a_processor_saves_is_read(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor.save_pretrained(tmp_path)
    (mine, *_) = prepared(folder, options_of(read_config(tmp_path / "preprocessor_config.json")))
    (theirs,) = processor(opened(folder)[0], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_imagenet_is_how_torchvision_evaluates(folder: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    preset = torchvision.transforms._presets.ImageClassification(crop_size=28, resize_size=32)
    found = prepared(folder, ImageOptions(**{**vars(PRESETS["imagenet"]), "size": 28}))
    for image, mine in zip(opened(folder), found, strict=True):
        # torchvision rounds the place of the centre to even, Hugging Face and this down
        side = max(int(32 * max(image.size) / min(image.size)), 32)
        theirs = preset(image).numpy()
        if round((side - 28) / 2) == (side - 28) // 2:
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_without_other_libraries(tmp_path: Path) -> None:
    """The shorter side 20 becomes 32 · 256/224 ≈ 37 of a frame of 32; values stay where all pixels are equal."""
    save_image(tmp_path / "a.png", np.full((20, 50, 3), 51, np.uint8))
    (found,) = prepared(tmp_path, CommandOptions("evaluate", {"preset": "imagenet", "image_size": 32}).images())
    assert found.shape == (3, 32, 32)
    np.testing.assert_allclose(found[:, 0, 0], (0.2 - np.array(MEAN)) / STD, rtol=0, atol=1e-6)
    stripes = np.repeat([[[0], [255]]], 40, 0).repeat(20, 1).repeat(3, 2).astype(np.uint8)  # left dark, right light
    save_image(tmp_path / "a.png", stripes)
    (found,) = prepared(tmp_path, options_of({"size": {"height": 4, "width": 4}, "resample": 0, "do_normalize": False}))
    np.testing.assert_array_equal(found[0], [[0, 0, 1, 1]] * 4)


def test_the_names_are_those_of_the_table() -> None:
    assert set(PRESETS) == set(table.PRESETS) == set(table.OPTIONS["preset"].names)


def test_a_preset_adapts_to_the_model(folder: Path) -> None:
    fixed = InputSpec("x", FLOAT32, (None, 3, 28, 28))
    for images in (PRESETS["imagenet"], options_of(CONFIGS["a share of the shorter side"][1] | {
        "image_processor_type": "ConvNextImageProcessor"})):  # fmt: skip
        batch = next(open_dataset(str(folder), [fixed], images).batches(6))
        assert batch.inputs["x"].shape == (6, 3, 28, 28)
    with pytest.raises(OptionError, match=r"image size \(24, 32\) for a model whose input 'x' is 28 x 28"):
        open_dataset(str(folder), [fixed], options_of(CONFIGS["stretched"][1]))


def test_preparations_have_digests_of_their_own(folder: Path) -> None:
    digests = {
        open_dataset(str(folder), [FREE], images).digest
        for images in (ImageOptions(size=28), ImageOptions(size=28, fit="stretch"), ImageOptions(28, resample="box"))
    }
    assert len(digests) == 3


GOOD = {"size": {"height": 8, "width": 8}, "resample": 2, **NORMALISED}


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({"do_resize": False}, "do_resize"),
        ({"size": {"shortest_edge": 8}}, "size"),
        ({"size": {"shortest_edge": 8, "longest_edge": 9}}, "size"),
        ({"size": {"height": 8}}, "size"),
        ({"size": {"height": 0, "width": 8}}, "size"),
        ({"size": {"height": 8, "width": 1 << 20}}, "size"),
        ({"size": None}, "size"),
        ({"size": "8"}, "size"),
        ({"size": 8, "do_center_crop": True, "crop_size": 8}, "size"),  # of which side?
        ({"crop_size": 8}, "do_center_crop"),  # is it used?
        ({"do_center_crop": True}, "crop_size"),
        ({"do_center_crop": True, "crop_size": 9}, "crop_size"),
        ({"do_center_crop": True, "crop_size": {"height": 4, "width": 8}}, "crop_size"),
        ({"resample": None}, "resample"),
        ({"resample": 6}, "resample"),
        ({"resample": True}, "resample"),
        ({"resample": [2]}, "resample"),
        ({"image_mean": None}, "image_mean"),
        ({"image_mean": "0.5"}, "image_mean"),
        ({"image_std": [0, 1, 1]}, "image_std"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"do_pad": True}, "do_pad"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"do_normalize": "yes"}, "do_normalize"),
        ({"crop_pct": 0.9}, "crop_pct"),
        ({"image_processor_type": "LevitImageProcessor"}, "image_processor_type"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 8}, "crop_pct": 0}, "crop_pct"),
    ],
)
def test_entries_that_are_refused_by_name(change: dict[str, Any], entry: str) -> None:
    assert options_of(GOOD).size == (8, 8)
    with pytest.raises(OptionError, match=f"preprocess: '{entry}' is ") as refusal:
        options_of(GOOD | change)
    assert refusal.value.remedy and refusal.value.option == "preprocess"


@pytest.mark.parametrize("text", ["", "{", "[1]", "1", '"a"', "[" * 100_000, " " * (LARGEST_CONFIG + 1)])
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match=r"p\.json: (cannot be read as a preprocessor_config|not an object)"):
        read_config(tmp_path / "p.json")


def test_a_long_image_is_not_scaled_beyond_memory(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.zeros((1, 60_000, 3), np.uint8))
    images = ImageOptions(size=224, fit="shorter", zoom=256 / 224)
    refuse(tmp_path, "it is too long", "remove it", [FREE], str(tmp_path / "a.png"), images=images)


def test_a_path_and_its_contents_are_the_same_option(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(GOOD))
    by_path, by_contents = (
        CommandOptions("open_dataset", {"preprocess": each}).images() for each in (str(tmp_path / "p.json"), GOOD)
    )
    assert by_path == by_contents
    with pytest.raises(OptionError, match="image_size and preprocess exclude each other"):
        api.open_dataset(folder, tmp_path / "none.onnx", preprocess=GOOD, image_size=8)
    with pytest.raises(OptionError, match="mean and preset exclude each other: a preset has its own"):
        api.open_dataset(folder, tmp_path / "none.onnx", preset="imagenet", mean=0.5)
