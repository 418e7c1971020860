"""How images are prepared, by name (`--preset`) or by a preprocessor_config.json of Hugging Face (`--preprocess`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphpass.datasets.images import RESAMPLING, ImageOptions
from graphpass.datasets.parts import named
from graphpass.errors import DataError, OptionError
from graphpass.options.table import LARGEST_IMAGE
from graphpass.options.values import number, several_that, whole
from graphpass.records import parsed

LARGEST_CONFIG = 1 << 20  # bytes
# how torchvision's classifiers are evaluated: shorter side 256/224 of the frame, then the centre
PRESETS: Mapping[str, ImageOptions] = {
    "imagenet": ImageOptions(
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fit="shorter", zoom=256 / 224, resample="bilinear"
    )
}
OWN_SIZES = ("Levit", "PoolFormer")  # processors that do sums of their own with the sizes
CONVNEXT, SMALL, CROP = "ConvNext", 384, 224 / 256  # stretches from SMALL on; else cuts CROP of the shorter side
SHORTER = ("CLIP", CONVNEXT)  # whose size, where it is one number, is that of the shorter side
SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


def read_config(path: str | Path) -> dict[str, Any]:
    """The object of a preprocessor_config.json. Raises DataError."""
    with named(f"{path}: cannot be read as a preprocessor_config.json", "give the file that lies beside the model"):
        with open(path, "rb") as file:
            text = file.read(LARGEST_CONFIG + 1)
        if len(text) > LARGEST_CONFIG:
            raise ValueError(f"more than {LARGEST_CONFIG} bytes")
        found = parsed(text.decode())
    if not isinstance(found, dict):
        raise DataError(f"{path}: not an object", "give the preprocessor_config.json of an image processor")
    return found


def options_of(config: Mapping[str, Any]) -> ImageOptions:
    """What a processor's configuration asks for, as far as it is to scale, to cut, to rescale and to normalise.

        {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, …}

    Raises OptionError, which names the entry, for one that is not understood or that asks for more.
    """
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    _refuse_others(config, kind)
    size, fit, zoom = _frame(config, kind)
    normalised = config.get("do_normalize", True)
    rescaled = config.get("do_rescale", True)
    divisor = 1 / _entry(config, "rescale_factor", number(1e-9), 1 / 255) if rescaled else 1.0
    mean, std = (
        tuple(map(float, _entry(config, name, several_that(number(least)), None))) if normalised else (neutral,)
        for name, least, neutral in (("image_mean", -1e9, 0.0), ("image_std", 1e-9, 1.0))
    )
    resample = RESAMPLING[_entry(config, "resample", whole(0, len(RESAMPLING) - 1), None)]
    return ImageOptions(size, mean, std, fit, zoom, resample, divisor)


def _frame(config: Mapping[str, Any], kind: str) -> tuple[tuple[int, int], str, float]:
    """Height and width of the result, and how the image is scaled before it is cut to them."""
    if not config.get("do_resize", True):
        raise _wrong("do_resize", False, "images of any size are taken, so they have to be resized")
    size, edge = _sides(config, "size", kind.startswith(SHORTER))
    cropped = config.get("do_center_crop")
    if kind.startswith(CONVNEXT) and edge:
        share = _entry(config, "crop_pct", number(1e-3, 1.0), CROP)
        return (edge, edge), *(("stretch", 1.0) if edge >= SMALL else ("shorter", int(edge / share) / edge))
    if cropped is None and config.get("crop_size"):
        raise _wrong("do_center_crop", cropped, "say whether the centre is cut out, with true or false")
    if not cropped:
        if edge:
            raise _wrong("size", config.get("size"), "images would have different sizes: give height and width")
        return size, "stretch", 1.0
    frame, side = _sides(config, "crop_size", False)
    if side:
        frame = side, side
    before = (edge, edge) if edge else size
    if before[0] * frame[1] != before[1] * frame[0] and not edge:
        raise _wrong("crop_size", config.get("crop_size"), "give it the proportions of size")
    if min(before) < min(frame) or (edge and edge < max(frame)):
        raise _wrong("crop_size", config.get("crop_size"), "give one that is not larger than size")
    return frame, "shorter" if edge else "stretch", before[0] / frame[0]


def _sides(config: Mapping[str, Any], name: str, shorter: bool) -> tuple[tuple[int, int], int]:
    """Height and width, or (0, 0) and the shorter side. shorter: whether a single number is that."""
    value: Any = config.get(name)
    side = whole(1, LARGEST_IMAGE)
    if side(value) and (shorter or not config.get("do_center_crop") or name == "crop_size"):
        return ((0, 0), value) if shorter else ((value, value), 0)
    if isinstance(value, Mapping):
        given = {key: each for key, each in value.items() if each is not None}
        if set(given) == {"height", "width"} and all(map(side, given.values())):
            return (given["height"], given["width"]), 0
        if set(given) == {"shortest_edge"} and side(given["shortest_edge"]):
            return (0, 0), given["shortest_edge"]
    raise _wrong(name, value, 'give {"height": …, "width": …} or {"shortest_edge": …}')


def _entry(config: Mapping[str, Any], name: str, check: Any, usual: Any) -> Any:
    value = config.get(name, usual)
    if value is None and usual is not None:
        return usual
    if isinstance(value, bool) or not check(value):
        raise _wrong(name, value, "give the value that the model was trained with")
    return value


def _refuse_others(config: Mapping[str, Any], kind: str) -> None:
    if kind.startswith(OWN_SIZES):
        raise _wrong("image_processor_type", kind, "prepare the images with transformers, and give arrays")
    for name, value in config.items():
        if name in SWITCHES and value is not None and not isinstance(value, bool):
            raise _wrong(name, value, "give true or false")
        more = (name.startswith("do_") and name not in SWITCHES) or name in ("rescale_offset", "include_top")
        if (more and value) or (name == "crop_pct" and value is not None and not kind.startswith(CONVNEXT)):
            raise _wrong(name, value, "prepare the images with transformers, and give arrays")


def _wrong(name: str, value: Any, remedy: str) -> OptionError:
    return OptionError(f"preprocess: {name!r} is {value!r:.80}", remedy, "preprocess")
