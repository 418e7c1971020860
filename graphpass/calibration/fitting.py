"""The neurons of a site: fitted to its sample, or read off its QCFS chain; what they leave; the levels of the ANN."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.calibration.sampling import StepSample
from graphpass.graph.plan import SitePlan
from graphpass.maths.histograms import BLOCK
from graphpass.maths.methods import QUANTISER, Method
from graphpass.maths.outliers import sum_of
from graphpass.maths.threads import slices
from graphpass.maths.thresholds import Levels, squared_error
from graphpass.sites.sites import Site

Array = NDArray[Any]
ERROR_ROWS = 4096  # of a site that its error is told from


def fit_site(site: Site, sample: StepSample, levels: int, method: Method) -> SitePlan:
    """A site's neurons, by the method from its sample, or as its QCFS chain says."""
    chain = qcfs_plan(site, levels)
    if chain is not None:
        return chain
    found = method.fit(sample.site, levels)
    parameters = (found.threshold, found.shift, found.amplitude, found.offset)
    fitted = _site_plan(site, sample.positions.parameter_shape(len(found.threshold)), levels, parameters)
    return replace(fitted, scale="activation") if sample.site.curve else fitted


def fit_quantiser(sample: StepSample, levels: int) -> Levels:
    """Levels with the least error on the ANN itself, for networks without new weights."""
    return QUANTISER(replace(sample, x_snn=sample.x, offset=True).site, levels)


def error_of(site: SitePlan, sample: StepSample) -> float | None:
    """Σ (y − a)² / Σ (a − ā)² over some rows, y of the site's neurons; None where a does not vary."""
    sample = sample.drawn(ERROR_ROWS)
    mean, even = sample.a.mean(0), sample.site.even().x_snn
    spread = error = 0.0
    for rows in slices(len(even), max(1, BLOCK // len(mean))):  # which the processor's cache holds
        a = sample.a[rows]
        spread += float(squared_error(a, mean).sum())
        error += float(squared_error(output_of(site, even[rows]), a).sum())
    return error / spread if spread > 0 else None


def output_of(site: SitePlan, x: Array) -> Array:
    """What a site's neurons make of sampled rows [P, C] on the scale where their levels are even: float32."""
    if site.beyond is None:
        return site.values.output(x, site.levels)
    return sum_of(x, site.values, site.beyond, site.levels)


def qcfs_plan(site: Site, levels: int) -> SitePlan | None:
    """A QCFS site's own neurons: lossless where the levels are its own, else its range in other levels.

    With L̃ = the chain's steps and L = levels − 1:  θ = θ̃·L̃/L,  ψ = ψ̃ − θ̃/2 + θ/2,  A = Ã·L̃/L,  o = õ.
    None for other sites.
    """
    if "steps" not in site.parameters:
        return None
    known = {name: np.asarray(value, np.float64) for name, value in site.parameters.items()}
    ratio = float(known["steps"]) / (levels - 1)
    old = known["threshold"]
    parts = (
        old * ratio,
        known["shift"] + (old * ratio - old) / 2,
        known["amplitude"] * ratio,
        known["offset"],
    )
    full = np.broadcast_arrays(*parts)
    plan = _site_plan(site, full[0].shape or (1,), levels, [np.ravel(part) for part in full])
    return replace(plan, quantiser=Levels(plan.threshold, plan.shift, plan.amplitude, plan.offset))


def _site_plan(site: Site, shape: Sequence[int], levels: int, parts: Sequence[Array]) -> SitePlan:
    threshold, shift, amplitude, offset = (np.ascontiguousarray(part, np.float32) for part in parts)
    return SitePlan(
        name=site.name,
        kind=site.kind,
        input=site.input,
        output=site.output,
        layers=site.layers,
        shape=tuple(int(size) for size in shape),
        levels=levels,
        threshold=threshold,
        shift=shift,
        amplitude=amplitude,
        offset=offset,
    )
