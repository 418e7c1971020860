"""What levels do to the sites of the original network, measured once on few samples for all settings of a search.

    Q[s, k] = Σ (y − a)²                          what LEVELS[k] levels do to the output of site s, on sampled rows;
                                                  of many channels, by some of them: times all / these
    C[s, k] = 0.9 pJ · synapses[s] · spikes[s, k]  spikes: mean of a neuron, by code
    G[s]    = E / Σ Q[s′, p]                      over the sites s′ of the group of s, with E the error of the outputs
                                                  when PROBED levels stand at these sites alone

Groups are sites that follow one another, GROUPS of them at most. Between LEVELS, log Q and log C are linear in the
logarithm of the levels. See sensitivity.py for the same without groups, and for E.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.few_samples import SeenSites, observe_sites, output_error, spread_batches
from graphpass.calibration.fitting import fit_site, qcfs_plan
from graphpass.calibration.sensitivity import Sensitivity
from graphpass.datasets.dataset import Dataset
from graphpass.graph.plan import Plan
from graphpass.maths.allocation import spikes_of
from graphpass.maths.methods import METHODS, SiteSample
from graphpass.maths.metrics import ENERGY_AC
from graphpass.options.table import OPTIONS
from graphpass.progress import Progress, silent
from graphpass.records import json_of
from graphpass.sites.sites import Coverage

Array = NDArray[Any]

LEVELS = (2, 4, 16, 64, 256)
PROBED = LEVELS.index(4)
SAMPLES = 16
ROWS = 1024  # of every site
CHANNELS = 64  # of every site, at most; of 1280, they tell costs to 1 % and errors to 9 % (EfficientNet-Lite0)
GROUPS = 16
LEAST = 1e-30  # whose logarithm is taken for 0


@dataclass(frozen=True, eq=False)
class Forecast:
    """Q and, by code, C, float64 [sites, LEVELS]: sites in the order of the coverage. neurons: of a sample."""

    sites: tuple[str, ...]
    neurons: tuple[int, ...]
    errors: Array
    costs: dict[str, Array]

    def energy(self, levels: int, coding: str) -> float:
        """Of the additions behind all sites, in pJ a sample."""
        return float(_between(self.costs[coding].sum(0, keepdims=True), [levels])[0, 0])

    def sensitivity(
        self, rungs: Sequence[int], coding: str, gains: Sequence[float], sites: Sequence[str]
    ) -> Sensitivity:
        """E and C of some of the sites. gains: G of all."""
        kept = [self.sites.index(name) for name in sites]
        errors = np.array(gains)[kept, None] * _between(self.errors[kept], rungs)
        neurons = tuple(self.neurons[place] for place in kept)
        return Sensitivity(tuple(sites), tuple(rungs), errors, _between(self.costs[coding][kept], rungs), neurons)

    def to_text(self) -> str:
        """As JSON; no number loses a bit."""
        return json.dumps(json_of(self))

    @staticmethod
    def from_text(text: str) -> "Forecast":
        """What `to_text` wrote."""
        found = json.loads(text)
        costs = {coding: np.array(rows, np.float64) for coding, rows in found["costs"].items()}
        return Forecast(tuple(found["sites"]), tuple(found["neurons"]), np.array(found["errors"], np.float64), costs)


def _between(rows: Array, levels: Sequence[int]) -> Array:
    """Rows [S, LEVELS] at other levels: [S, levels]."""
    wanted, known = np.log(levels), np.log(LEVELS)
    return np.exp([np.interp(wanted, known, row) for row in np.log(np.maximum(rows, LEAST))])


@dataclass(frozen=True, eq=False)
class Seen:
    """A normalised graph (not changed) on a few samples of its calibration data."""

    graph: gs.Graph
    coverage: Coverage
    options: CalibrationOptions
    batches: list[dict[str, Array]]
    found: SeenSites


def see(
    graph: gs.Graph, coverage: Coverage, dataset: Dataset, options: CalibrationOptions, fixed_batch: int | None
) -> Seen:
    """Run it. Raises CalibrationError when a site's values are not finite, DataError for bad data."""
    batches = list(spread_batches(dataset, options.limit, fixed_batch, SAMPLES))
    found = observe_sites(graph, coverage.sites, batches, options, fixed_batch, ROWS)
    return Seen(graph, coverage, options, batches, found)


def forecast(seen: Seen, progress: Progress = silent) -> Forecast:
    """Q and C, with neurons of the options' method fitted to the activations of the graph."""
    coverage, method, found = seen.coverage, METHODS[seen.options.method], seen.found
    shape = len(coverage.sites), len(LEVELS)
    errors, costs = np.zeros(shape), {coding: np.zeros(shape) for coding in OPTIONS["coding"].names}
    for number, (site, sample, synapses) in enumerate(zip(coverage.sites, found.samples, found.synapses, strict=True)):
        progress("forecasting costs", number, len(coverage.sites))
        whole = sample.site.even()
        few = _some_channels(whole)
        for place, count in enumerate(LEVELS):
            chain = qcfs_plan(site, count)
            rows, fitted = (whole, chain.values) if chain else (few, method.fit(few, count))
            counts, scale = fitted.count(rows.x, count), whole.a.size / rows.a.size
            lost = np.square(fitted.neuron(count).decode(counts) - rows.a, dtype=np.float64).sum()
            errors[number, place] = scale * lost
            for coding, table in costs.items():
                table[number, place] = ENERGY_AC * synapses * float(spikes_of(counts, coding).mean())
    progress("forecasting costs", len(coverage.sites), len(coverage.sites))
    return Forecast(tuple(site.name for site in coverage.sites), found.neurons, errors, costs)


def _some_channels(sample: SiteSample) -> SiteSample:
    """At most CHANNELS channels of a sample on the scale where levels are even, evenly spread."""
    count = sample.x.shape[1]
    some = slice(None, None, -(-count // CHANNELS))
    x, a = sample.x[:, some], sample.a[:, some]
    bottom, top = (end[some] if np.shape(end) == (count,) else end for end in (sample.bottom, sample.top))
    return replace(sample, x=x, x_snn=x, a=a, bottom=bottom, top=top)


def gains(seen: Seen, known: Forecast, progress: Progress = silent) -> list[float]:
    """G of each site. known: of the same graph."""
    coverage, options = seen.coverage, seen.options
    method, count = METHODS[options.method], len(coverage.sites)
    found: list[float] = []
    for group in np.array_split(np.arange(count), min(GROUPS, count)):
        progress("measuring sensitivity", len(found), count)
        sites = tuple(fit_site(coverage.sites[k], seen.found.samples[k], LEVELS[PROBED], method) for k in group)
        plan = Plan(options.time_steps, options.coding, options.method, sites)
        response = output_error(seen.graph, plan, seen.batches, seen.found.outputs, options.threads, None, {})
        lost = float(known.errors[group, PROBED].sum())
        found += [response / lost if lost else 0.0] * len(group)
    progress("measuring sensitivity", count, count)
    return found
