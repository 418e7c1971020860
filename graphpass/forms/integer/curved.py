"""Currents of curved activations as uint8: the layer or sum in front of f is integer, f alone is computed in floats.

    q = saturate(round(x/s) + z)      s, z: 256 steps that hold all thresholds of the site's neurons on x
    n = count(f(s·(q − z)))                                                                                  (1)
    n = clip(round((t·(p − z') + ψ)/θ − 1/2), 0, L)      p = round(f(…)/t) + z' from 0 to 255                (2)

Between two thresholds the count does not change, and beyond the last ones neither, so that no range has to be
calibrated: x is cut off where the count is settled. s is one number where that leaves FINE steps between two thresholds
of every channel, since runtimes multiply by one number faster; else one for each channel. Where a step would pass more
than PASSED thresholds or half of them, because f is steep in one place and flat in others, the current stays float.

Where θ or ψ differ between channels, a convolution of one tap counts what f gives, as in (2): onnxruntime multiplies
floats channel by channel five times as slowly as by one number. t is one number for all channels. Since f(x) is rounded
to t there, x is cut off half a count beyond the first and the last threshold instead of right there: rounded down, the
largest f(x) would else lie below its threshold.
"""

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms import operators
from graphpass.forms.integer.borders import rounded_nodes, scaled_floats
from graphpass.forms.integer.counting import Counting
from graphpass.forms.integer.layers import scaling
from graphpass.forms.integer.quantised import nodes_of, quantised, settled
from graphpass.forms.integer.sums import clipped
from graphpass.forms.integer.tensors import LARGEST, Encoding, is_float32
from graphpass.forms.preparation import thresholds_on
from graphpass.graph.affine import neuron_affine
from graphpass.graph.edit import held_names
from graphpass.maths.curves import CURVES
from graphpass.sites.activations import Activation, find_activations

FINE = 8  # steps of s between two thresholds: 1 count in 32 is then another one, by one
ENOUGH = 4  # and between two thresholds, of what a sum is rounded to before a shortcut is added
COARSE = 1 / 2  # of every threshold: a step of f(x), at most
PASSED = 8  # thresholds within one step, at most; and at most half of those of the rising side
HALF = 0.5

Array = NDArray[np.float64]
Borders = NDArray[np.float32]


@dataclass(frozen=True)
class Curved:
    """The encoding of a current x of which neurons see f(x) alone. output: the name of f(x)."""

    code: Encoding
    output: str


def curved_currents(graph: gs.Graph) -> dict[str, Curved]:
    """The tensors that only a curved activation in front of neurons reads, by name."""
    held = held_names(graph)
    found = {}
    for activation in find_activations(graph):
        x, y = activation.input, activation.output
        if activation.kind not in CURVES or not is_float32(x) or {x.name, y.name} & held or not _alone(activation):
            continue
        (neuron,) = y.outputs
        borders = thresholds_on(neuron, activation)
        if borders is not None and borders[0].ndim <= len(x.shape or ()) + 1:
            code = encoding_within(*borders, _ends(neuron, activation))
            if code is not None:
                found[x.name] = Curved(code, y.name)
    return found


def _alone(activation: Activation) -> bool:
    """Whether neurons alone read f(x), and f alone reads x and what is inside of it."""
    inside = {id(node) for node in activation.nodes}
    interior = [activation.input, *(node.outputs[0] for node in activation.nodes[:-1])]
    readers = activation.output.outputs
    return (
        len(readers) == 1
        and readers[0].op == operators.FOLDED_NEURON
        and all(id(reader) in inside for tensor in interior for reader in tensor.outputs)
    )


def _ends(neuron: gs.Node, activation: Activation) -> tuple[Borders, Borders] | None:
    """Where x may be cut off if a layer counts f(x), as thresholds on x [2, …]; None where none will."""
    threshold, shift = (tensor.values for tensor in neuron.inputs[1:3])
    largest = int(neuron.attrs["levels"]) - 1
    if values_of(activation.output, threshold, shift, largest) is None:
        return None
    return thresholds_on(neuron, activation, (HALF, largest + HALF))


