"""Searches beside exhaustive sweeps, and what sharing saves.

    python -m benchmarks.searches resnet20 magika minilm    the chosen network for losses of 0.5, 1 and 2 points
    python -m benchmarks.searches sharing                   a sweep of 6 × 2 × 3 rows: at once, and row by row

A sweep tries every T and code of a search on the same half of the data. Seconds are of processor time, one thread, and
so are those of the slowest trial, made alone; a search finds nothing of what others made. Its seconds are those until
the choice is known, and with the network, its baseline and both compared on the other half of the data.

A point is of top-1 where there are labels of classes (resnet20, magika, efficientnet_lite0), of the probe's accuracy
for minilm, of agreement with the ANN's class for open_nsfw, and for nudenet of the ANN's boxes that are found: boxes
that the ANN does not have cost nothing there.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import datasets, file_types
from benchmarks.results import table
from benchmarks.zoo import pictures, reviews
from benchmarks.zoo.entry import Samples
from benchmarks.zoo.members import MEMBERS
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import dataset_for
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.halves import halves
from graphpass.evaluation.drop import drop_of
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.evaluation.shards import merge
from graphpass.graph.model import load
from graphpass.maths.allocation import levels_text
from graphpass.network import Network, prepare
from graphpass.searching.course import STEPS
from graphpass.searching.search import search
from graphpass.searching.trials import Found, Goal, Setting, Trial
from graphpass.series import series
from graphpass.sites.sites import exactly
from graphpass.sweeps import combinations, sweep

LOSSES = (0.5, 1.0, 2.0)
OPTIONS = CalibrationOptions(threads=1)
SETTINGS = EvaluationSettings(threads=1, batch=100, operation_samples=8)


@dataclass(frozen=True)
class Case:
    """A member of the zoo with data for a search: that of the zoo, where no other is named. metrics: by name."""

    name: str
    samples: Callable[[], Samples] | None = None
    metrics: tuple[str, ...] = ()

    def open(self) -> tuple[Network, Dataset, Dataset]:
        """The network, the calibration data, and the data to evaluate on."""
        entry = MEMBERS[self.name]
        source, samples = load(entry.model()), (self.samples or entry.samples)()
        paths = samples.calibration, samples.evaluation
        calibration, data = (dataset_for(source.proto, path) for path in paths)
        return prepare(source), calibration, data

    @property
    def settings(self) -> EvaluationSettings:
        return replace(SETTINGS, metrics=metrics_of(self.metrics))


def photos() -> Samples:
    return Samples(datasets.photo_calibration("open_nsfw"), datasets.photo_evaluation("open_nsfw"))


def people() -> Samples:
    """192 squares of the photo of which the zoo has 24, which hold too few boxes to choose by.

    In random order: every second square is mirrored, so that one half would hold all of these.
    """
    known, name = pictures.detected(192), "nudenet_evaluation_192_mixed.npz"
    path = known.evaluation.with_name(name)
    if not path.exists():
        with np.load(known.evaluation) as stored:
            images = stored["images"]
        datasets.save(name, images=images[np.random.default_rng(0).permutation(len(images))])
    return Samples(known.calibration, path)


CASES = {
    case.name: case
    for case in (
        Case("resnet20", lambda: Samples(datasets.cifar10_calibration(), datasets.cifar10_evaluation())),
        Case("magika", lambda: Samples(*file_types.magika_files())),
        Case("open_nsfw", photos),
        Case("efficientnet_lite0"),
        Case("nudenet", people, ("detection:format=cxcywh,nms=0.45",)),
        Case("minilm", reviews.labelled, ("embedding:output=461",)),
    )
}


def alone(case: Case, network: Network, calibration: Dataset, judged: Dataset, setting: Setting) -> float:
    """Seconds of processor time of one trial that shares nothing with others."""
    options = replace(OPTIONS, time_steps=setting.time_steps, coding=setting.coding, levels=dict(setting.levels))
    settings = replace(case.settings, others=("snn",), extras=())
    selection = replace(
        network.selection, identity_sites=setting.identity_sites, exclude=tuple(map(exactly, setting.left))
    )
    made = prepare(network.source, selection)
    began = time.process_time()
    with series(made, calibration, judged, options, settings) as conversions:
        conversions.part(options)
    return time.process_time() - began


def searched(case: Case, network: Network, calibration: Dataset, data: Dataset, loss: float) -> tuple[Found, str]:
    """A search, and its seconds: until the choice is known, also in times of its slowest trial alone, and to its end.

    Trials are shown as they come.
    """
    taken = []

    def show(trial: Trial) -> None:
        setting = trial.setting
        taken.append(time.process_time())
        print(f"{loss}: {trial.stage}, {setting.coding} {setting.time_steps}: {trial.drop}, {trial.energy:.4g} pJ, "
              f"{taken[-1] - began:.0f} s", file=sys.stderr, flush=True)  # fmt: skip

    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        given: Any = {"options": OPTIONS, "evaluation": case.settings, "cache": folder, "tried": show}
        found = search(network, calibration, data, Goal(loss), **given)
    seconds = time.process_time() - began
    spent = [after - before for before, after in zip([began, *taken], taken, strict=False)]
    full = [place for place, trial in enumerate(found.trials) if not trial.is_quick]
    slowest = found.trials[max(full, key=lambda place: spent[place])].setting
    once = alone(case, network, calibration, halves(data)[0], slowest)
    known = taken[-1] - began
    took = f"{known:.0f} ({known / once:.1f} ×), {seconds:.0f}"
    print(f"{loss}: {took} s, {found.verdict or found.reason}: {found.drop}", file=sys.stderr, flush=True)
    return found, took


def _counted(found: Found) -> str:
    """Trials in full, and quick looks."""
    quick = sum(trial.is_quick for trial in found.trials)
    return f"{len(found.trials) - quick} + {quick}"


def chosen(names: Sequence[str], losses: Sequence[float]) -> None:
    """For each network and loss: what was chosen, and the cheapest row of the sweep within the loss."""

    def lines() -> Iterator[Sequence[object]]:
        for name in names:
            case = CASES[name]
            network, calibration, data = case.open()
            searches = [searched(case, network, calibration, data, loss) for loss in losses]
            judged, _ = halves(data)
            began = time.process_time()
            pairs = [(t, coding) for coding, each in STEPS.items() for t in each if (t, coding) != (1, "rate")]
            settings = [combinations(OPTIONS, [t], [coding], ["optimal"])[0] for t, coding in pairs]
            evaluation = replace(case.settings, others=("snn",))
            with series(network, calibration, judged, OPTIONS, evaluation) as conversions:
                rows = [merge([conversions.part(each)]) for each in settings]
            whole = time.process_time() - began
            for loss, (found, took) in zip(losses, searches, strict=True):
                good = [row for row in rows if drop_of(row, evaluation.metrics.first).value <= loss]
                best = min(good, key=lambda row: row.total_energy_snn, default=None)
                beside = "–" if best is None else f"{best.conversion.coding} {best.conversion.time_steps}"
                if found.chosen is None:
                    yield name, loss, "none", "–", "–", beside, "–", _counted(found), took, f"{whole:.0f}"
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
                    _counted(found),
                    took,
                    f"{whole:.0f}",
                )

    header = ("network", "loss, points", "chosen", "lost on the other half", "energy SNN / ANN", "best of the sweep",
              "energy, chosen / best", "trials + quick looks", "seconds: choice (of the slowest trial), end",
              "seconds of the sweep")  # fmt: skip
    table(header, lines())


def sharing() -> None:
    """A sweep of 6 T, 2 codes and 3 methods, at once and row by row, as every row was made before."""
    network, calibration, data = CASES["resnet20"].open()
    steps, codings, methods = (1, 2, 3, 4, 6, 8), ("rate", "phase"), ("optimal", "da-qcfs", "max")
    settings = replace(SETTINGS, limit=2000)
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
    parser.add_argument("--losses", nargs="+", type=float, default=LOSSES)
    given = parser.parse_args()
    names = given.names
    if "sharing" in names:
        sharing()
    if wanted := [name for name in names if name in CASES]:
        chosen(wanted, given.losses)


if __name__ == "__main__":
    main()
