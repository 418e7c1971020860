"""resolve_types: a cast to the type of another tensor is one to a type that is known.

ONNX's functions cast their constants to the type of their input; behind this rule they are constants again.
"""

from graphpass.graph.types import onnx_type
from graphpass.passes.base import Rewriting


def resolve_types(work: Rewriting) -> None:
    """CastLike(x, y) → Cast(x, to = type of y), where that type is known."""
    for node in work.nodes("CastLike"):
        wanted = node.inputs[1].dtype
        if wanted is None:
            work.miss(node, "the type of its second input is not known")
        else:
            node.op, node.inputs = "Cast", node.inputs[:1]
            node.attrs["to"] = onnx_type(wanted)
            work.done()
