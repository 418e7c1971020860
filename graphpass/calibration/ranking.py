"""Which sites cost the accuracy: each site alone, and each site left out.

    E        = mean over the outputs of Σ (y − a)² / Σ (a − ā)², with neurons at every site
    alone    E with neurons at that site only, all weights as they were
    without  E with neurons at every other site: the network as it was calibrated, that site analogue

Sites are ranked by `alone`, which predicts best what is gained if a site stays analogue. `without` keeps the weights
that were corrected for the spikes of all sites, so that a ranking takes one calibration; it may therefore be above E.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from graphpass.calibration.calibrate import CalibrationOptions, calibrate
from graphpass.calibration.few_samples import observe_sites, output_error, spread_batches
from graphpass.calibration.fitting import fit_site
from graphpass.datasets.dataset import Dataset
from graphpass.evaluation.results import without_nan
from graphpass.graph.plan import Plan
from graphpass.maths.methods import METHODS
from graphpass.maths.threads import limited_threads
from graphpass.network import Network
from graphpass.progress import Progress, silent
from graphpass.runtime.samples import sample_axes
from graphpass.runtime.session import fixed_batch, input_specs, open_session, pad_inputs

HALF = 0.5  # of the error of all sites alone: what the suggested ones cause
MOST_SUGGESTED = 3


@dataclass(frozen=True)
class RankedSite:
    """A site and the errors of the outputs: with its neurons alone, and with all others. share: of Σ alone."""

    name: str
    kind: str
    levels: int
    alone: float
    without: float
    share: float


@dataclass(frozen=True)
class Ranking:
    """Sites by the error that they cause alone, largest first. error: of all together, on `samples` samples of `data`.

    exclude: names of the sites to leave analogue first: the fewest that cause half of Σ alone, at most three.
    """

    time_steps: int
    coding: str
    method: str
    data: str
    samples: int
    error: float
    sites: tuple[RankedSite, ...]
    exclude: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of docs/formats.md."""
        return {key: without_nan(value) for key, value in asdict(self).items()}


def rank(
    network: Network,
    calibration: Dataset,
    options: CalibrationOptions,
    evaluation: Dataset | None = None,
    progress: Progress = silent,
) -> Ranking:
    """Calibrate once, and measure every site on a few samples of the evaluation data, or of the calibration data.

    Raises what `calibrate` raises.
    """
    fixed, graph, sites = fixed_batch(input_specs(network.source)), network.graph, network.coverage.sites
    data, method = evaluation or calibration, METHODS[options.method]
    with limited_threads(options.threads):
        batches = list(spread_batches(data, options.limit if evaluation is None else None, fixed))
        seen = observe_sites(graph, sites, batches, options, fixed)
        plan = calibrate(graph, network.coverage, calibration, options, fixed, progress)
        axes = sample_axes(open_session(network.source, threads=options.threads), pad_inputs(batches[0], fixed))
        error_of = partial(output_error, graph, batches=batches, outputs=seen.outputs, threads=options.threads)
        whole, found = error_of(plan, fixed=fixed, axes=axes), []
        for number, (site, sample) in enumerate(zip(sites, seen.samples, strict=True)):
            progress("ranking sites", number, len(sites))
            fitted = fit_site(site, sample, options.levels_at(site.name), method)
            alone = error_of(Plan(plan.time_steps, plan.coding, plan.method, (fitted,)), fixed=fixed, axes=axes)
            rest = replace(plan, sites=tuple(each for each in plan.sites if each.name != site.name))
            without = error_of(rest, fixed=fixed, axes=axes)
            found.append(RankedSite(site.name, site.kind, fitted.levels, alone, without, 0.0))
        progress("ranking sites", len(sites), len(sites))
    total = sum(each.alone for each in found) or 1.0
    ranked = tuple(replace(each, share=each.alone / total) for each in sorted(found, key=lambda each: -each.alone))
    count = sum(len(next(iter(batch.values()))) for batch in batches)
    settings = (plan.time_steps, plan.coding, plan.method)
    return Ranking(*settings, data.description, count, whole, ranked, suggested(ranked))


def suggested(ranked: Sequence[RankedSite]) -> tuple[str, ...]:
    """The fewest of the ranked sites whose shares make HALF, at most MOST_SUGGESTED."""
    names: list[str] = []
    left = HALF
    for site in ranked[:MOST_SUGGESTED]:
        if left <= 0 or site.share <= 0:
            break
        names.append(site.name)
        left -= site.share
    return tuple(names)
