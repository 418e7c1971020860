"""name_nodes: every node and every constant gets a name of its own."""

import onnx_graphsurgeon as gs

from graphpass.passes.base import Rewriting


def name_nodes(work: Rewriting) -> None:
    """node without a unique name → <op>_<k>, k its place in the graph; unique names stay."""
    names, seen = work.edit.names, set[str]()
    for k, node in enumerate(work.graph.nodes):
        if not node.name or node.name in seen:
            node.name = names.fresh(f"{node.op}_{k}")
            work.done()
        seen.add(node.name)
        for number, tensor in enumerate(node.inputs):
            if isinstance(tensor, gs.Constant) and not tensor.name:
                tensor.name = names.fresh(f"{node.name}_constant_{number}")
