"""Levels by sensitivity beside equal levels at the same energy: `python -m benchmarks.levels [images]`.

ResNet-20 on CIFAR-10 test images, 512 calibration images, method `optimal`. Of each pair the first has T + 1 levels
everywhere, the second those that `Auto` chooses within the additions of the first; a site may take twice the steps.
Energy: as counted on 16 images. KL: mean divergence of the SNN's class probabilities from the ANN's.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import datasets
from benchmarks.results import TRAINED, table
from graphpass.calibrate import Options
from graphpass.convert import dataset_for, make_plan, metadata, prepare
from graphpass.evaluate import Options as EvaluationOptions
from graphpass.evaluate import evaluate
from graphpass.graph.emit import emit
from graphpass.graph.model import load
from graphpass.graph.plan import Plan
from graphpass.maths.allocation import Auto
from graphpass.sensitivity import Sensitivity, measure
from graphpass.session import open_session, run

IMAGES = 2000
COUNTED = 16  # images that operations are counted on
STEPS = (4, 8, 16)
ROOM = 2  # steps that a site may take, in those of equal levels


def log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def divergence(ann: NDArray[np.float32], snn: NDArray[np.float32]) -> float:
    """Mean over samples of Σ_c p_ann·(log p_ann − log p_snn). Scores [N, C] of both."""
    p, q = log_softmax(ann), log_softmax(snn)
    return float((np.exp(p) * (p - q)).sum(1).mean())


def up_to(sensitivity: Sensitivity, levels: int) -> Sensitivity:
    """The rungs of at most so many levels."""
    kept = [rung for rung in sensitivity.rungs if rung <= levels]
    columns = slice(len(kept))
    return replace(
        sensitivity,
        rungs=tuple(kept),
        errors=sensitivity.errors[:, columns],
        costs=sensitivity.costs[:, columns],
    )


def pairs(images: int) -> Iterator[Sequence[object]]:
    """Rows of equal levels and of chosen ones at the same energy."""
    source = load(TRAINED / "resnet20.onnx")
    network = prepare(source)
    calibration = dataset_for(source.proto, datasets.cifar10_calibration())
    test = dataset_for(source.proto, datasets.cifar10_evaluation(images))

    def scores(proto: onnx.ModelProto) -> NDArray[np.float32]:
        session = open_session(proto)
        return np.concatenate([next(iter(run(session, batch.inputs).values())) for batch in test.batches(100)])

    def row(name: str, plan: Plan) -> Sequence[object]:
        proto = emit(network.graph.copy(), plan, "folded", metadata(plan, "folded"))
        snn = scores(proto)
        counted = evaluate(source, proto, test, EvaluationOptions(limit=COUNTED, operation_samples=COUNTED, rounds=1))
        neurons = [site.neurons for site in counted.sites]
        return (
            name,
            plan.time_steps,
            f"{np.average([site.levels for site in counted.sites], weights=neurons):.1f}",
            f"{counted.energy_snn / counted.energy_ann:.3f}",
            f"{counted.operations.snn.effective_acs / 1e6:.2f}",
            f"{100 * ((ann.argmax(1) == labels).mean() - (snn.argmax(1) == labels).mean()):.2f}",
            f"{(ann.argmax(1) == snn.argmax(1)).mean():.4f}",
            f"{divergence(ann, snn):.4f}",
        )

    ann, labels = scores(source.proto), np.concatenate([batch.labels for batch in test.batches(100)])
    sensitivity = measure(network.graph, network.coverage, calibration, Options(time_steps=ROOM * max(STEPS)))
    for steps in STEPS:
        options = Options(time_steps=ROOM * steps)
        within = up_to(sensitivity, ROOM * steps + 1)
        share = float(within.costs[:, within.rungs.index(steps + 1)].sum() / within.costs[:, -1].sum())
        for name, chosen in (
            ("equal", Options(time_steps=steps)),
            ("chosen", within.within(Auto(energy=share), options)),
        ):
            yield row(name, make_plan(network, calibration, chosen, lambda what, done, total: None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=int, nargs="?", default=IMAGES)
    header = ("levels", "T", "mean levels", "energy SNN/ANN", "ACs, million", "points lost", "agreement", "KL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table(header, pairs(parser.parse_args().images))


if __name__ == "__main__":
    main()
