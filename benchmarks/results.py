"""The rows of docs/results.md, one command each:

    python -m benchmarks.results resnet20      accuracy over T, with da-qcfs, max and the quantised ANN to compare
    python -m benchmarks.results silu          the same of a ResNet-20 with SiLU
    python -m benchmarks.results silu-fidelity KL and error of that one's scores, up to 256 levels
    python -m benchmarks.results qcfs          networks trained with QCFS, converted without calibration
    python -m benchmarks.results float16       converted networks in float16 beside the same ones in float32
    python -m benchmarks.results integer       networks in the integer form beside the folded form
    python -m benchmarks.results magika        file types from bytes (GELU)
    python -m benchmarks.results photos        open_nsfw and EfficientNet-Lite0: fidelity over T
    python -m benchmarks.results smollm2       a language model with identity sites: perplexity

Networks and data come from the package registries by benchmarks/assets.py; the ResNet-20 networks are in
benchmarks/trained/, made by benchmarks/training/resnet20.py.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import datasets, file_types, networks
from benchmarks.zoo import texts
from graphpass.conversion import convert, dataset_for
from graphpass.datasets.dataset import Dataset
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.evaluation.results import Evaluation
from graphpass.forms.registry import single_of
from graphpass.graph.model import load
from graphpass.maths.metrics import Difference
from graphpass.maths.tokens import divergences, log_softmax
from graphpass.runtime.session import open_session, run
from graphpass.sites.sites import Selection
from graphpass.sweeps import Row, sweep

TRAINED = Path(__file__).parent / "trained"
FASHION = Path(__file__).parents[1] / "examples" / "fashion_mnist"
SETTINGS = (("rate", (2, 4, 8, 16, 32)), ("phase", (4,)))
FIDELITY = (("rate", 4), ("rate", 8), ("rate", 16), ("phase", 4), ("phase", 8))
METHODS = ("optimal", "da-qcfs", "max")
ENERGIES = ("energy SNN/ANN", "energy quantised/ANN", "operations alone")


def table(header: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    """Print a Markdown table, a row as soon as it is known."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header), flush=True)
    for row in rows:
        print("| " + " | ".join(str(value) for value in row) + " |", flush=True)


def swept(
    model: Path,
    calibration: Path,
    data: Path,
    settings: Sequence[tuple[str, Sequence[int]]],
    selection: Selection | None = None,
    operations: int = 16,
) -> Iterator[list[Row]]:
    """For each coding and T, the row of a sweep."""
    source = load(model)
    known = dataset_for(source.proto, calibration), dataset_for(source.proto, data)
    for coding, steps in settings:
        for count in steps:
            yield sweep(
                source,
                *known,
                time_steps=(count,),
                codings=(coding,),
                methods=("optimal",),
                selection=selection,
                evaluation=EvaluationSettings(batch=100, operation_samples=operations),
            )


def points(evaluation: Evaluation, top1: float | None) -> str:
    """ANN − other, in points of top-1."""
    ann = evaluation.ann.top1
    return "" if ann is None or top1 is None else f"{100 * (ann - top1):.2f}"


def top1(proto: onnx.ModelProto, data: Dataset) -> float:
    """Accuracy of a network on labelled data."""
    session = open_session(proto)
    hits = total = 0
    for batch in data.batches(200):
        hits += int((next(iter(run(session, batch.inputs).values())).argmax(1) == batch.labels).sum())
        total += batch.size
    return hits / total


def energies(found: Evaluation) -> Sequence[str]:
    """The cells of ENERGIES."""
    ratios = found.total_energy_ratio, found.energy.quantised_ratio, found.energy_snn / found.energy_ann
    return [f"{ratio or 0:.{digits}f}" for ratio, digits in zip(ratios, (2, 2, 3), strict=True)]


def divergence(ann: NDArray[np.float32], snn: NDArray[np.float32]) -> float:
    """KL(ANN ‖ SNN) of the class probabilities, mean over samples. Scores [N, C] of both."""
    return float(divergences(log_softmax(ann), log_softmax(snn)).mean())


