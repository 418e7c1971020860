"""Normalisation: a network is rewritten until sites are found by looking at weight layers and activations alone.

Each rule has a file; `base.py` says what a rule is. `graph/weights.py` does the arithmetic, `graph/edit.py` the edits.
"""

from dataclasses import replace

import onnx_graphsurgeon as gs

from graphpass.passes.base import Rule, RuleReport, run_rule
from graphpass.passes.cancel_transposes import cancel_transposes
from graphpass.passes.drop_softplus_guards import drop_softplus_guards
from graphpass.passes.eliminate_identities import eliminate_identities
from graphpass.passes.extract_constants import extract_constants
from graphpass.passes.fold_constants import fold_constants
from graphpass.passes.fuse_affine import fuse_affine
from graphpass.passes.fuse_batch_norm_into_layer import fuse_batch_norm_into_layer
from graphpass.passes.fuse_batch_norm_into_readers import fuse_batch_norm_into_readers
from graphpass.passes.fuse_padding import fuse_padding
from graphpass.passes.name_nodes import name_nodes
from graphpass.passes.resolve_sizes import resolve_sizes
from graphpass.passes.resolve_types import resolve_types
from graphpass.passes.spell_out_batch_norm import spell_out_batch_norm
from graphpass.passes.split_sums import split_sums

RULES: tuple[Rule, ...] = (  # the order matters
    name_nodes,
    extract_constants,
    split_sums,
    resolve_types,
    eliminate_identities,
    resolve_sizes,
    fold_constants,
    cancel_transposes,
    drop_softplus_guards,
    fuse_padding,
    fuse_batch_norm_into_layer,
    fuse_batch_norm_into_readers,
    spell_out_batch_norm,
    fuse_affine,
)


def normalise(graph: gs.Graph) -> tuple[RuleReport, ...]:
    """Run RULES in order, drop dead nodes and sort topologically, in place. Returns a report for each rule."""
    reports: dict[Rule, RuleReport] = {}
    for rule in RULES:
        reports[rule] = run_rule(rule, graph)
        if rule is fold_constants:
            _repeat_sizes(graph, reports)
    graph.cleanup(recurse_subgraphs=False, recurse_functions=False)
    graph.toposort(recurse_subgraphs=False, recurse_functions=False)
    return tuple(reports.values())


def _repeat_sizes(graph: gs.Graph, reports: dict[Rule, RuleReport]) -> None:
    """Sizes are known behind what was computed, as behind a Pad by such widths, and more may be computed from them."""
    changed = reports[fold_constants].rewrites
    while changed and any(node.op == "Shape" for node in graph.nodes):
        more = [run_rule(rule, graph) for rule in (resolve_sizes, fold_constants)]
        for rule, report in zip((resolve_sizes, fold_constants), more, strict=True):
            reports[rule] = replace(report, rewrites=reports[rule].rewrites + report.rewrites)
        changed = more[0].rewrites
