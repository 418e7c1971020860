"""How much a network's outputs need the levels of each site, and what levels cost.

    E[s, k] = G[s]·Q[s, k]        error of the outputs when site s alone is converted, to the levels of rung k
    Q[s, k] = Σ (y − a)²          what these levels do to the site's own output, on sampled rows
    G[s]    = E[s, p] / Q[s, p]   measured at one rung p: the network runs with neurons at site s, all else as it was
    E       = mean over the outputs of Σ (y − a)² / Σ (a − ā)²

    C[s, k] = 0.9 pJ · synapses[s] · spikes[s, k]      spikes: mean of a neuron; synapses: operations if all spiked once

So the network runs once a site over SAMPLES samples, whatever the number of rungs. Which levels follow from E and C
within a budget: maths/allocation.py. E adds errors up as if they were independent and nothing made up for them; whether
that holds is tried: networks of the chosen levels and of equal ones are calibrated on three quarters of the data, and
the one that errs less on the rest is kept.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.calibrate import CalibrationOptions, calibrate
from graphpass.calibration.few_samples import BATCH, observe_sites, output_error, spread_batches
from graphpass.calibration.fitting import fit_site
from graphpass.datasets.dataset import Dataset
from graphpass.errors import OptionError
from graphpass.graph.model import export
from graphpass.graph.plan import Plan, SitePlan
from graphpass.maths.allocation import DEFAULT_ENERGY, Auto, allocate, ladder, spikes_of, steps_needed
from graphpass.maths.methods import METHODS
from graphpass.maths.metrics import ENERGY_AC
from graphpass.maths.threads import limited_threads
from graphpass.progress import Progress, silent
from graphpass.records import json_of
from graphpass.runtime.samples import run_padded, sample_axes
from graphpass.runtime.session import open_session, pad_inputs
from graphpass.sites.sites import Coverage

Array = NDArray[Any]
Arrays = dict[str, Array]

PROBED = 5  # levels at which the network's response is measured: coarse, so that float rounding is nothing beside it
HELD_OUT = 4  # the last of so many parts of the data chooses between allocations
TRIED = 128  # of these, at most
ROUNDING = 1e-9  # of a budget
GAIN = 0.2  # of the error: of less, little stays on other samples (docs/calibration.md)


@dataclass(frozen=True)
class Sensitivity:
    """E and C, float64 [sites, rungs], sites in the order of the coverage. neurons: of each site, a sample."""

    sites: tuple[str, ...]
    rungs: tuple[int, ...]
    errors: Array
    costs: Array
    neurons: tuple[int, ...]

    def candidates(self, auto: Auto, options: CalibrationOptions) -> list[CalibrationOptions]:
        """The options with levels for every site within a budget, and T the most that one of them takes.

        First as E and C deal them out, then the most that all sites may have alike. The latter alone where both are the
        same, or dealing out promises less than GAIN of the error: to tell them apart costs two calibrations.

        Raises OptionError, which names the least budget, for one that even the fewest levels exceed.
        """
        if auto.mean_levels is not None:
            share = np.array(self.neurons, np.float64)[:, None] / max(sum(self.neurons), 1)
            costs, budget = share * np.array(self.rungs, np.float64), auto.mean_levels
        else:
            energy = DEFAULT_ENERGY if auto.energy is None else auto.energy
            costs, budget = self.costs, energy * float(self.costs[:, -1].sum())
        budget *= 1 + ROUNDING
        try:
            choices = [allocate(self.errors, costs, budget).tolist()]
        except OptionError as error:  # of energy alone: a mean of 2 is the least that there is
            least = math.ceil(1000 * float(costs.min(1).sum() / costs[:, -1].sum())) / 1000
            raise OptionError(error.what, f"give an energy of {least:g} or more", "energy") from error
        alike = np.flatnonzero(costs.sum(0) <= budget)
        if len(alike) and choices[0] != (equal := [int(alike[-1])] * len(costs)):
            sites = range(len(costs))
            dealt, even = (float(self.errors[sites, choice].sum()) for choice in (choices[0], equal))
            choices = [*choices, equal] if dealt < (1 - GAIN) * even else [equal]
        found = []
        for choice in choices:
            levels = {name: self.rungs[rung] for name, rung in zip(self.sites, choice, strict=True)}
            steps = max(steps_needed(count, options.coding) for count in levels.values())
            found.append(replace(options, levels=levels, time_steps=steps))
        return found

    def to_text(self) -> str:
        """As JSON; no number loses a bit."""
        return json.dumps(json_of(self))

    @staticmethod
    def from_text(text: str) -> "Sensitivity":
        """What `to_text` wrote."""
        found = json.loads(text)
        errors, costs = (np.array(found[name], np.float64) for name in ("errors", "costs"))
        return Sensitivity(tuple(found["sites"]), tuple(found["rungs"]), errors, costs, tuple(found["neurons"]))

    def note(self, options: CalibrationOptions) -> str:
        """What was chosen, in words: mean levels and energy beside those of T everywhere."""
        how = "chosen by sensitivity" if len(set(options.levels.values())) > 1 else "equal at all sites"
        rungs = [self.rungs.index(options.levels[name]) for name in self.sites]
        share = self.costs[range(len(rungs)), rungs].sum() / max(self.costs[:, -1].sum(), 1e-300)
        mean = np.average([self.rungs[rung] for rung in rungs], weights=self.neurons)
        return f"{how}: mean {mean:.2f}, {share:.3f} of the additions that {self.rungs[-1]} levels take"


def choose(
    graph: gs.Graph,
    coverage: Coverage,
    dataset: Dataset,
    options: CalibrationOptions,
    auto: Auto,
    fixed_batch: int | None = None,
    progress: Progress = silent,
) -> tuple[CalibrationOptions, str]:
    """The options with the levels of every site for a normalised graph (not changed), and what was chosen, in words.

    Raises what `measure` and `Sensitivity.candidates` raise.
    """
    with limited_threads(options.threads):
        found = measure(graph, coverage, dataset, options, fixed_batch, progress)
        candidates = found.candidates(auto, options)
        errors = (
            held_out_errors(graph, coverage, dataset, candidates, fixed_batch, progress) if len(candidates) > 1 else []
        )
    best = int(np.argmin(errors)) if errors else 0
    beside = f"; held-out error {errors[0]:.4g}, of equal levels {errors[1]:.4g}" if errors else ""
    return candidates[best], found.note(candidates[best]) + beside


def measure(
    graph: gs.Graph,
    coverage: Coverage,
    dataset: Dataset,
    options: CalibrationOptions,
    fixed_batch: int | None = None,
    progress: Progress = silent,
) -> Sensitivity:
    """How the outputs of a normalised graph (not changed) answer to levels at each site, by the options' method.

    Raises CalibrationError when a site's values are not finite, DataError for bad data.
    """
    rungs, method = ladder(options.time_steps, options.coding), METHODS[options.method]
    probed = min(range(len(rungs)), key=lambda k: abs(rungs[k] - PROBED))
    batches = list(spread_batches(dataset, options.limit, fixed_batch))
    seen = observe_sites(graph, coverage.sites, batches, options, fixed_batch)
    quantisation, spikes, errors = (np.zeros((len(coverage.sites), len(rungs))) for _ in range(3))
    for number, (site, sample) in enumerate(zip(coverage.sites, seen.samples, strict=True)):
        progress("measuring sensitivity", number, len(coverage.sites))
        plans = [fit_site(site, sample, count, method) for count in rungs]
        for rung, plan in enumerate(plans):
            neuron = plan.values.neuron(plan.levels)
            counts = neuron.count(sample.site.even().x)
            quantisation[number, rung] = np.square(neuron.decode(counts) - sample.a, dtype=np.float64).sum()
            spikes[number, rung] = spikes_of(counts, options.coding).mean()
        if quantisation[number, probed] > 0:
            response = _response(graph, plans[probed], batches, seen.outputs, options)
            errors[number] = response * quantisation[number] / quantisation[number, probed]
    progress("measuring sensitivity", len(coverage.sites), len(coverage.sites))
    costs = ENERGY_AC * np.array(seen.synapses)[:, None] * spikes
    names = tuple(site.name for site in coverage.sites)
    return Sensitivity(names, rungs, errors, costs, seen.neurons)


def held_out_errors(
    graph: gs.Graph,
    coverage: Coverage,
    dataset: Dataset,
    candidates: Sequence[CalibrationOptions],
    fixed_batch: int | None = None,
    progress: Progress = silent,
) -> list[float]:
    """Error of the outputs, by candidate, on samples it was not calibrated on: the last of HELD_OUT parts of the data.

    Empty where the data has fewer samples than parts, or neither it nor the limit tells how many.
    """
    known = [number for number in (dataset.samples, candidates[0].limit) if number is not None]
    if min(known, default=0) < HELD_OUT:
        return []
    kept = min(known) - min(known) // HELD_OUT
    held = dataset.batches(fixed_batch or BATCH, min(min(known), kept + TRIED), kept)
    batches = [dict(batch.inputs) for batch in held]
    if not batches:  # a function gave fewer samples than the limit
        return []
    plain = open_session(export(graph.copy()), threads=candidates[0].threads)
    axes = sample_axes(plain, pad_inputs(batches[0], fixed_batch))
    outputs = [run_padded(plain, batch, fixed_batch, axes) for batch in batches]
    errors = []
    for options in candidates:
        plan = calibrate(graph, coverage, dataset, replace(options, limit=kept), fixed_batch, progress)
        errors.append(output_error(graph, plan, batches, outputs, options.threads, fixed_batch, axes))
    return errors


def _response(
    graph: gs.Graph, site: SitePlan, batches: Sequence[Arrays], outputs: Sequence[Arrays], options: CalibrationOptions
) -> float:
    """The error of the outputs with neurons at one site alone: the mean over outputs of Σ (y − a)² / Σ (a − ā)²."""
    plan = Plan(options.time_steps, options.coding, options.method, (site,))
    return output_error(graph, plan, batches, outputs, options.threads, None, {})
