"""Nodes that move counts, pick the largest, or multiply them: what their outputs stand for, and which of them move
floats instead.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.integer.quantised import scalar
from graphpass.forms.integer.sums import CountTerm
from graphpass.forms.integer.tensors import CARRIES, Numbers
from graphpass.graph.affine import Affine, arithmetic, joined, neuron_affine, through
from graphpass.graph.layers import is_maximum, rank_of


def moved_counts(node: gs.Node, entries: Sequence[CountTerm | None]) -> tuple[list[Affine], int] | None:
    """Scale and offset of each output, and their zero point; None for a node that cannot work on counts.

    entries: what is known of its inputs, of the first in any case.
    """
    (first, *_), made = entries, None
    assert first is not None
    zero = first.zero
    if node.op == "Concat":
        known = [entry for entry in entries if entry is not None]
        if any(entry.zero != zero for entry in known):
            known, zero = [replace(entry, affine=entry.shifted) for entry in known], 0
        affine = joined(node, [entry.affine for entry in known]) if len(known) == len(entries) else None
        made = None if affine is None else [affine]
    elif is_maximum(node):
        rising = (first.affine.scale >= 0).all() and not first.affine.varying - {1} and len(node.outputs) == 1
        made = [first.affine] if rising else None
    elif node.op in CARRIES and (node.op != "Transpose" or "perm" in node.attrs):
        made = through(node, first.affine)
    if made is None or any(each.scale.ndim != rank_of(t) for each, t in zip(made, node.outputs, strict=True)):
        return None
    return made, zero


def rescaled(node: gs.Node, counts: Mapping[str, CountTerm], curved: Collection[str]) -> CountTerm | None:
    """What is known of counts behind a product with constants or a quotient by them; None for another node.

    curved: names of currents of f, which is computed as it stands.
    """
    names = [tensor.name for tensor in node.inputs if tensor.name in counts]
    if node.op not in ("Mul", "Div") or node.domain or len(names) != 1 or names[0] in curved:
        return None
    known = counts[names[0]]
    affine = arithmetic(node, known.affine)
    return replace(known, affine=affine) if affine and np.isfinite(affine.scale).all() else None


def suit_counts(node: gs.Node, rank: int, zero: int, stem: Callable[[str], str], numbers: Numbers) -> None:
    """Change a node whose inputs are counts now, in place, where an operator on floats means another one on them.

    rank, zero: of its outputs. stem: makes a name that begins no other.
    """
    if node.op == "Pad":  # with zero, as a float
        data, pads, *rest = node.inputs  # its value may be left out
        node.inputs = [data, pads, scalar(stem(f"{node.name}/zero"), zero, numbers.dtype), *rest[1:]]
    if node.op == "GlobalMaxPool":  # onnxruntime has it for floats alone
        node.op = "ReduceMax"
        node.inputs.append(gs.Constant(stem(f"{node.name}/axes"), np.arange(2, rank, dtype=np.int64)))


def rises_by_channel(parts: Sequence[NDArray[np.float32]], rank: int | None) -> bool:
    """Whether all neurons of a channel are the same rising function of their current."""
    if rank is None or (parts[2] < 0).any():
        return False
    return not any(neuron_affine(one, two, 1.0, rank).varying - {1} for one, two in (parts[:2], parts[2:]))


def encode_behind_transposes(graph: gs.Graph) -> None:
    """Inputs of the network that a Transpose alone reads become uint8 behind it: x → Transpose → QuantizeLinear.

    OpenVINO takes the zero point into a convolution only from directly in front of it; otherwise it computes in floats.
    """
    named = {tensor.name for tensor in graph.inputs}
    for node in [each for each in graph.nodes if each.op == "Transpose" and not each.domain]:
        count, moved = node.inputs[0], node.outputs[0]
        encoder = count.inputs[0] if count.inputs else None
        if encoder is None or encoder.op != "QuantizeLinear" or len(count.outputs) != 1 or count in graph.outputs:
            continue
        x = encoder.inputs[0]
        if x.name in named:
            real = gs.Variable(f"{moved.name}/real", x.dtype, moved.shape)
            node.inputs, node.outputs = [x], [real]
            encoder.inputs[0], encoder.outputs = real, [moved]
