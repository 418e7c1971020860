"""Energy with memory traffic of networks of the zoo: `python -m benchmarks.energy [NAME …]`.

    ANN, quantised / ANN, SNN / ANN         by both models (docs/energy.md), and SNN / ANN of operations alone
    arithmetic, weights, state, activations what the SNN's energy is spent on, in percent

NAME: a member of the zoo, with its calibration data; method `optimal`, without identity sites. Counted on as many
samples as the zoo counts.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import astuple

from benchmarks.results import table
from benchmarks.zoo.members import MEMBERS
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import dataset_for, make_plan, spiking_model
from graphpass.evaluation.evaluate import EvaluationSettings, measure, open_pair
from graphpass.graph.model import load
from graphpass.maths.energy import MODELS
from graphpass.maths.metrics import energy_pj
from graphpass.network import prepare
from graphpass.progress import silent

NAMES = ("resnet20", "magika", "minilm")
SETTINGS = (("rate", 2), ("rate", 4), ("rate", 8), ("phase", 4))


def lines(name: str, threads: int) -> Iterator[Sequence[object]]:
    """A row for each setting and model."""
    entry, samples = MEMBERS[name], MEMBERS[name].samples()
    source = load(entry.model())
    network = prepare(source, next(iter(entry.variants.values())))
    calibration, test = (dataset_for(source.proto, path) for path in (samples.calibration, samples.evaluation))
    for coding, steps in SETTINGS:
        options = CalibrationOptions(time_steps=steps, coding=coding, threads=threads)
        proto = spiking_model(network, make_plan(network, calibration, options, silent), "folded")
        for model in MODELS:
            settings = EvaluationSettings(
                batch=entry.batch, threads=threads, operation_samples=entry.counted, rounds=1, energy_model=model
            )
            found = measure(open_pair(source, proto, settings), test)
            energy, alone = found.energy, found.operations
            shares = (f"{100 * part / energy.snn.total:.0f}" for part in astuple(energy.snn))
            yield (
                f"{name}, {coding} {steps}",
                model,
                f"{energy.ann.total / 1e6:,.1f}",
                f"{energy.quantised_ratio:.2f} ({energy.bits} bits)",
                f"{energy.ratio:.2f}",
                *shares,
                f"{energy_pj(alone.snn) / energy_pj(alone.ann):.2f}",
                f"{energy.spikes_per_synapse:.2f}",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"members of the zoo, by default {' '.join(NAMES)}")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    header = (
        "network, code and T", "model", "ANN, µJ", "quantised / ANN", "SNN / ANN",
        "arithmetic, %", "weights, %", "state, %", "activations, %", "operations alone", "spikes per synapse",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table(header, (line for name in given.names or NAMES for line in lines(name, given.threads)))


if __name__ == "__main__":
    main()