def silu_fidelity() -> None:
    """KL of the class probabilities of a ResNet-20 with SiLU, and √(Σ(y − a)² / Σ(a − ā)²) of its scores."""
    source = load(TRAINED / "resnet20_silu.onnx")
    paths = datasets.cifar10_calibration(), datasets.cifar10_evaluation()
    calibration, data = (dataset_for(source.proto, path) for path in paths)

    def lines() -> Iterator[Sequence[object]]:
        for coding, steps in FIDELITY:
            done = convert(source, calibration, time_steps=steps, coding=coding)
            (ann, snn), _ = scores_of((source.proto, done.proto), data)
            error = Difference().update(snn, ann).centred_error or 0.0
            yield coding, steps, done.plan.levels, f"{divergence(ann, snn):.4f}", f"{error**0.5:.3f}"

    table(("coding", "T", "levels", "KL", "error"), lines())


def resnet20(file: str = "resnet20.onnx") -> None:
    model, images, test = TRAINED / file, datasets.cifar10_calibration(), datasets.cifar10_evaluation()
    source = load(model)
    calibration, data = dataset_for(source.proto, images), dataset_for(source.proto, test)

    def lines() -> Iterator[Sequence[object]]:
        for (row,) in swept(model, images, test, SETTINGS):
            found = row.evaluation
            others = (
                convert(source, calibration, time_steps=row.time_steps, coding=row.coding, method=method)
                for method in METHODS[1:]
            )
            yield (
                row.coding,
                row.time_steps,
                row.levels,
                points(found, found.snn.top1),
                *(points(found, top1(other.proto, data)) for other in others),
                points(found, found.baseline.accuracy.top1),
                f"{found.ann.top1:.4f}",
                f"{found.firing_rate:.3f}",
                *energies(found),
            )

    header = ("coding", "T", "levels", *METHODS, "quantised ANN", "ANN top-1", "firing rate", *ENERGIES)
    table(header, lines())


def qcfs() -> None:
    def lines() -> Iterator[Sequence[object]]:
        for steps in (4, 8):
            source = load(TRAINED / f"resnet20_qcfs{steps}.onnx")
            done = convert(source)
            ann, snn = open_session(source.proto), open_session(done.proto)
            same = hits = converted = total = 0
            for batch in dataset_for(source.proto, datasets.cifar10_evaluation()).batches(200):
                before, after = (next(iter(run(s, batch.inputs).values())).argmax(1) for s in (ann, snn))
                same += int((before == after).sum())
                hits += int((before == batch.labels).sum())
                converted += int((after == batch.labels).sum())
                total += batch.size
            yield steps, done.plan.time_steps, f"{same} of {total}", f"{hits / total:.4f}", f"{converted / total:.4f}"

    table(("T̃", "T", "equal predictions", "ANN top-1", "SNN top-1"), lines())


def float16() -> None:
    """The same plan written in float32 and in float16, both in the folded form."""

    def lines() -> Iterator[Sequence[object]]:
        cifar = (datasets.cifar10_calibration(), datasets.cifar10_evaluation(2000))
        fashion = (FASHION / "calibration.npz", FASHION / "evaluation.npz")
        for name, paths in (("resnet20", cifar), ("resnet20_silu", cifar), ("vit", fashion)):
            source = load(TRAINED / f"{name}.onnx")
            images, data = (dataset_for(source.proto, path) for path in paths)
            for coding, steps in (("rate", 8), ("phase", 4)):
                single = convert(source, images, time_steps=steps, coding=coding)
                half = convert(source, plan=single.plan, precision="float16")
                scores, labels = scores_of((source.proto, single.proto, half.proto), data)
                ann, one, two = (each.argmax(1) for each in scores)
                yield (
                    name,
                    coding,
                    steps,
                    *(f"{100 * (found == labels).mean():.2f}" for found in (ann, one, two)),
                    *(f"{100 * (found == ann).mean():.2f}" for found in (one, two)),
                    f"{100 * (one == two).mean():.2f}",
                    f"{np.linalg.norm(scores[2] - scores[1]) / np.linalg.norm(scores[1]):.4f}",
                    f"{half.proto.ByteSize() / single.proto.ByteSize():.2f}",
                    len(single_of(half.proto)),
                )

    header = ("network", "coding", "T", "ANN", "float32", "float16", "float32 as ANN", "float16 as ANN", "same class")
    table((*header, "distance", "size", "nodes in float32"), lines())


