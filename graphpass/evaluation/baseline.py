"""The baseline: the ANN with every site's activation quantised to as many levels as the SNN has there.

    y = A·clip(floor((a + ψ) / θ), 0, L) + o        θ, ψ, A, o with the least Σ (y − a)² on the calibration data

A channel has levels of its own, chosen by least error on the ANN itself, and no weight is corrected: what quantisation
of the activations alone can do. Gain and offset are free, which those of a quantiser with one scale and a whole zero
point are not, so it is a strong baseline. Calibration chooses the levels (`SitePlan.quantiser`).
"""

import onnx_graphsurgeon as gs

from graphpass.errors import ModelError, PlanError
from graphpass.evaluation.results import ConversionFacts
from graphpass.forms.folded import fold
from graphpass.graph.channels import channel_axis
from graphpass.graph.plan import Plan
from graphpass.sites.planned import require_shape


def quantised(graph: gs.Graph, conversion: ConversionFacts) -> gs.Graph:
    """Quantises the activations of a normalised ANN, in place; returns the graph, sorted.

    Raises ModelError for a site that is not in it, or that its parameters do not fit.
    """
    sites = tuple(site.quantised for site in conversion.sites)
    tensors = graph.tensors()
    plan = Plan(conversion.time_steps, conversion.coding, conversion.method, sites)
    try:
        for site in sites:
            known = [each for name in (site.input, site.output) if isinstance(each := tensors.get(name), gs.Variable)]
            if known:
                require_shape(site, known[0], channel_axis(*known), qcfs=site.kind == "qcfs")
        return fold(graph, plan)
    except PlanError as error:
        raise ModelError(
            f"the metadata of the spiking model: {error.what}", "convert it with graphpass again"
        ) from error
