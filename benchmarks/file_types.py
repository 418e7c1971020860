"""Files of known type for magika's standard_v1 network: its input values, and labels from extensions."""

import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.assets import cache_folder, member
from benchmarks.datasets import Floats, disjoint_split, save

# Extension → magika label. Left out on purpose are extensions that do not determine a type: .txt (any text
# format: CMakeLists.txt, reStructuredText), .cs (on Linux also Czech hyphenation), .cat, .url and .sys.
EXTENSIONS = {
    "bat": "batch", "bz2": "bzip", "c": "c", "cc": "c", "cpp": "c", "h": "c", "hpp": "c",
    "css": "css", "csv": "csv", "dll": "pebin", "exe": "pebin", "gif": "gif", "go": "go", "gz": "gzip",
    "htm": "html", "html": "html", "ico": "ico", "ini": "ini", "jar": "jar", "java": "java",
    "jpeg": "jpeg", "jpg": "jpeg", "js": "javascript", "json": "json", "md": "markdown", "mp3": "mp3",
    "pdf": "pdf", "pem": "pem", "php": "php", "pl": "perl", "png": "png", "ps": "postscript",
    "ps1": "powershell", "py": "python", "pyc": "pythonbytecode", "rb": "ruby", "rs": "rust",
    "rst": "rst", "sh": "shell", "so": "elf", "sql": "sql", "svg": "svg", "tex": "latex", "tgz": "gzip",
    "ttf": "ttf", "wav": "wav", "xml": "xml", "yaml": "yaml", "yml": "yaml", "zip": "zip",
}  # fmt: skip
BLOCK, SPAN, PADDING, SHORTEST = 4096, 512, 256, 16
"""Of magika's standard_v1: bytes read at each end, values a section, padding token, shortest file."""


def byte_features(file: Path) -> Floats | None:
    """First, middle and last 512 bytes of a file as float32 [1536], as magika 0.5.1 reads them.

    White space around the content is stripped; sections that are too short are padded with 256: the first at
    its end, the middle one on both sides, the last at its beginning. None for a file of under 16 bytes, which
    magika does not show to its network.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size < 2 * BLOCK + SPAN:
            first = middle = last = stream.read().strip()
        else:
            first = stream.read(BLOCK).lstrip()
            stream.seek(size - BLOCK)
            last = stream.read(BLOCK).rstrip()
            before, after = BLOCK - len(first), BLOCK - len(last)
            stream.seek(before + (size - before - after - SPAN) // 2)
            middle = stream.read(SPAN)
    if len(first) < SHORTEST:
        return None
    start = max(0, (len(middle) - SPAN) // 2)
    first, middle, last = first[:SPAN], middle[start : start + SPAN], last[-SPAN:]
    features = np.full(3 * SPAN, PADDING, np.float32)
    features[: len(first)] = list(first)
    left = SPAN + (SPAN - len(middle)) // 2
    features[left : left + len(middle)] = list(middle)
    features[3 * SPAN - len(last) :] = list(last)
    return features


def typed_files(roots: tuple[Path, ...]) -> dict[str, list[Path]]:
    """magika label → files below the roots whose extension (or the name Makefile) says so; no links."""
    found: dict[str, list[Path]] = {}
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                stem, _, extension = name.rpartition(".")
                label = "makefile" if name == "Makefile" else EXTENSIONS.get(extension) if stem else None
                if label and not (file := Path(folder, name)).is_symlink():
                    found.setdefault(label, []).append(file)
    return {label: sorted(set(found[label])) for label in sorted(found)}


def magika_samples(roots: tuple[Path, ...], most: int, seed: int) -> Iterator[tuple[str, Floats]]:
    """(label, features) of up to `most` readable files a type, in seeded order, each content once."""
    generator, seen = np.random.default_rng(seed), set()
    for label, files in typed_files(roots).items():
        taken = 0
        for index in generator.permutation(len(files)):
            try:
                features = byte_features(files[index])
            except (PermissionError, FileNotFoundError):
                continue
            if features is None or features.tobytes() in seen:
                continue
            seen.add(features.tobytes())
            yield label, features
            taken += 1
            if taken == most:
                break


def magika_labels() -> list[str]:
    """The 113 names of magika's output, in the order of its scores."""
    config = json.loads(member("magika", "magika/models/standard_v1/model_config.json").read_text())
    return list(config["train_dataset_info"]["target_labels_info"]["target_labels_space"])


def magika_files(calibration: int = 512, most: int = 80, seed: int = 0) -> tuple[Path, Path]:
    """Calibration and evaluation files, disjoint: `bytes` float32 [N, 1536], `labels` int64 [N].

    The files are this machine's own (/usr, the Python installation, site-packages), at most `most` of a type;
    the label is the file's extension. The sets therefore differ from machine to machine.
    """
    folder = cache_folder() / "data"
    paths = tuple(folder / f"magika_{part}_{calibration}_{most}_{seed}.npz" for part in ("calibration", "evaluation"))
    if all(path.exists() for path in paths):
        return paths[0], paths[1]
    roots = (Path("/usr"), Path(sys.prefix), Path(sysconfig.get_path("purelib")))
    names = magika_labels()
    labels, features = zip(*magika_samples(roots, most, seed), strict=True)
    numbers = np.array([names.index(label) for label in labels], np.int64)
    rows = np.stack(features)
    parts = disjoint_split(len(rows), calibration, seed)
    saved = [save(path.name, bytes=rows[part], labels=numbers[part]) for path, part in zip(paths, parts, strict=True)]
    return saved[0], saved[1]
