"""What a rule of normalisation is given and what it reports: the guide to writing one.

A rule is a function in a file of the same name, and one line in `normalise.RULES`:

    def eliminate_identities(work: Rewriting) -> None:
        "Identity(x) → x."
        for node in work.nodes("Identity"):
            if node.outputs[0].name in work.edit.held:
                work.miss(node, HELD)
            else:
                work.edit.bypass(node)
                work.done()

It is given the graph at top level, with an editor, and changes it in place; it returns nothing. The docstring is its
algebra. `done` counts rewrites; `miss` reports a node that the rule almost fits, with a reason that continues
"…, because". Subgraphs (If, Loop, Scan) are left alone. A tensor that a subgraph captures keeps its name, and so do all
graph inputs, outputs and nodes, since plans refer to them. Running a rule a second time changes nothing more.

Its test is tests/passes/test_<name>.py: how often it rewrote, which operators are left, that the outputs are equal
before and after, and each reason for a miss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphpass.graph.edit import Editor
from graphpass.graph.weights import is_op

HELD = "it is a graph output, or a subgraph captures it"


@dataclass(frozen=True)
class Miss:
    """A node that a rule almost fits, and why it was not rewritten."""

    rule: str
    node: str
    reason: str


@dataclass(frozen=True)
class RuleReport:
    """What one rule did: the number of rewrites, and the misses."""

    rule: str
    rewrites: int
    misses: tuple[Miss, ...]


class Rewriting:
    """One rule at work on a graph. `edit` inserts and removes nodes and makes up names."""

    def __init__(self, rule: str, graph: gs.Graph):
        self.graph, self.edit = graph, Editor(graph)
        self.rewrites = 0
        self._rule = rule
        self._misses: dict[str, Miss] = {}

    def nodes(self, *ops: str) -> list[gs.Node]:
        """The nodes of these standard operators, in the order of the graph; the list stays as it is during edits."""
        return [node for node in self.graph.nodes if is_op(node, *ops)]

    def done(self) -> None:
        """Count a rewrite."""
        self.rewrites += 1

    def miss(self, node: gs.Node, reason: str) -> None:
        """Report a node that was not rewritten; the first reason for a node counts."""
        self._misses.setdefault(node.name, Miss(self._rule, node.name, reason))

    def settle(self, node: gs.Node, reason: str | None) -> None:
        """Count a rewrite if there is no reason against it, else report a miss."""
        if reason is None:
            self.done()
        else:
            self.miss(node, reason)

    @property
    def misses(self) -> int:
        """The number of misses."""
        return len(self._misses)

    def is_missed(self, node: gs.Node) -> bool:
        """Whether the node was reported as a miss."""
        return node.name in self._misses

    def next_round(self) -> None:
        """Bring the graph up to date, for rules whose rewrites make others possible."""
        self.edit.finish()
        self.edit = Editor(self.graph)

    def report(self) -> RuleReport:
        """What was done. Brings the graph up to date."""
        self.edit.finish()
        return RuleReport(self._rule, self.rewrites, tuple(self._misses.values()))


Rule = Callable[[Rewriting], None]


def run_rule(rule: Rule, graph: gs.Graph) -> RuleReport:
    """Run one rule on a graph, in place."""
    work = Rewriting(rule.__name__, graph)
    rule(work)
    return work.report()
