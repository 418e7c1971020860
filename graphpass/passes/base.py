"""What a rule of normalisation is given, and what it reports: the guide to a new one.

A rule is a function in a file of its own, which has its name, and one line in `normalise.RULES`:

    def eliminate_identities(work: Rewriting) -> None:
        "Identity(x) → x."
        for node in work.nodes("Identity"):
            if node.outputs[0].name in work.edit.held:
                work.miss(node, HELD)
            else:
                work.edit.bypass(node)
                work.done()

It is given the graph at top level, with an editor of it, and changes it in place; it returns nothing. The docstring is
its algebra. `done` counts what was rewritten; `miss` names a near-match that was left, with a reason that continues
"…, because". Subgraphs (If, Loop, Scan) are left alone. A tensor that one captures, and every graph input and output,
keeps its name, and so does every node: plans refer to them. Running a rule a second time changes nothing more.

Its test is tests/passes/test_<name>.py: how often it rewrote, which operators are left, that the outputs are equal
before and after, and each reason for leaving a near-match.
"""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from graphpass.graph.edit import Editor
from graphpass.graph.weights import is_op

HELD = "it is a graph output, or a subgraph captures it"


@dataclass(frozen=True)
class Miss:
    """A near-match that was not rewritten, and why."""

    rule: str
    node: str
    reason: str


@dataclass(frozen=True)
class RuleReport:
    """What one rule did: number of rewrites, and what it left."""

    rule: str
    rewrites: int
    misses: tuple[Miss, ...]


class Rewriting:
    """One rule at work on a graph. `edit` puts nodes in, takes them out and makes up names."""

    def __init__(self, rule: str, graph: gs.Graph):
        self.graph, self.edit = graph, Editor(graph)
        self.rewrites = 0
        self._rule = rule
        self._misses: dict[str, Miss] = {}

    def nodes(self, *ops: str) -> list[gs.Node]:
        """The nodes of these standard operators, in the order of the graph; the list stays as it is during edits."""
        return [node for node in self.graph.nodes if is_op(node, *ops)]

    def done(self) -> None:
        """One rewrite more."""
        self.rewrites += 1

    def miss(self, node: gs.Node, reason: str) -> None:
        """A near-match is left; the first reason for a node counts."""
        self._misses.setdefault(node.name, Miss(self._rule, node.name, reason))

    def settle(self, node: gs.Node, reason: str | None) -> None:
        """A rewrite where there is no reason against it, otherwise a miss."""
        if reason is None:
            self.done()
        else:
            self.miss(node, reason)

    @property
    def misses(self) -> int:
        """How many near-matches were left."""
        return len(self._misses)

    def is_missed(self, node: gs.Node) -> bool:
        """Whether the node was left."""
        return node.name in self._misses

    def next_round(self) -> None:
        """Bring the graph up to date, for rules whose rewrites make others possible."""
        self.edit.finish()
        self.edit = Editor(self.graph)

    def report(self) -> RuleReport:
        """What was done; the graph is up to date."""
        self.edit.finish()
        return RuleReport(self._rule, self.rewrites, tuple(self._misses.values()))


Rule = Callable[[Rewriting], None]


def run_rule(rule: Rule, graph: gs.Graph) -> RuleReport:
    """Runs one rule on a graph, in place."""
    work = Rewriting(rule.__name__, graph)
    rule(work)
    return work.report()
