"""Run a network piece by piece over stored batches, each piece once, keeping only the tensors still needed.

A segment is a set of nodes with everything they need from outside in the store. Tensors live under a name and a batch
number, in memory up to a budget and in a temporary folder beyond it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.steps import Step
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.model import export_untyped
from graphpass.graph.names import names_of
from graphpass.runtime.session import open_session, run
from graphpass.runtime.store import TensorStore

Arrays = dict[str, NDArray[Any]]


def needs(node: gs.Node) -> list[gs.Variable]:
    """The variables a node reads, those that its subgraphs capture from outside included."""
    found = [t for t in node.inputs if isinstance(t, gs.Variable) and not t.is_empty()]
    for body in node.subgraphs():
        inner = {t.name for n in body.nodes for t in n.outputs} | {t.name for t in body.inputs}
        for inside in body.nodes:
            found.extend(t for t in needs(inside) if t.name not in inner)
        found.extend(t for t in body.outputs if isinstance(t, gs.Variable) and t.name not in inner)
    return found


class Walk:
    """A walk through a sorted graph: which nodes have run, and what is still needed of their outputs."""

    def __init__(self, graph: gs.Graph, store: TensorStore, threads: int):
        self.graph = graph
        self.tensors = graph.tensors()
        self.names = names_of(graph)
        self.store = store
        self._threads = threads
        self._done: set[int] = set()
        self._outputs = {tensor.name for tensor in graph.outputs}
        self._producers = {tensor.name: node for node in graph.nodes for tensor in node.outputs}
        self._readers: dict[str, list[gs.Node]] = {}
        for node in graph.nodes:
            for tensor in needs(node):
                self._readers.setdefault(tensor.name, []).append(node)
        self._live = {tensor.name for tensor in graph.inputs}

    def nodes_for(self, targets: Iterable[str], stop: Iterable[str] = ()) -> list[gs.Node]:
        """The nodes that have not run and that the targets need, in the graph's order; not beyond `stop` tensors."""
        stop = set(stop)
        wanted: set[int] = set()
        stack = [name for name in targets if name not in stop]
        while stack:
            node = self._producers.get(stack.pop())
            if node is None or id(node) in self._done or id(node) in wanted:
                continue
            wanted.add(id(node))
            stack.extend(tensor.name for tensor in needs(node) if tensor.name not in stop)
        return [node for node in self.graph.nodes if id(node) in wanted]

    def frontier(self, nodes: Sequence[gs.Node]) -> list[str]:
        """Outputs of the nodes that nodes outside, not yet run, will read."""
        inside = {id(node) for node in nodes}
        return [
            tensor.name
            for node in nodes
            for tensor in node.outputs
            if any(id(r) not in inside and id(r) not in self._done for r in self._readers.get(tensor.name, []))
        ]

    def last_read(self, nodes: Sequence[gs.Node]) -> list[str]:
        """What the nodes read from outside and nothing after them will."""
        inside = {id(node) for node in nodes} | self._done
        return [name for name in self.outside(nodes) if all(id(r) in inside for r in self._readers.get(name, []))]

    def finish(self, nodes: Iterable[gs.Node], *live: Iterable[str]) -> None:
        """Mark nodes as run and the `live` tensors as stored; drop what nothing will read any more."""
        self._done.update(id(node) for node in nodes)
        self._live.update(*live)
        for name in [name for name in self._live if all(id(r) in self._done for r in self._readers.get(name, []))]:
            self._live.discard(name)
            self.store.drop(name)

    def descendants(self, nodes: Sequence[gs.Node], roots: Sequence[gs.Node]) -> list[gs.Node]:
        """The roots and those of the nodes that depend on them, in order."""
        changed = {tensor.name for node in roots for tensor in node.outputs}
        kept = []
        for node in nodes:
            if any(node is root for root in roots) or any(tensor.name in changed for tensor in needs(node)):
                kept.append(node)
                changed.update(tensor.name for tensor in node.outputs)
        return kept

    def segment(
        self,
        nodes: Sequence[gs.Node],
        fetch: Sequence[str],
        example: Mapping[str, NDArray[Any]],
        functions: Sequence[onnx.FunctionProto] = (),
    ) -> "Segment":
        """The nodes as a model of its own. example: one array per outside tensor (for its dtype)."""
        produced = {t.name: t for node in nodes for t in node.outputs}
        outside = {t.name: t for node in nodes for t in needs(node) if t.name not in produced}
        for name, tensor in outside.items():
            tensor.dtype, tensor.shape = example[name].dtype, [None] * example[name].ndim
        outputs = [produced[name] for name in dict.fromkeys(fetch) if name in produced]
        part = gs.Graph(
            list(nodes),
            list(outside.values()),
            outputs,
            opset=self.graph.opset,
            import_domains=self.graph.import_domains,
        )
        proto = export_untyped(part)
        del proto.graph.value_info[:]
        if functions:
            proto.functions.extend(functions)
            if not any(entry.domain == SPIKING_DOMAIN for entry in proto.opset_import):
                proto.opset_import.append(operators.opset_import())
        names = [tensor.name for tensor in outputs]
        return Segment(open_session(proto, threads=self._threads, use_blocked=False), list(outside), names)

    def outside(self, nodes: Sequence[gs.Node]) -> list[str]:
        """Names of the variables that the nodes read and do not make."""
        produced = {tensor.name for node in nodes for tensor in node.outputs}
        return list(dict.fromkeys(t.name for node in nodes for t in needs(node) if t.name not in produced))


