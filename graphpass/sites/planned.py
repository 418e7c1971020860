"""The sites of a plan, checked against the network that it is applied to: only parameters may have been edited."""

import re
from collections.abc import Mapping

import onnx_graphsurgeon as gs

from graphpass.errors import PlanError
from graphpass.graph.channels import channel_axis
from graphpass.graph.layers import reached_layers, weight_layers
from graphpass.graph.plan import Plan, SitePlan, reaches
from graphpass.sites.activations import Activation, find_activations
from graphpass.sites.sites import Site

REMEDY = "use the plan with its own model, and leave names, kinds, layers and shapes as they are"


def planned_sites(graph: gs.Graph, plan: Plan) -> tuple[Site, ...]:
    """The plan's sites as sites of a normalised graph. Raises PlanError naming the site and what does not fit."""
    activations = {activation.name: activation for activation in find_activations(graph)}
    layers = {layer.node.name for layer in weight_layers(graph)}
    tensors = graph.tensors()
    return tuple(
        _identity(site, tensors, layers) if site.kind == "identity" else _activation(site, activations)
        for site in plan.sites
    )


def require_ranges(graph: gs.Graph, plan: Plan) -> None:
    """Raises PlanError for the range of a tensor that a normalised graph does not have."""
    known = graph.tensors()
    if strange := next((name for name in plan.ranges if name not in known), None):
        raise PlanError(f"the plan's range of {strange!r}: no tensor of the model has this name", REMEDY)


def _activation(site: SitePlan, activations: Mapping[str, Activation]) -> Site:
    found = activations.get(site.name)
    if found is None:
        raise PlanError(f"the plan's site {site.name!r} is not in the model", REMEDY)
    layers = tuple(dict.fromkeys(layer.node.name for layer in reached_layers(found.output)))
    expected = {"kind": found.kind, "input": found.input.name, "output": found.output.name, "layers": layers}
    for name, value in expected.items():
        if getattr(site, name) != value:
            raise PlanError(f"the plan's site {site.name!r}: {name} is {getattr(site, name)!r}, not {value!r}", REMEDY)
    axis = channel_axis(found.input, found.output)
    require_shape(site, found.input, axis, qcfs="steps" in found.parameters)
    return Site(site.name, site.kind, site.input, site.output, axis, site.layers, found.parameters)


def _identity(site: SitePlan, tensors: Mapping[str, gs.Tensor], layers: set[str]) -> Site:
    tensor = tensors.get(site.input)
    own = re.fullmatch(rf"{re.escape(site.input)}/identity(_\d+)?", site.name) and site.name not in tensors
    if not isinstance(tensor, gs.Variable) or not own or site.output != site.name:
        raise PlanError(f"the plan's site {site.name!r} is not in the model", REMEDY)
    if unknown := next((name for name in site.layers if name not in layers), None):
        raise PlanError(f"the plan's layer {unknown!r}, of site {site.name!r}, is not in the model", REMEDY)
    axis = channel_axis(tensor)
    require_shape(site, tensor, axis, qcfs=False)
    return Site(site.name, site.kind, site.input, site.output, axis, site.layers)


def require_shape(site: SitePlan, x: gs.Variable, axis: int | None, qcfs: bool) -> None:
    """Raises PlanError unless there is one parameter for the tensor, or one for each channel. A QCFS chain has those
    that it was trained with.
    """
    sizes = x.shape
    if sizes is None:
        return
    own = [place for place, size in enumerate(site.shape, len(sizes) - len(site.shape)) if size != 1]
    known = all(isinstance(sizes[place], int) or (axis is not None and place == axis % len(sizes)) for place in own)
    if not reaches(site.shape, sizes) or not (qcfs or (len(own) <= 1 and known)):
        raise PlanError(
            f"the plan's site {site.name!r}: parameters of shape {list(site.shape)} do not fit {list(sizes)}",
            REMEDY,
        )
