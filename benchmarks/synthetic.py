"""The cost of calibrating without data: `python -m benchmarks.synthetic [NAME …] [--quick]`.

Real inputs and made-up ones (convert --synthetic), over T and methods. "With statistics": the network still has the
BatchNormalizations that its exporter fused (benchmarks/batch_norms.py). ResNet-20: points of top-1 lost on the
first 2,000 test images of CIFAR-10, of 256 samples. Others: relative error of the scores and equal predictions on 20
photos, of 32 samples.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks import batch_norms, datasets, networks
from benchmarks.results import TRAINED, table
from benchmarks.timing import arguments, machine
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.synthetic import Synthetic
from graphpass.conversion import convert, dataset_for
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.graph.model import Source, load
from graphpass.runtime.session import open_session, run

METHODS, TIME_STEPS, THREADS = ("max", "optimal"), (8, 16, 32), 1


@dataclass(frozen=True)
class SyntheticCase:
    """A network, also with its normalisations, its data, how images are normalised, and samples to calibrate on.

    accuracy: whether points lost are measured.
    """

    model: Callable[[], Path]
    with_norms: Callable[[], Path] | None
    calibration: Callable[[], Path]
    evaluation: Callable[[], Path]
    images: ImageOptions
    samples: int
    accuracy: bool


CASES: dict[str, SyntheticCase] = {
    "resnet20": SyntheticCase(
        lambda: TRAINED / "resnet20.onnx",
        lambda: batch_norms.resnet20(TRAINED / "resnet20.onnx"),
        datasets.cifar10_calibration,
        lambda: datasets.cifar10_evaluation(2000),
        ImageOptions(),
        256,
        True,
    ),
    "efficientnet_lite0": SyntheticCase(
        networks.efficientnet_lite0,
        None,
        lambda: datasets.photo_calibration("efficientnet_lite0"),
        lambda: datasets.photo_evaluation("efficientnet_lite0"),
        ImageOptions(mean=(0.498,), std=(0.502,)),
        32,
        False,
    ),
    "open_nsfw": SyntheticCase(
        networks.open_nsfw,
        None,
        lambda: datasets.photo_calibration("open_nsfw"),
        lambda: datasets.photo_evaluation("open_nsfw"),
        ImageOptions(mean=(104 / 255, 117 / 255, 123 / 255), std=(1 / 255,)),
        32,
        False,
    ),
}


def figure(source: Source, done: onnx.ModelProto, data: Dataset, accuracy: bool) -> str:
    """Points lost, or error of the scores and equal predictions."""
    ann, snn = (open_session(proto, threads=THREADS) for proto in (source.proto, done))
    outputs: list[list[np.ndarray]] = [[], []]
    labels = []
    for batch in data.batches(50):
        for held, session in zip(outputs, (ann, snn), strict=True):
            held.append(next(iter(run(session, batch.inputs).values())))
        labels.append(batch.labels)
    a, y = (np.concatenate(each) for each in outputs)
    if accuracy:
        known = np.concatenate([each for each in labels if each is not None])
        return f"{100 * ((a.argmax(1) == known).mean() - (y.argmax(1) == known).mean()):.2f}"
    same = (a.argmax(1) == y.argmax(1)).sum()
    return f"{np.linalg.norm(y - a) / np.linalg.norm(a):.3f}, {same} of {len(a)}"


def rows(name: str, method: str, quick: bool) -> Iterator[Sequence[object]]:
    case = CASES[name]
    source = load(case.model())
    data, real = (dataset_for(source.proto, path()) for path in (case.evaluation, case.calibration))
    made_up = Synthetic(case.samples)
    given: list[tuple[Source, Dataset | Synthetic]] = [(source, real), (source, made_up)]
    if case.with_norms:
        given.append((load(case.with_norms()), made_up))
    options = CalibrationOptions(limit=case.samples, threads=THREADS)
    for steps in TIME_STEPS[:1] if quick else TIME_STEPS:
        found = []
        for model, calibration in given:
            done = convert(model, calibration, time_steps=steps, method=method, images=case.images, options=options)
            found.append(figure(source, done.proto, data, case.accuracy))
        yield method, name, steps, *found, *([""] if len(found) < 3 else [])


def main() -> None:
    options = arguments(__doc__, CASES)
    print(machine(), flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = options.names or list(CASES)
        lines = (row for method in METHODS for name in names for row in rows(name, method, options.quick))
        table(("method", "network", "T", "real", "synthetic", "synthetic, statistics"), lines)


if __name__ == "__main__":
    main()
