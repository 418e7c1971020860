"""Many conversions of one network, calibrated on the same data and compared on the same data.

    observed once for each method      what the original network shows of the calibration data (calibration/observation)
    run once                           the original network over the data of the comparison, and equal baselines
    calibrated once for equal levels   a plan: T and code do not matter to it, so those that follow one another share it
    made once for each setting         its evaluation

All of it may be kept in a cache (cache.py), under keys that hold whatever it depends on: the network, both data, the
selection, the options, the runtime and the version of graphpass.
"""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from graphpass.cache import Kept, kept_files, key_of
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.memory import STORE_SHARE
from graphpass.conversion import make_plan, observe, spiking_model
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.functions import code_of
from graphpass.evaluation.evaluate import EvaluationSettings, open_pair, runtime_version, whole_part
from graphpass.evaluation.remembering import Remembered
from graphpass.evaluation.shards import EvaluationShard, from_text
from graphpass.graph.plan import Plan
from graphpass.maths.neuron import levels_of
from graphpass.network import Network
from graphpass.progress import Progress, silent
from graphpass.runtime.store import TensorStore
from graphpass.verification.source import check_source


@dataclass(frozen=True, eq=False)
class Series:
    """Conversions of a network, evaluated; neither is changed.

    warned: what was warned of while an observation was made, by its key. last, held: the plan that was made last, and
    the one that is held, by its key.
    """

    network: Network
    calibration: Dataset
    data: Dataset
    evaluation: EvaluationSettings
    kept: Kept
    remembered: Remembered
    warned: dict[str, list[Warning]] = field(default_factory=dict)
    last: dict[str, Plan] = field(default_factory=dict)
    held: dict[str, Plan] = field(default_factory=dict)

    def of(self, network: Network) -> "Series":
        """The same with other sites: rows of the data are observed anew, outputs of the original network are not."""
        return replace(self, network=network)

    def with_less(self, calibration: Dataset, evaluation: EvaluationSettings) -> "Series":
        """The same with fewer samples, the data of the comparison and the outputs for it included."""
        return replace(self, calibration=calibration, evaluation=evaluation)

    def plan(self, options: CalibrationOptions, progress: Progress = silent, *, repeat: bool = False) -> Plan:
        """The plan of a setting. Raises as `make_plan`.

        repeat: whether what an observation that was made before warned of is said again.
        """
        observed, key = self._observed(options, progress, repeat), self._plan_key(options)
        if key not in self.last and key not in self.held:
            plan = make_plan(self.network, self.calibration, options, progress, observed=[observed])
            self.last.clear()
            self.last[key] = plan
        plan = self.last.get(key) or self.held[key]
        return replace(plan, time_steps=options.time_steps, coding=options.coding)

    def hold(self, options: CalibrationOptions) -> None:
        """Hold the plan of a setting, if it was the last to be made, until another one is held."""
        key = self._plan_key(options)
        if key in self.last:
            self.held.clear()
            self.held[key] = self.last[key]

    def part(self, options: CalibrationOptions, progress: Progress = silent) -> EvaluationShard:
        """A setting, converted to the folded form and evaluated, as a part that can be written as text."""

        def make() -> str:
            proto = spiking_model(self.network, self.plan(options, progress), "folded")
            pair = open_pair(self.network.source, proto, self.evaluation, self.remembered, self.network.graph)
            return whole_part(pair, self.data, progress=progress).to_text()

        return from_text(self.kept.text(self._evaluation_key(options), make))

    def _observed(self, options: CalibrationOptions, progress: Progress, repeat: bool) -> Path:
        """What the original network shows of the calibration data, for any setting of a method."""
        key = key_of("observation", **self._subject(), options=options.observed_by)

        def make(path: Path) -> None:
            with _listed() as self.warned[key]:
                observe(self.network, self.calibration, options, path, progress=progress)

        before = tuple(self.warned.get(key, ())) if repeat else ()
        path = self.kept.file(key, make)
        for each in before:
            warnings.warn(each, stacklevel=3)
        return path

    def _subject(self) -> dict[str, Any]:
        source, selection = self.network.source, self.network.selection
        return {"model": source.digest, "selection": asdict(selection), "calibration": self.calibration.digest}

    def key(self, kind: str, options: CalibrationOptions, **more: Any) -> str:
        """The key of what depends on the network, its calibration data, options, and what else is given."""
        given = {name: value for name, value in asdict(options).items() if name != "threads"}
        return key_of(kind, **self._subject(), options=given, **more)

    def _plan_key(self, options: CalibrationOptions) -> str:
        """The same for any T and code with equal levels."""
        sites = self.network.coverage.sites
        levels = {**options.levels, **{site.name: options.levels_at(site.name) for site in sites}}
        most = levels_of(options.time_steps, options.coding)
        return self.key("plan", replace(options, time_steps=most - 1, coding="rate", levels=levels))

    def _evaluation_key(self, options: CalibrationOptions) -> str:
        settings = self.evaluation
        evaluation = {
            **{name: value for name, value in vars(settings).items() if name not in ("metrics", "providers")},
            "metrics": [(text, _code(text)) for text in settings.metrics.by_name],
            "classes": settings.metrics.classes,
            "providers": repr(settings.providers),
        }
        return self.key("evaluation", options, data=self.data.digest, evaluation=evaluation, runtime=runtime_version())


def _code(metric: str) -> str:
    """The digest of the file of a metric that is a function of the user."""
    found = code_of(metric)
    return hashlib.sha256(found[0].read_bytes()).hexdigest() if found else ""


@contextmanager
def _listed() -> Iterator[list[Warning]]:
    """A context that lists warnings, which are shown as well."""
    found: list[Warning] = []
    show = warnings.showwarning

    def listed(message: Warning | str, *where: Any, **more: Any) -> None:
        if isinstance(message, Warning):
            found.append(message)
        show(message, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = listed
        yield found


@contextmanager
def series(
    network: Network,
    calibration: Dataset,
    data: Dataset,
    options: CalibrationOptions,
    evaluation: EvaluationSettings | None = None,
    cache: str | Path | None = None,
) -> Iterator[Series]:
    """A series. options: for its memory and threads. cache: a folder whose results are used and kept, or None.

    Raises ModelError where the network computes something else than its file, OptionError for a folder that cannot be
    written.
    """
    check_source(network, calibration, options.threads)
    if None in (calibration.samples, data.samples):  # a function may give other samples next time
        cache = None
    with kept_files(cache) as kept, TensorStore(int(options.memory * STORE_SHARE)) as store:
        settings = evaluation or EvaluationSettings()
        yield Series(network, calibration, data, settings, kept, Remembered(store))
