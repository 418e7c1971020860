"""What a normalisation rule is, and what it reports."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_graphsurgeon as gs


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


Rule = Callable[[gs.Graph], RuleReport]
HELD = "it is a graph output, or a subgraph captures it"
