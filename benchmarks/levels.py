"""Levels by sensitivity and equal levels with as many additions: `python -m benchmarks.levels [NAME …] [--steps 4]`.

NAME: a member of the zoo, with its data and its task, and with identity sites if it has them. Method `optimal`. "Equal"
is T + 1 levels everywhere; "distributed" are levels that measured sensitivity chooses for the same number of additions,
with at most twice the steps at a site. `--levels auto` keeps the better of the two on held-out data: the last quarter
of the calibration samples, for a network calibrated on the others. Energy: as counted on a few samples, with memory
traffic (`lemaire22`) of the SNN and of the same network with counts as numbers; of operations alone, 4.6 pJ per MAC and
0.9 pJ per AC. Error of the outputs: Σ(y − a)²/Σ(a − ā)². KL: mean divergence of the SNN's class probabilities from the
ANN's, for networks with class scores.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.results import ENERGIES, divergence, energies, table
from benchmarks.zoo.measure import MemberData
from benchmarks.zoo.members import MEMBERS
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.sensitivity import Sensitivity, held_out_errors, measure
from graphpass.conversion import make_plan, spiking_model
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.evaluation.metrics.score import Sampled
from graphpass.graph.model import load
from graphpass.maths.allocation import Auto
from graphpass.maths.metrics import Difference
from graphpass.network import prepare
from graphpass.runtime.session import fixed_batch, input_specs, open_session

NAMES = ("vit", "minilm", "openwakeword", "ppocr5_rec", "resnet20")
SCORES = frozenset({"resnet20", "vit", "efficientnet_lite0"})  # networks of class scores
STEPS = (8,)
ROOM = 2  # steps that a site may take, in those of equal levels


def up_to(sensitivity: Sensitivity, levels: int) -> Sensitivity:
    """The rungs with at most this many levels."""
    kept = [rung for rung in sensitivity.rungs if rung <= levels]
    columns = slice(len(kept))
    return replace(
        sensitivity,
        rungs=tuple(kept),
        errors=sensitivity.errors[:, columns],
        costs=sensitivity.costs[:, columns],
    )


def pairs(name: str, steps: Sequence[int], threads: int) -> Iterator[Sequence[object]]:
    """Rows of equal levels and of distributed ones at the same additions."""
    entry, settings = MEMBERS[name], CalibrationOptions(threads=threads)
    source, task = load(entry.model()), entry.task
    network = prepare(source, list(entry.variants.values())[-1])
    fixed = fixed_batch(input_specs(source))
    work = MemberData(entry, source, threads)
    calibration, test, metric = work.calibration, work.evaluation, work.metric()
    output = task.output or source.proto.graph.output[0].name
    labels = work.samples.known(task.labels) if task.labels else None

    def outputs(proto: onnx.ModelProto) -> NDArray[np.float32]:
        session = open_session(proto, threads=threads)
        batches = test.batches(fixed or entry.batch)
        return np.concatenate([work.output(session, batch.inputs, fixed)[output] for batch in batches])

    ann = outputs(source.proto)

    def number(found: NDArray[np.float32]) -> float:
        sampled = Sampled(len(found), labels, np.zeros(len(found), bool))
        return task.number(metric.score({output: found}, sampled, {output: ann}))

    def row(what: str, options: CalibrationOptions, held_out: float) -> Sequence[object]:
        plan = make_plan(network, calibration, options, lambda *_: None)
        proto = spiking_model(network, plan, "folded")
        snn = outputs(proto)
        counted = evaluate(
            source,
            proto,
            test,
            EvaluationSettings(
                limit=fixed or entry.counted, operation_samples=entry.counted, rounds=1, threads=threads
            ),
        )
        lost = task.lost(None if task.fidelity else number(ann), number(snn))
        return (
            name,
            what,
            plan.time_steps,
            f"{np.average([s.levels for s in counted.sites], weights=[s.neurons for s in counted.sites]):.1f}",
            *energies(counted),
            f"{counted.operations.snn.effective_acs / 1e6:.2f}",
            f"{held_out:.5f}",
            f"{Difference().update(snn, ann).centred_error:.5f}",
            f"{divergence(ann, snn):.4f}" if name in SCORES else "",
            f"{lost:.2f} ({task.name})",
        )

    started = time.perf_counter()
    most = replace(settings, time_steps=ROOM * max(steps))
    sensitivity = measure(network.graph, network.coverage, calibration, most, fixed)
    print(f"{name}: {len(sensitivity.sites)} sites measured in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    for count in steps:
        options = replace(settings, time_steps=ROOM * count)
        within = up_to(sensitivity, ROOM * count + 1)
        share = float(within.costs[:, within.rungs.index(count + 1)].sum() / within.costs[:, -1].sum())
        candidates = within.candidates(Auto(energy=share), options)
        held_out = held_out_errors(network.graph, network.coverage, calibration, candidates, fixed)
        for candidate, error in reversed(list(zip(candidates, held_out, strict=True))):
            yield row("equal" if len(set(candidate.levels.values())) == 1 else "distributed", candidate, error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"members of the zoo, by default {' '.join(NAMES)}")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="T of the equal levels")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    header = (
        "network", "levels", "T", "mean levels", *ENERGIES, "ACs, million", "held-out error", "error", "KL", "lost",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = given.names or NAMES
        table(header, (line for name in names for line in pairs(name, given.steps, given.threads)))


if __name__ == "__main__":
    main()
