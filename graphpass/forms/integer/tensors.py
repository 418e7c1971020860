"""Analogue tensors of the integer form: uint8 with a scale and a zero point.

    x ≈ s·(q − z)      s = (high − low)/255, z = round(−low/s)      low ≤ 0 ≤ high: the range over the calibration data

So the first layer, linear bottlenecks and projections behind a normalisation, which no neuron feeds, are integer
layers, too. Zero is a number q = z, so that padding stays exact.

Where zero points are 0 (Numbers), q is int8 and s = max(−low, high)/127.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.operators import FOLDED_NEURON
from graphpass.graph.edit import held_names
from graphpass.graph.layers import is_maximum, weight_layers

CARRIES = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather Pad Expand Tile DepthToSpace "
    "SpaceToDepth".split()
)  # they have kernels for uint8
LARGEST = 255


@dataclass(frozen=True)
class Numbers:
    """The 8-bit numbers that stand for counts and analogue tensors: least … largest.

    shifted: whether DequantizeLinear may subtract a zero point. If not, neurons store n − z (`Counting`).
    """

    dtype: type
    least: int
    largest: int
    shifted: bool


UNSIGNED = Numbers(np.uint8, 0, LARGEST, True)
SYMMETRIC = Numbers(np.int8, -128, 127, False)


def is_float32(tensor: gs.Tensor) -> bool:
    """Whether a tensor is known to be float32."""
    return not isinstance(tensor.dtype, int) and tensor.dtype is not None and np.dtype(tensor.dtype) == np.float32


@dataclass(frozen=True)
class Encoding:
    """x ≈ scale·(q − zero), q among the numbers that it was made for.

    scale: float32, a number or what broadcasts to x, along one axis at most. coarsest: the steps of q that a term of a
    sum may be rounded to.
    """

    scale: NDArray[np.float32]
    zero: int
    coarsest: float = 1.0


def encoding_of(low: float, high: float, numbers: Numbers = UNSIGNED) -> Encoding | None:
    """The encoding of a range; None for one that is not finite, or a scale that float32 has not."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / LARGEST if numbers.shifted else max(-low, high) / numbers.largest)
    if not np.isfinite(scale) or (high > low and scale < np.finfo(np.float32).tiny):
        return None
    if high == low:
        return Encoding(np.ones((), np.float32), 0)
    return Encoding(np.asarray(scale), int(np.clip(np.rint(-low / scale), 0, LARGEST)) if numbers.shifted else 0)


def encodings(graph: gs.Graph, ranges: Mapping[str, tuple[float, float]], numbers: Numbers) -> dict[str, Encoding]:
    """Those of the analogue tensors of a folded graph that have a range, by name."""
    neurons = [node for node in graph.nodes if node.op == FOLDED_NEURON]
    spiking, currents = {node.outputs[0].name for node in neurons}, {node.inputs[0].name for node in neurons}
    names = [name for name in analogue_tensors(graph, spiking, currents) if name in ranges]
    codes = ((name, encoding_of(*ranges[name], numbers)) for name in names)
    return {name: code for name, code in codes if code}


def analogue_tensors(graph: gs.Graph, spiking: Collection[str], currents: Collection[str]) -> tuple[str, ...]:
    """Float tensors that weight layers read and no neuron makes, what a normalisation in front of neurons reads, and
    the terms of those that are sums.

    spiking, currents: names of the sites' outputs and inputs. Nodes that only move values, and that nothing else reads
    through, are passed: the tensor before them is the one.
    """
    held = held_names(graph)
    found: dict[str, None] = {}
    seen = set(spiking)
    stack = [layer.data for layer in reversed(weight_layers(graph))]
    stack += _normalised(graph, currents)
    while stack:
        tensor = stack.pop()
        if isinstance(tensor, gs.Constant) or tensor.name in seen or not is_float32(tensor):
            continue
        seen.add(tensor.name)
        maker = tensor.inputs[0] if tensor.inputs else None
        alone = tensor.name not in held and len(tensor.outputs) == 1
        if maker is not None and not maker.domain and alone and len(maker.outputs) == 1:
            if maker.op in CARRIES or is_maximum(maker):
                stack.append(maker.inputs[0])
                continue
            if maker.op == "Concat":
                stack.extend(maker.inputs)
                continue
        found[tensor.name] = None
        terms = maker.inputs if maker is not None and maker.op == "Add" and not maker.domain else ()
        if not any(isinstance(term, gs.Constant) for term in terms):
            stack.extend(terms)
    return tuple(found)


def _normalised(graph: gs.Graph, currents: Collection[str]) -> list[gs.Tensor]:
    """Every x of which c·x or c·x + d is a current, with constants c and d."""
    found = []
    for node in graph.nodes:
        inner = [k for k, tensor in enumerate(node.inputs) if not isinstance(tensor, gs.Constant)]
        if node.domain or (node.op, inner) not in (("Mul", [0]), ("Mul", [1]), ("Div", [0])):
            continue
        product = node.outputs[0]
        sums = [each for each in product.outputs if each.op == "Add" and not each.domain]
        ends = [product, *(each.outputs[0] for each in sums if any(isinstance(t, gs.Constant) for t in each.inputs))]
        if any(end.name in currents for end in ends):
            found.append(node.inputs[inner[0]])
    return found
