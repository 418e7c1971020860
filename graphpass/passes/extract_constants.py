"""extract_constants: the values of Constant nodes become initialisers."""

import onnx_graphsurgeon as gs

from graphpass.passes.base import HELD, Rewriting


def extract_constants(work: Rewriting) -> None:
    """y = Constant() → initializer y. Values are not read: bfloat16 and float8 stay as they are."""
    for node in work.nodes("Constant"):
        value, output = node.attrs.get("value"), node.outputs[0]
        if not isinstance(value, gs.Constant):
            work.miss(node, "its value is not numeric")
        elif output.name in work.edit.held:
            work.miss(node, HELD)
        else:
            work.edit.remove(node)
            # graphsurgeon wraps the tensor in a Constant that loads its values on first use; the loader is kept
            output.to_constant(value._values)
            work.done()