def integer() -> None:
    """The integer form, calibrated for itself, beside the folded form."""

    def lines() -> Iterator[Sequence[object]]:
        paths = (datasets.cifar10_calibration(), datasets.cifar10_evaluation())
        for name in ("resnet20", "resnet20_silu"):
            source = load(TRAINED / f"{name}.onnx")
            images, data = (dataset_for(source.proto, path) for path in paths)
            for coding, steps in (("rate", 16), ("phase", 4)):
                found = [
                    convert(source, images, time_steps=steps, coding=coding, form=f) for f in ("folded", "integer")
                ]
                scores, labels = scores_of((source.proto, *(each.proto for each in found)), data)
                top1 = [f"{100 * (each.argmax(1) == labels).mean():.2f}" for each in scores]
                errors = [f"{np.linalg.norm(each - scores[0]) / np.linalg.norm(scores[0]):.3f}" for each in scores[1:]]
                yield name, coding, steps, *top1, *errors

    table(("network", "coding", "T", "ANN", "folded", "integer", "error, folded", "error, integer"), lines())


def scores_of(models: Sequence[onnx.ModelProto], data: Dataset) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """Outputs of networks with one output, [samples, classes] each, and the labels."""
    sessions, labels = [open_session(model) for model in models], []
    found: list[list[NDArray[np.float32]]] = [[] for _ in models]
    for batch in data.batches(200):
        for session, known in zip(sessions, found, strict=True):
            known.append(next(iter(run(session, batch.inputs).values())))
        labels.append(batch.labels)
    return [np.concatenate(each) for each in found], np.concatenate(labels)


def magika() -> None:
    calibration, data = file_types.magika_files()

    def lines() -> Iterator[Sequence[object]]:
        for name, selection in (("GELU sites", Selection()), ("identity sites too", Selection(identity_sites=True))):
            settings = (("rate", (8, 16)), ("phase", (4,)))
            for (row,) in swept(networks.magika_model(), calibration, data, settings, selection, operations=2):
                found = row.evaluation
                yield (
                    name,
                    row.coding,
                    row.time_steps,
                    f"{found.ann.top1:.4f}",
                    f"{found.snn.top1:.4f}",
                    points(found, found.snn.top1),
                    f"{found.agreement:.4f}",
                    found.samples,
                )

    table(("sites", "coding", "T", "ANN top-1", "SNN top-1", "points lost", "agreement", "files"), lines())


def photos() -> None:
    def lines() -> Iterator[Sequence[object]]:
        for name, model in (("open_nsfw", networks.open_nsfw()), ("efficientnet_lite0", networks.efficientnet_lite0())):
            calibration, data = datasets.photo_calibration(name), datasets.photo_evaluation(name)
            for (row,) in swept(model, calibration, data, (("rate", (8, 32)), ("phase", (4, 6))), operations=2):
                found = row.evaluation
                error = next(iter(found.outputs)).relative_error
                yield name, row.coding, row.time_steps, f"{found.agreement:.2f}", f"{error:.3f}", found.samples

    table(("network", "coding", "T", "same top-1", "relative error of the scores", "photos"), lines())


def smollm2() -> None:
    samples = texts.next_tokens()
    source = load(networks.smollm2())
    calibration, data = (dataset_for(source.proto, path) for path in (samples.calibration, samples.evaluation))
    options = EvaluationSettings(batch=4, operation_samples=2, rounds=1, metrics=metrics_of(["perplexity"]))

    def lines() -> Iterator[Sequence[object]]:
        for steps in (8, 6, 4):
            (row,) = sweep(
                source,
                calibration,
                data,
                time_steps=(steps,),
                codings=("phase",),
                methods=("optimal",),
                selection=Selection(identity_sites=True),
                evaluation=options,
            )
            found = {each.name: each for each in row.evaluation.metrics}
            yield (
                row.time_steps,
                row.levels,
                f"{found['perplexity'].ann:.2f}",
                f"{found['perplexity'].snn:.2f}",
                *(f"{found[name].snn:.4f}" for name in ("perplexity_ratio", "kl_to_ann", "same_token")),
                f"{found['perplexity_ratio'].baseline:.4f}",
                *energies(row.evaluation),
            )

    header = (
        "phase T",
        "levels",
        "ANN",
        "SNN",
        "SNN / ANN",
        "KL",
        "same token",
        "quantised / ANN",
        *ENERGIES,
    )
    table(header, lines())


COMMANDS = {
    "resnet20": resnet20,
    "silu": partial(resnet20, "resnet20_silu.onnx"),
    "silu-fidelity": silu_fidelity,
    "qcfs": qcfs,
    "float16": float16,
    "integer": integer,
    "magika": magika,
    "photos": photos,
    "smollm2": smollm2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COMMANDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        COMMANDS[parser.parse_args().what]()


if __name__ == "__main__":
    main()
