"""EfficientNet-Lite0 (depthwise layers, ReLU6) on photos that were not used for calibration.

    python -m benchmarks.depthwise [rows] [--folds 5]

The 70 labelled photos of benchmarks/datasets.py are divided into parts. Each part is evaluated by networks that were
calibrated on CALIBRATION crops of the photos of the other parts. Top-1 is over the 70 photos themselves; agreement,
error and KL, which need no labels, are over EVALUATED crops of each. A folded network depends only on its number of
levels: 16 are T = 15 in the rate code and T = 4 in the phase code, 32 are T = 31 and T = 5.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import datasets, networks
from benchmarks.levels import divergence
from benchmarks.results import table
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from graphpass.datasets.sources import from_arrays
from graphpass.graph.model import load
from graphpass.maths.allocation import Auto
from graphpass.network import Network, prepare
from graphpass.runtime.session import input_specs, open_session, run

FOLDS, CALIBRATION, EVALUATED = 5, 256, 8
NAME = "image"
Floats = NDArray[np.float32]


def prepared(photos: Sequence[datasets.Image.Image]) -> Floats:
    return np.stack([datasets.efficientnet_values(photo) for photo in photos])


def scores(proto: onnx.ModelProto, images: Floats, threads: int) -> Floats:
    session = open_session(proto, threads=threads)
    parts = (run(session, {NAME: images[start : start + 16]}) for start in range(0, len(images), 16))
    return np.concatenate([next(iter(part.values())) for part in parts])


class Totals:
    """Sums over the parts: correct photos, and figures of the crops."""

    def __init__(self) -> None:
        self.right = self.photos = 0
        self.ann: list[Floats] = []
        self.snn: list[Floats] = []

    def add(self, ann: Floats, snn: Floats, labels: NDArray[np.int64]) -> None:
        """Add a part: scores of its crops, the photos themselves first."""
        self.right += int((snn[: len(labels)].argmax(1) == labels).sum())
        self.photos += len(labels)
        self.ann.append(ann)
        self.snn.append(snn)

    def row(self) -> tuple[str, ...]:
        ann, snn = np.concatenate(self.ann), np.concatenate(self.snn)
        error = float(np.linalg.norm(snn - ann) / np.linalg.norm(ann))
        same = float((snn.argmax(1) == ann.argmax(1)).mean())
        return f"{self.right} of {self.photos}", f"{100 * same:.1f}", f"{error:.3f}", f"{divergence(ann, snn):.3f}"


SETTINGS = (  # levels, method, whether they are a mean over neurons, divided by sensitivity
    (16, "optimal", False),
    (16, "max", False),
    (16, "optimal", True),
    (32, "optimal", False),
    (32, "max", False),
    (32, "optimal", True),
)


def converted(network: Network, images: Floats, levels: int, method: str, auto: bool, threads: int) -> onnx.ModelProto:
    """With this number of levels at every site, or as mean over neurons, each with at most four times as many."""
    bits = (levels - 1).bit_length()
    return convert(
        network,
        from_arrays({NAME: images}, input_specs(network.source)),
        time_steps=bits + 2 if auto else bits,
        coding="phase",
        method=method,
        options=CalibrationOptions(threads=threads),
        levels=Auto(mean_levels=levels) if auto else None,
    ).proto


def measured(folds: int, selection: Sequence[int], threads: int) -> Iterator[Sequence[object]]:
    """A row for each setting, as soon as all parts are done."""
    network = prepare(load(networks.efficientnet_lite0()))
    known = [datasets.labelled_photos(name) for name in ("photos", "more_photos")]
    photos = [photo for part, _ in known for photo in part]
    labels = np.concatenate([part for _, part in known])
    order = np.random.default_rng(0).permutation(len(photos))
    totals = {number: Totals() for number in (-1, *selection)}
    for fold in range(folds):
        held = order[fold::folds]
        rest = np.setdiff1d(order, held)
        images = prepared(datasets.crops_of([photos[k] for k in rest], CALIBRATION, fold))
        crops = prepared(datasets.crops_of([photos[k] for k in held], EVALUATED * len(held), fold))
        ann = scores(network.source.proto, crops, threads)
        totals[-1].add(ann, ann, labels[held])
        for number in selection:
            proto = converted(network, images, *SETTINGS[number], threads)
            totals[number].add(ann, scores(proto, crops, threads), labels[held])
    yield "ANN", "", "", *totals[-1].row()
    for number in selection:
        levels, method, auto = SETTINGS[number]
        yield levels, "mean" if auto else "equal", method, *totals[number].row()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=int, nargs="*", metavar="N", help="numbers of rows; default all")
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    header = ("levels", "of sites", "method", "top-1", "agreement, %", "relative error of the scores", "KL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table(header, measured(given.folds, given.settings or range(len(SETTINGS)), given.threads))


if __name__ == "__main__":
    main()