def encoding_within(rising: Borders, falling: Borders, ends: tuple[Borders, Borders] | None = None) -> Encoding | None:
    """The encoding of x between the first and the last finite threshold of each channel; [L, …] both.

    ends: other thresholds that it reaches, too. None where steps would pass too many thresholds, or be none that
    float32 has.
    """
    shape, levels = rising.shape[1:], len(rising)
    both = np.concatenate([rising, falling]).reshape(2 * levels, -1).astype(np.float64)
    reached = np.concatenate([both, *(each.reshape(len(each), -1) for each in ends or ())])
    some = np.isfinite(both).any(0)  # channels whose count depends on x
    low = np.where(np.isfinite(reached), reached, np.inf).min(0)
    high = np.where(np.isfinite(reached), reached, -np.inf).max(0)
    low, high = (np.where(some, part, 0.0) for part in (low, high))
    zero = _best_zero(low, high)
    scale = _scales(low, high, zero)
    gap = (high - low)[some] / levels
    scale = np.where(scale > 0, scale, scale.max(initial=0.0) or 1.0)
    if scale.max() * FINE <= gap.min(initial=np.inf):
        scale, shape = scale.max(keepdims=True), ()
    steps = float((gap / np.broadcast_to(scale, some.shape)[some]).min(initial=np.inf)) if some.any() else 1.0
    if _passes_many(np.where(np.isfinite(both), both, np.inf), scale, min(PASSED, max(1, levels // 2))):
        return None
    exact = scale.astype(np.float32)
    if not np.isfinite(exact).all() or (exact < np.finfo(np.float32).tiny).any():
        return None
    return Encoding(exact.reshape(shape), zero, max(1.0, steps / ENOUGH))


def _scales(low: Array, high: Array, zero: int) -> Array:
    """s of every channel with which q = 0 lies below the first threshold and q = 255 above the last one.

    low ≥ s·(1/2 − z), high ≤ s·(254.5 − z)
    """
    below = np.where(low < 0, -low / (zero - HALF), 0.0) if zero else np.where(low < 0, np.inf, 0.0)
    above = np.where(high > 0, high / (LARGEST - HALF - zero), 0.0) if zero < LARGEST else np.where(high > 0, np.inf, 0)
    return np.maximum(below, above)


def _passes_many(borders: Array, scale: Array, most: int) -> bool:
    """Whether a step of a channel holds more than `most` thresholds. borders: [K, C], infinite where there is none."""
    ordered = np.sort(borders, 0)
    with np.errstate(invalid="ignore"):
        return bool((ordered[most:] - ordered[:-most] < scale).any())


def _best_zero(low: Array, high: Array) -> int:
    """The z that leaves the finest steps: least Σ (s/(high − low))² over the channels."""
    wide = np.maximum(high - low, np.finfo(np.float32).tiny)
    costs = [float(np.square(np.minimum(_scales(low, high, zero) / wide, 1e3)).sum()) for zero in range(LARGEST + 1)]
    return int(np.argmin(costs))


def curved_counts(y: gs.Variable, counting: Counting, count: gs.Variable) -> list[gs.Node]:
    """Counts of the floats y = f(x), of formula (2) where thresholds differ between channels and t is fine enough."""
    made = _counted_by_layer(y, counting, count)
    if made is not None:
        return made
    nodes = list[gs.Node]()
    current = scaled_floats(y, counting, count, nodes)
    return [*nodes, *rounded_nodes(current, counting, count)]


@dataclass(frozen=True)
class Values:
    """t and z' of formula (2), and θ and ψ of every channel."""

    step: float
    zero: int
    theta: Array
    psi: Array


def values_of(y: gs.Variable, threshold: Borders, shift: Borders, largest: int) -> Values | None:
    """The steps of f(x) that a layer counts, from half a count below the first threshold to half above the last one.

    None where one number serves all channels, where there are no channels, or where t would be too coarse.
    """
    shape, rank = y.shape, len(y.shape or ())
    transform = neuron_affine(threshold, shift, 1.0, rank) if rank > 2 else None
    if transform is None or transform.varying != {1} or not isinstance(shape[1], int):
        return None
    theta, psi = (part.astype(np.float64) for part in transform.vectors(1, shape[1]))
    low = min(0.0, float((theta * HALF - psi).min()))
    high = max(0.0, float((theta * (largest + HALF) - psi).max()))
    step = float(np.float32((high - low) / LARGEST))
    if not step > np.finfo(np.float32).tiny or step > COARSE * theta.min():
        return None
    return Values(step, int(np.rint(-low / step)), theta, psi)


def _counted_by_layer(y: gs.Variable, counting: Counting, count: gs.Variable) -> list[gs.Node] | None:
    """Nodes of formula (2); None where no layer counts."""
    values = values_of(y, counting.threshold, counting.shift, counting.largest)
    if values is None:
        return None
    step, theta = values.step, values.theta
    codes = gs.Variable(f"{count.name}/values", np.uint8, y.shape)
    constant = (values.psi - step * values.zero) / theta - HALF
    linear = settled(scaling(codes, step / theta, constant, len(y.shape), LARGEST))
    if isinstance(linear, str):
        return None
    made = clipped(counting.largest, count, lambda output: nodes_of(linear, output))
    return [quantised(y, step, values.zero, codes), *made]