@dataclass(frozen=True)
class StepSegments:
    """The part of the network that one step of the walk runs, cut in front of the step's layers.

        stored ──► upstream ──► boundary ──► downstream ──► target ──► neurons ──► output
                      │         (with u)    (the layers and     (in place of the
                      │                      what adds them up)   activation)
                      └──► passing              └──► corrected

    upstream, downstream: nodes, in order. boundary: tensors that downstream reads, u among them; of a step without
    layers its target. passing, corrected: tensors that later steps read, of the one and the other. nodes: all of the
    step, the activation among them. frontier: what later steps read, the output among it.
    """

    nodes: tuple[gs.Node, ...]
    upstream: tuple[gs.Node, ...]
    downstream: tuple[gs.Node, ...]
    boundary: tuple[str, ...]
    passing: tuple[str, ...]
    corrected: tuple[str, ...]
    frontier: tuple[str, ...]


def cut(walk: Walk, step: Step) -> StepSegments:
    """The segments of the next step."""
    output = step.site.output if step.site else None
    ends = [output] if output else []
    whole = walk.nodes_for([step.target, *ends])
    frontier = walk.frontier(whole)
    read = [name for name in frontier if name != output]
    linear = walk.nodes_for([step.target, *read], stop=ends)  # all but the activation
    downstream = walk.descendants(linear, [layer.node for layer in step.layers])
    changed = {tensor.name for node in downstream for tensor in node.outputs}
    inside = {id(node) for node in downstream}
    return StepSegments(
        nodes=tuple({id(node): node for node in (*whole, *linear)}.values()),
        upstream=tuple(node for node in linear if id(node) not in inside),
        downstream=tuple(downstream),
        boundary=tuple(walk.outside(downstream) if downstream else ([step.target] if step.site else [])),
        passing=tuple(name for name in read if name not in changed),
        corrected=tuple(name for name in read if name in changed),
        frontier=tuple(frontier),
    )


class Segment:
    """A piece of the network in a session."""

    def __init__(self, session: Any, inputs: list[str], outputs: list[str]):
        self._session = session
        self.inputs = inputs
        self.outputs = outputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        return run(self._session, {name: inputs[name] for name in self.inputs}, self.outputs)
