"""Searches beside exhaustive sweeps, and what sharing saves.

    python -m benchmarks.searches resnet20 magika nsfw      the chosen network for losses of 0.5, 1 and 2 points
    python -m benchmarks.searches sharing                   a sweep of 6 × 2 × 3 rows: at once, and row by row

A sweep tries every T and code of a search on the same half of the data. Seconds are of processor time, one thread; a
search for the second and third loss finds nothing of the first one's.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx

from benchmarks import datasets, file_types, networks
from benchmarks.results import TRAINED, table
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import dataset_for
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.halves import halves
from graphpass.evaluation.drop import drop_of
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.evaluation.shards import merge
from graphpass.graph.model import load
from graphpass.maths.allocation import levels_text
from graphpass.network import Network, prepare
from graphpass.searching.course import STEPS
from graphpass.searching.search import search
from graphpass.searching.trials import Goal
from graphpass.series import series
from graphpass.sweeps import combinations, sweep

LOSSES = (0.5, 1.0, 2.0)
OPTIONS = CalibrationOptions(threads=1)
SETTINGS = EvaluationSettings(threads=1, batch=100, operation_samples=8)
Case = tuple[Network, Dataset, Dataset]


def case(model: Path | onnx.ModelProto, calibration: Path, data: Path) -> Case:
    source = load(model)
    return prepare(source), dataset_for(source.proto, calibration), dataset_for(source.proto, data)


def photos() -> Case:
    name = "open_nsfw"
    return case(networks.open_nsfw(), datasets.photo_calibration(name), datasets.photo_evaluation(name))


CASES: dict[str, Callable[[], Case]] = {
    "resnet20": lambda: case(TRAINED / "resnet20.onnx", datasets.cifar10_calibration(), datasets.cifar10_evaluation()),
    "magika": lambda: case(networks.magika_model(), *file_types.magika_files()),
    "nsfw": photos,
}


def chosen(names: Sequence[str]) -> None:
    """For each network and loss: what was chosen, and the cheapest row of the sweep within the loss."""

    def lines() -> Iterator[Sequence[object]]:
        for name in names:
            network, calibration, data = CASES[name]()
            judged, _ = halves(data)
            began = time.process_time()
            pairs = [(t, coding) for coding, each in STEPS.items() for t in each if (t, coding) != (1, "rate")]
            settings = [combinations(OPTIONS, [t], [coding], ["optimal"])[0] for t, coding in pairs]
            evaluation = EvaluationSettings(**{**vars(SETTINGS), "others": ("snn",)})
            with series(network, calibration, judged, OPTIONS, evaluation) as conversions:
                rows = [merge([conversions.part(each)]) for each in settings]
            whole = time.process_time() - began
            for loss in LOSSES:
                began = time.process_time()
                with tempfile.TemporaryDirectory() as folder:
                    found = search(
                        network, calibration, data, Goal(loss), options=OPTIONS, evaluation=SETTINGS, cache=folder
                    )
                seconds = time.process_time() - began
                slowest = [each.seconds for each in found.trials]
                good = [row for row in rows if drop_of(row).value <= loss]
                best = min(good, key=lambda row: row.total_energy_snn, default=None)
                beside = "–" if best is None else f"{best.conversion.coding} {best.conversion.time_steps}"
                if found.chosen is None:
                    yield name, loss, "none", "–", "–", beside, "–", len(found.trials), f"{seconds:.0f}", f"{whole:.0f}"
                    continue
                trial = found.trials[found.chosen]
                levels = levels_text(list(trial.setting.levels.values())) if trial.setting.levels else "all"
                yield (
                    name,
                    loss,
                    f"{trial.setting.coding} {trial.setting.time_steps}, {levels} levels",
                    found.drop,
                    f"{trial.ratio:.3f}",
                    beside,
                    "–" if best is None else f"{trial.energy / best.total_energy_snn:.3f}",
                    len(found.trials),
                    f"{seconds:.0f} ({seconds / max(slowest):.1f} ×)",
                    f"{whole:.0f}",
                )

    header = ("network", "loss, points", "chosen", "lost on the other half", "energy SNN / ANN", "best of the sweep",
              "energy, chosen / best", "trials", "seconds (of the slowest trial)", "seconds of the sweep")  # fmt: skip
    table(header, lines())


def sharing() -> None:
    """A sweep of 6 T, 2 codes and 3 methods, at once and row by row, as every row was made before."""
    network, calibration, data = CASES["resnet20"]()
    steps, codings, methods = (1, 2, 3, 4, 6, 8), ("rate", "phase"), ("optimal", "da-qcfs", "max")
    settings = EvaluationSettings(**{**vars(SETTINGS), "limit": 2000})
    took = []
    for each in ([(steps, codings, methods)], [((t,), (c,), (m,)) for m in methods for c in codings for t in steps]):
        began = time.process_time()
        for part in each:
            sweep(network, calibration, data, time_steps=part[0], codings=part[1], methods=part[2],
                  options=OPTIONS, evaluation=settings)  # fmt: skip
        took.append(time.process_time() - began)
    print(f"36 rows at once {took[0]:.0f} s, one by one {took[1]:.0f} s: {took[0] / took[1]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*CASES, "sharing"])
    names = parser.parse_args().names
    if "sharing" in names:
        sharing()
    if wanted := [name for name in names if name in CASES]:
        chosen(wanted)


if __name__ == "__main__":
    main()
