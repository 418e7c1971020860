"""split_sums: sums of many terms become sums of two."""

import onnx_graphsurgeon as gs

from graphpass.passes.base import Rewriting


def split_sums(work: Rewriting) -> None:
    """Sum(a, b, c) → Add(Add(a, b), c);  Sum(a) → Identity(a)."""
    edit = work.edit
    for node in work.nodes("Sum"):
        first, *middle = node.inputs
        node.op = "Add" if middle else "Identity"
        for k, term in enumerate(middle[:-1]):
            name = edit.names.fresh(f"{node.name}_{k}")
            total = gs.Variable(edit.names.fresh(f"{name}_sum"), dtype=node.outputs[0].dtype)
            edit.insert_before(node, gs.Node("Add", name, inputs=[first, term], outputs=[total]))
            first = total
        node.inputs = [first, *middle[-1:]]
        work.done()
