"""A network before it is converted: normalised, with its sites found."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_graphsurgeon as gs

from graphpass.errors import CoverageError, GraphpassError, PlanError, UnsupportedModelError
from graphpass.graph.model import Source
from graphpass.graph.plan import Left, Plan
from graphpass.passes.base import RuleReport
from graphpass.passes.normalise import normalise
from graphpass.runtime.session import open_session
from graphpass.sites.planned import planned_sites, require_ranges
from graphpass.sites.sites import (
    EXCLUDED,
    HOLDS,
    NOT_INCLUDED,
    TYPE_REFUSED,
    Coverage,
    Selection,
    find_sites,
    spike_driven,
)
from graphpass.wording import counted

UNPLANNED = "the plan has no neurons for it"  # why a site was left


@dataclass(frozen=True, eq=False)
class Network:
    """A normalised network: what was rewritten, where neurons go and what is left analogue.

    selection: what was asked for as its sites were found. A copy, or one that was pickled, is normalised once more.
    """

    source: Source
    graph: gs.Graph
    rules: tuple[RuleReport, ...]
    coverage: Coverage
    selection: Selection

    def __reduce__(self) -> tuple[Any, ...]:
        return _prepared, (self.source, self.selection, self.coverage)


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
    return Network(source, graph, rules, coverage, selection or Selection())


def selected(network: Network, selection: Selection) -> Network:
    """The same network with the sites of another selection."""
    return replace(network, coverage=find_sites(network.graph, selection), selection=selection)


def _prepared(source: Source, selection: Selection, coverage: Coverage) -> Network:
    return replace(prepare(source, selection), coverage=coverage)


def with_identity_sites(network: Network) -> Coverage | None:
    """The coverage that identity sites would give; None where they were asked for, or would add no site."""
    if network.selection.identity_sites:
        return None
    found = find_sites(network.graph, replace(network.selection, identity_sites=True))
    return found if len(found.sites) > len(network.coverage.sites) else None


def identity_sites_add(found: int, spiking_layers: int, weight_layers: int) -> str:
    """What identity sites would bring, in words. found: how many."""
    reached = f"spikes would reach {spiking_layers} of {counted(weight_layers, 'weight layer')}"
    return f"--identity-sites adds {counted(found, 'site')}: {reached}"


def own_plan(network: Network, plan: Plan) -> Plan:
    """The plan, if it was made for this model; one that names no model becomes this model's. Sites that were taken out
    of it stay analogue, and it says so. Raises PlanError.
    """
    if plan.model_digest and plan.model_digest != network.source.digest:
        raise PlanError(
            f"the plan was made for another model (sha256 {plan.model_digest[:9]}…, not {network.source.digest[:9]}…)",
            f"make one for {network.source.path} with --calibration and --plan-out",
        )
    held = {site.name for site in plan.sites} | {entry.node for entry in plan.left}
    absent = tuple(
        Left(site.name, site.kind, UNPLANNED, True) for site in network.coverage.sites if site.name not in held
    )
    return replace(plan, model_digest=network.source.digest, left=(*plan.left, *absent))


def planned(network: Network, plan: Plan) -> Network:
    """The network with the sites of a plan, and what the plan leaves analogue, instead of what was found.

    Raises PlanError for a site, or a tensor with a range, that the network does not have.
    """
    sites = planned_sites(network.graph, plan)
    require_ranges(network.graph, plan)
    reached = sum(reason is None for reason in spike_driven(network.graph, sites).values())
    return replace(network, coverage=replace(network.coverage, sites=sites, left=plan.left, spiking_layers=reached))


def left_by(network: Network, plan: Plan) -> Plan:
    """A plan that was calibrated, with what is left analogue because calibration left some sites so: layers, too."""
    found = {site.name for site in plan.sites}
    lost = [re.escape(site.name) for site in network.coverage.sites if site.name not in found]
    if not lost:
        return plan
    selection = replace(network.selection, exclude=(*network.selection.exclude, f"^({'|'.join(lost)})$"))
    known = {entry.node: entry for entry in plan.left}
    without = find_sites(network.graph, selection)
    return replace(plan, left=tuple(known.get(entry.node, entry) for entry in without.left))


def require_coverage(network: Network, allow_partial: bool) -> None:
    """Raise unless there are sites, and every site that should be converted can be."""
    coverage = network.coverage
    missing = [entry for entry in coverage.left if not entry.expected]
    named = "; ".join(f"{entry.node!r} ({entry.op}): {entry.reason}" for entry in missing[:3])
    if not coverage.sites:
        bodies = [entry for entry in coverage.left if HOLDS in entry.reason]
        left = (
            _grouped(coverage.refused)
            or named
            or _grouped([*bodies, *(each for each in coverage.left if each not in bodies)])
        )
        raise UnsupportedModelError(
            f"{network.source.path}: nothing to convert, {_why_nothing(coverage, bool(missing or bodies))}"
            + (f" ({left})" if left else ""),
            _remedy(network, bool(missing)),
        )
    if missing and not allow_partial:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        nodes = counted(len(missing), "node")
        raise CoverageError(
            f"{network.source.path}: {nodes} that should convert would stay analogue: {named}{more}",
            "accept that with --allow-partial",
        )


def _why_nothing(coverage: Coverage, unconverted: bool) -> str:
    """Why a network has no sites. unconverted: whether there are nodes with what would else be converted."""
    if coverage.refused:
        return "every activation in front of a weight layer stays analogue"
    if unconverted:
        return "its activations and layers are where neurons cannot be"
    return "no activation feeds a weight layer" if coverage.weight_layers else "the network has no weight layer"


def _grouped(left: Sequence[Left]) -> str:
    """The first three reasons, each with the first of its nodes and the number of the others."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for entry in left:
        nodes.setdefault((entry.op, entry.reason), []).append(entry.node)
    texts = []
    for (op, reason), names in list(nodes.items())[:3]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        texts.append(f"{names[0]!r} ({op}){more}: {reason}")
    return "; ".join(texts)


def _remedy(network: Network, unconverted: bool) -> str:
    """What may be done where there are no sites. unconverted: there are nodes that should have been some."""
    found = []
    if any(entry.reason in (EXCLUDED, NOT_INCLUDED) for entry in network.coverage.left):
        found.append("let --include and --exclude leave a site")
    if any(entry.reason.endswith(TYPE_REFUSED) for entry in network.coverage.refused):
        found.append("export the network in float32")
    if (with_them := with_identity_sites(network)) and not unconverted:
        found.append(identity_sites_add(len(with_them.sites), with_them.spiking_layers, with_them.weight_layers))
    return "; or: ".join(found) or "give a network, or the part of one, whose activations feed weight layers"


def own_time_steps(network: Network, coding: str) -> int | None:
    """T̃ of a network whose sites are all QCFS chains with the same number of steps, in the rate code; else None."""
    steps = {int(site.parameters["steps"]) if "steps" in site.parameters else None for site in network.coverage.sites}
    return steps.pop() if len(steps) == 1 and coding == "rate" else None
