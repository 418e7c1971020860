"""What a network costs, before it is calibrated: neurons fitted to a few samples, counted on a few samples."""

from dataclasses import replace

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.fitting import fit_site
from graphpass.calibration.forecast import see
from graphpass.conversion import spiking_model
from graphpass.evaluation.evaluate import measure, open_pair
from graphpass.graph.plan import Plan
from graphpass.maths.methods import METHODS
from graphpass.runtime.session import fixed_batch, input_specs
from graphpass.series import Series


def rough_energy(conversions: Series, options: CalibrationOptions) -> float:
    """pJ a sample of the network of a series, with memory traffic, by the energy model of its evaluations.

    No weight is corrected, and no sample is compared: what calibration costs most for changes little of the spikes.
    Raises CalibrationError where a site's values are not finite.
    """
    network = conversions.network
    source, coverage = network.source, network.coverage
    seen = see(network.graph, coverage, conversions.calibration, options, fixed_batch(input_specs(source)))
    method = METHODS[options.method]
    pairs = zip(coverage.sites, seen.found.samples, strict=True)
    sites = tuple(fit_site(site, sample, options.levels_at(site.name), method) for site, sample in pairs)
    plan = Plan(options.time_steps, options.coding, options.method, sites, (), coverage.left, source.digest)
    proto = spiking_model(network, plan, "folded")
    pair = open_pair(source, proto, replace(conversions.evaluation, extras=()), normalised=network.graph)
    return measure(pair, conversions.data).energy.snn.total
