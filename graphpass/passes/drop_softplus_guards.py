"""drop_softplus_guards: a softplus that is replaced by its input where the two are equal is a softplus.

PyTorch computes softplus(x) = log(1 + exp(β·x))/β as x where β·x > 20, and writes this into ONNX.
"""

import math

import onnx_graphsurgeon as gs

from graphpass.graph.patterns import NEAR, choices, matches
from graphpass.passes.base import HELD, Rewriting
from graphpass.sites.activations import SOFTPLUS

LEAST = 15.0  # log(1 + exp(z)) − z = log(1 + exp(−z)) < 2⁻²¹ from here on, less than half a float32 step of z
SCALED = ("*", "$factor", SOFTPLUS)


def drop_softplus_guards(work: Rewriting) -> None:
    """Where(z > t, x, softplus(z)/β) → softplus(z)/β, where z = β·x and t ≥ LEAST."""
    for node in work.nodes("Where"):
        for z, border, below, above, _ in choices(node):
            if not _is_softplus(z, below, above):
                continue
            if border < LEAST:
                work.miss(node, f"the softplus ends at {border:g}, where it is not yet its input")
            elif node.outputs[0].name in work.edit.held:
                work.miss(node, HELD)
            else:
                node.inputs = [below]
                work.edit.bypass(node)
                work.done()
            break


def _is_softplus(z: gs.Variable, below: gs.Tensor, above: gs.Tensor) -> bool:
    """Whether `below` is softplus(z)/β, and z = β·above."""
    if any(found.tensors["x"] is z for found in matches(SOFTPLUS, below)):
        return above is z
    outer = [found.scalars["factor"] for found in matches(SCALED, below) if found.tensors["x"] is z]
    inner = [found.scalars["factor"] for found in matches(("*", "$factor", "x"), z) if found.tensors["x"] is above]
    return any(math.isclose(one * other, 1, rel_tol=NEAR) for one in outer for other in inner)
