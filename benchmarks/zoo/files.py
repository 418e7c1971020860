"""Every ONNX file of the packages, converted on random inputs and verified, or refused with a reason."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np

from graphpass.conversion import convert
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.sources import from_arrays
from graphpass.errors import GraphpassError
from graphpass.graph.model import load
from graphpass.network import prepare, require_coverage
from graphpass.runtime.session import input_specs
from graphpass.verification.forms import verify

FREE_SIZES = {
    "rec": (48, 96),
    "rec_infer": (48, 96),
    "det": (64, 64),
    "cls": (48, 192),
    "320n": (64, 64),
}  # height, width where left open
NAME = "files.json"


@dataclass(frozen=True)
class File:
    """What came of one file. sites, (weight) layers: how many; empty where the file could not be read as a network."""

    name: str
    sites: str
    layers: str
    converted: str
    refusal: str


def synthetic(name: str, specs: Sequence[InputSpec], count: int) -> dict[str, np.ndarray]:
    """Random inputs of plausible shapes. name: of the file, which tells the sizes that it leaves open."""
    generator = np.random.default_rng(0)
    arrays = {}
    for spec in specs:
        sizes = iter(next((size for key, size in FREE_SIZES.items() if key in name), (32, 32)))
        shape = [count if axis == 0 else size or next(sizes, 8) for axis, size in enumerate(spec.shape)]
        if np.issubdtype(spec.dtype, np.floating):
            arrays[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
        else:
            arrays[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
    return arrays


def tried(name: str, path: Path, threads: int) -> File:
    """Load, find sites, convert (T = 4, method max), verify."""
    sites = layers = ""
    try:
        source = load(path)
        network = prepare(source)
        coverage = network.coverage
        sites, layers = str(len(coverage.sites)), str(coverage.weight_layers)
        require_coverage(network, False)
        specs = input_specs(source)
        data = from_arrays(synthetic(path.stem, specs, 2), specs)
        done = convert(network, data, time_steps=4, method="max")
        found = verify(done.proto, data, limit=2, threads=threads)
    except GraphpassError as error:
        return File(name, sites, layers, "", str(error).replace(f"{path}: ", ""))
    flips = sum(site.flips for site in found.sites)
    return File(name, sites, layers, f"forms {'agree' if found.agrees else 'DISAGREE'}, {flips} flips", "")


def save(folder: Path, files: Sequence[File]) -> None:
    document = {
        "date": date.today().isoformat(),
        "files": [asdict(file) for file in sorted(files, key=lambda file: file.name)],
    }
    (folder / NAME).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def load_files(folder: Path) -> tuple[str, list[File]]:
    """Date and files; nothing where they were not tried yet."""
    path = folder / NAME
    if not path.exists():
        return "", []
    document = json.loads(path.read_text("utf-8"))
    return document["date"], [File(**file) for file in document["files"]]
