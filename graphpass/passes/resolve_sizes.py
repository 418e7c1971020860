"""resolve_sizes: sizes that are known are constants, and the free one is left to the operator.

Exporters write x.view(len(x), -1) as a Reshape whose target is computed from the Shape of x. Written with a constant
target it is seen to leave the samples apart, so that spikes pass it.
"""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.shapes import proven_shapes
from graphpass.graph.sizes import Shapes, Value, numbers, sizes_of
from graphpass.graph.time_axis import constant_values
from graphpass.passes.base import HELD, Rewriting


def resolve_sizes(work: Rewriting) -> None:
    """Shape(x)[k] → n where axis k has n positions;  Reshape(x, [N, S, a]) → Reshape(x, [0, 0, a]) for x [N, S, …],
    Reshape(x, [?, a, b]) → Reshape(x, [−1, a, b]), both with what a target without 0 may do without: allowzero.
    """
    known = -1
    while known != work.rewrites and any(node.op == "Shape" for node in work.graph.nodes):
        known = work.rewrites  # shapes behind what is rewritten may be known now
        shapes = proven_shapes(work.graph)
        values = sizes_of(work.graph, shapes)
        for node in work.nodes("Reshape"):
            _free_target(work, node, shapes, values)
        for node in list(work.graph.nodes):
            _fix(work, node, values)
        work.next_round()
    for node in work.nodes("Reshape"):
        _drop_allowzero(work, node)


def _free_target(work: Rewriting, node: gs.Node, shapes: Shapes, values: Mapping[str, Value]) -> None:
    value, sizes = values.get(node.inputs[1].name), shapes.get(node.inputs[0].name)
    if value is None or value.ndim != 1 or sizes is None or 0 in sizes:
        return
    entries = value.tolist()
    kept = [k for k, each in enumerate(entries[: len(sizes)]) if isinstance(each, str) and each == sizes[k]]
    free = [k for k, each in enumerate(entries) if not isinstance(each, int) and k not in kept]
    if not (kept or free) or len(free) + entries.count(-1) > 1 or (0 in entries and node.attrs.get("allowzero", 0)):
        return
    for place in kept:
        entries[place] = 0
    for place in free:
        entries[place] = -1
    if kept:
        node.attrs.pop("allowzero", None)
    name = work.edit.names.fresh(f"{node.name}/target")
    node.inputs[1] = gs.Constant(name, np.array(entries, np.int64))
    work.done()


def _drop_allowzero(work: Rewriting, node: gs.Node) -> None:
    target = constant_values(node, 1)
    if node.attrs.get("allowzero", 0) and target is not None and target.all():
        del node.attrs["allowzero"]
        work.done()


def _fix(work: Rewriting, node: gs.Node, values: Mapping[str, Value]) -> None:
    for tensor in node.outputs:
        known = numbers(values[tensor.name]) if tensor.name in values else None
        if known is None:
            continue
        if tensor.name in work.edit.held:
            work.miss(node, HELD)
            continue
        work.edit.remove(node)
        tensor.to_constant(known if tensor.dtype is None else known.astype(tensor.dtype))
        work.done()
        return
