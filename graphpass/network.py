"""A network before it is converted: normalised, with its sites found."""

from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from graphpass.errors import CoverageError, GraphpassError, UnsupportedModelError
from graphpass.graph.model import Source
from graphpass.graph.plan import Plan
from graphpass.passes.base import RuleReport
from graphpass.passes.normalise import normalise
from graphpass.runtime.session import open_session
from graphpass.sites.planned import planned_sites
from graphpass.sites.sites import Coverage, Selection, find_sites, spike_driven


@dataclass(frozen=True)
class Network:
    """A normalised network: what was rewritten, where neurons go and what is left analogue."""

    source: Source
    graph: gs.Graph
    rules: tuple[RuleReport, ...]
    coverage: Coverage


def prepare(source: Source, selection: Selection | None = None) -> Network:
    """Normalise a model and find its sites.

    Raises OptionError for a selection that has no effect, and SessionError where onnxruntime does not load the file and
    the rules of normalisation, which take it for granted that operators fit together, fail on it as well.
    """
    try:
        graph = source.graph()
        rules = normalise(graph)
        coverage = find_sites(graph, selection)
    except GraphpassError:
        raise
    except Exception:
        open_session(source, threads=1, use_native=False)
        raise
    if selection is not None:
        selection.require_effect(coverage)
    return Network(source, graph, rules, coverage)


def planned(network: Network, plan: Plan) -> Network:
    """The network with the sites of a plan, and what the plan leaves analogue, instead of what was found.

    Raises PlanError for a site that the network does not have.
    """
    sites = planned_sites(network.graph, plan)
    reached = sum(reason is None for reason in spike_driven(network.graph, sites).values())
    return replace(network, coverage=replace(network.coverage, sites=sites, left=plan.left, spiking_layers=reached))


def require_coverage(network: Network, allow_partial: bool) -> None:
    """Raise unless there are sites, and every site that should be converted can be."""
    missing = [entry for entry in network.coverage.left if not entry.expected]
    named = "; ".join(f"{entry.node!r} ({entry.op}): {entry.reason}" for entry in missing[:3])
    if not network.coverage.sites:
        left = named or "; ".join(f"{entry.node!r} ({entry.op}): {entry.reason}" for entry in network.coverage.left[:3])
        raise UnsupportedModelError(
            f"{network.source.path}: nothing to convert, no activation feeds a weight layer"
            + (f" ({left})" if left else ""),
            "give a network, or the part of one, whose activations feed weight layers"
            if missing
            else "see `graphpass inspect`, or try --identity-sites",
        )
    if missing and not allow_partial:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CoverageError(
            f"{network.source.path}: {len(missing)} node(s) that should convert would stay analogue: {named}{more}",
            "accept that with --allow-partial",
        )


def own_time_steps(network: Network, coding: str) -> int | None:
    """T̃ of a network whose sites are all QCFS chains with the same number of steps, in the rate code; else None."""
    steps = {int(site.parameters["steps"]) if "steps" in site.parameters else None for site in network.coverage.sites}
    return steps.pop() if len(steps) == 1 and coding == "rate" else None
