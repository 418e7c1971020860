"""A neuron's current made of counts, as integer operators: which sums are possible, and in which steps.

layer                 y_scale 1, then Clip(0, L)
layer + layer         of one tap: one convolution over concatenated counts; else both in steps of FINEST or less, Add
r·n + r'·n'           Add in integers, Clip(0, L)
r·n + c               a convolution of one tap, Clip(0, L)
layers and r·n        of the same counts: one convolution of the sum of their weights
layer + r·n           the layer in steps of (L + 1 + max r·n)/255, Add in integers, Clip(0, L)       r = A/θ
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.integer.counting import Counting
from graphpass.forms.integer.layers import WHOLE, Linear, linear_of, merged, picked, scaling, summed
from graphpass.forms.integer.quantised import nodes_of, rounding_errors, scalar, settled, sum_nodes
from graphpass.graph.affine import Affine, neuron_affine
from graphpass.graph.layers import WeightLayer

COARSEST = 1 / 64  # of the largest count, or 1: steps of a sum up to this take less than int8 weights or the counts do
FINEST = 1 / 32  # of the levels: steps up to this of two layers that are added
ROUNDED = 1 / 6  # of what a site's neurons can send: what int8 weights may take from it; 1/50 is usual
TOO_FAR = "rounding its weights to int8 would move its counts too far"
REACH = 3  # times the largest count: what a shortcut may add before it goes through the layer instead


@dataclass(frozen=True)
class CountTerm:
    """A tensor of counts and what it stands for: affine.scale·(n − zero) + affine.offset. n: least … largest."""

    tensor: gs.Variable
    affine: Affine
    largest: int
    zero: int = 0
    least: int = 0

    @property
    def shifted(self) -> Affine:
        """What n stands for, with the zero point in the offset."""
        return Affine(self.affine.scale, self.affine.offset - self.affine.scale * np.float32(self.zero))


@dataclass(frozen=True)
class CountSum:
    """A current as terms: layers, counts that are added as they are, and constants [1, …] to be added."""

    layers: tuple[tuple[WeightLayer, CountTerm], ...] = ()
    counts: tuple[CountTerm, ...] = ()
    constants: tuple[NDArray[np.float32], ...] = ()


@dataclass(frozen=True)
class ScaledSum:
    """A current with weight layers in the unit of its counts: Σ layers/θ + (offsets and shift)/θ.

    theta, added: θ and the constants, float64 [O]. axis: of the channels.
    """

    linears: tuple[Linear, ...]
    theta: NDArray[np.float64]
    added: NDArray[np.float64]
    axis: int


def scaled_sum(total: CountSum, rank: int, counting: Counting) -> ScaledSum | str:
    """The layers of a current of this many axes, or why they cannot be computed in integers."""
    linears = []
    for layer, known in total.layers:
        linear = linear_of(layer, known.tensor, known.affine, (known.least, known.largest), known.zero)
        if isinstance(linear, str):
            return linear
        linears.append(linear)
    axis, size = (1 if linears[0].convolution else rank - 1), linears[0].outputs
    transform = neuron_affine(counting.threshold, counting.shift, 1.0, rank)
    constants = [neuron_affine(np.ones(1), part, 1.0, rank) for part in total.constants if part.ndim <= rank]
    parameters = [transform, *constants, *(known.affine for known in total.counts)]
    if len(constants) < len(total.constants) or any(each.scale.ndim != rank for each in parameters):
        return "its terms have different ranks"
    if any(each.varying - {axis} for each in parameters) or any(each.outputs != size for each in linears):
        return "its terms or its thresholds vary along other axes than the layer's channels"
    theta, psi = (part.astype(np.float64) for part in transform.vectors(axis, size))
    added = sum((each.vectors(axis, size)[1].astype(np.float64) for each in parameters[1:]), psi)
    return ScaledSum(tuple(linears), theta, added, axis)


def integer_nodes(total: CountSum, rank: int, counting: Counting, count: gs.Variable) -> list[gs.Node] | str:
    """Nodes that compute the counts of a current of this many axes in integers, or why they cannot."""
    largest, coarsest = counting.largest, counting.coarsest
    if not total.layers:
        alone = len(total.counts) == 1
        return _alone(total, rank, counting, count) if alone else _added(total, counting, largest, count)
    total = replace(total, counts=tuple(replace(each, affine=each.shifted, zero=0) for each in total.counts))
    scaled = scaled_sum(total, rank, counting)
    if isinstance(scaled, str):
        return scaled
    theta, added, axis = scaled.theta, scaled.added, scaled.axis
    linears, counts = _of_one_source(scaled.linears, total.counts, axis, len(theta))
    total, linear = replace(total, counts=counts), linears[0]
    shapes = [layer.output.shape for layer, _ in total.layers]
    if len(linears) == 2 and not total.counts and _same_sizes(*shapes):
        joint = merged(*linears)
        if joint is None or any(size > 1 for size in joint.weight.shape[2:]):
            apart = _layers(linears[0], linears[1], theta, added / theta - 0.5, largest, count)
            if not isinstance(apart, str) or joint is None:
                return apart
        linear = joint
    elif len(linears) + len(total.counts) > (2 if len(linears) == 1 else 1):
        return "it is a sum of too many terms, or of sizes that are not known to be equal"
    done = settled(linear.scaled(1 / theta, added / theta - 0.5))
    if isinstance(done, str):
        return done
    if rounded_away(done, theta, largest) > ROUNDED:
        return TOO_FAR
    if total.counts:
        same = _same_sizes(total.layers[0][0].output.shape, total.counts[0].tensor.shape)
        return _shortcut(
            done, total.counts[0], theta, axis, largest, count, same, coarsest or max(1.0, largest * COARSEST)
        )
    return clipped(largest, count, lambda output: nodes_of(done, output))


def rounded_away(linear: Linear, theta: NDArray[np.float64], largest: int) -> float:
    """√(Σ(θ·e)²/Σ(θ·L)²): what int8 weights may take from a site's neurons, of all that these can send.

    e: the error of a channel's counts, at most L. A channel of a tiny range, as a nearly dead one has, sends little.
    """
    errors = np.minimum(rounding_errors(linear), largest)
    return float(np.linalg.norm(theta * errors) / (largest * np.linalg.norm(theta)))


def _of_one_source(
    linears: tuple[Linear, ...], counts: tuple[CountTerm, ...], axis: int, size: int
) -> tuple[tuple[Linear, ...], tuple[CountTerm, ...]]:
    """Several layers as one if they read the same counts, and these counts themselves in it, if they are added, too."""
    joint: Linear | None = linears[0]
    for linear in linears[1:]:
        joint = summed(joint, linear) if joint else None
    if joint is None or len(linears) == 1:
        return linears, counts
    rest = []
    for known in counts:
        scale = known.affine.vectors(axis, size)[0].astype(np.float64)
        own = scaling(known.tensor, scale, np.zeros(size), joint.weight.ndim, known.largest, dense=joint.groups == 1)
        added = summed(joint, own)
        joint = added or joint
        rest += [] if added else [known]
    return (joint,), tuple(rest)


def _alone(total: CountSum, rank: int, counting: Counting, count: gs.Variable) -> list[gs.Node] | str:
    """r·n + c, a value each for a channel: counts behind a normalisation."""
    (known,) = total.counts
    shape = known.tensor.shape
    channels = shape[1] if rank > 2 and shape is not None and len(shape) == rank else None
    if not isinstance(channels, int):
        return "it comes from no weight layer, and its channels are not known to lie along axis 1"
    transform = neuron_affine(counting.threshold, counting.shift, 1.0, rank)
    constants = [neuron_affine(np.ones(1), part, 1.0, rank) for part in total.constants]
    parameters = [transform, known.shifted, *constants]
    if any(each.scale.ndim != rank or each.varying - {1} for each in parameters):
        return "it comes from no weight layer, and it or its thresholds vary along other axes than its channels"
    theta, psi = (part.astype(np.float64) for part in transform.vectors(1, channels))
    scale, offset = (part.astype(np.float64) for part in known.shifted.vectors(1, channels))
    added = sum((each.vectors(1, channels)[1].astype(np.float64) for each in constants), psi + offset)
    done = settled(scaling(known.tensor, scale / theta, added / theta - 0.5, rank, known.largest))
    if isinstance(done, str):
        return done
    if rounded_away(done, theta, counting.largest) > ROUNDED:
        return TOO_FAR
    return clipped(counting.largest, count, lambda output: nodes_of(done, output))


def _added(total: CountSum, counting: Counting, largest: int, count: gs.Variable) -> list[gs.Node] | str:
    """r·n + r'·n' of one scale each, where what is added to them is a whole number of counts."""
    threshold, shift = counting.threshold, counting.shift
    if len(total.counts) != 2 or total.constants or any(each.affine.varying for each in total.counts):
        return "it comes from no weight layer"
    if threshold.size != 1 or shift.size != 1:
        return "its thresholds vary and no weight layer takes them in"
    theta = float(threshold.item())
    added = (float(shift.item()) + sum(float(each.affine.offset.item()) for each in total.counts)) / theta - 0.5
    zero = round(added)
    if abs(added - zero) > WHOLE or not 0 <= zero <= 255:
        return "its offset is no whole number of counts"
    parts = [(each.tensor, float(each.affine.scale.item()) / theta, each.zero) for each in total.counts]
    return clipped(largest, count, lambda output: sum_nodes(parts, output, zero))


def _layers(
    one: Linear,
    two: Linear,
    theta: NDArray[np.float64],
    constant: NDArray[np.float64],
    largest: int,
    count: gs.Variable,
) -> list[gs.Node] | str:
    """layer + layer, each rounded to 255 steps, where the sums of the second reach so little that these are fine.

    As with a shortcut, a sum of the first below −(the most of the second) decides the count alone.
    """
    first, second = settled(one.scaled(1 / theta, constant)), settled(two.scaled(1 / theta, np.zeros_like(constant)))
    if isinstance(first, str) or isinstance(second, str):
        return "its sums do not fit"
    if np.ptp(_reach(second)) > np.ptp(_reach(first)):
        first, second = second, first
    if max(rounded_away(each, theta, largest) for each in (first, second)) > ROUNDED:
        return TOO_FAR
    low, high = _reach(second)
    if low == high:  # it adds nothing
        return clipped(largest, count, lambda output: nodes_of(first, output))
    step, own = (largest + 1 + high - low) / 255, (high - low) / 255
    if step > (largest + 1) * FINEST:
        return "its steps would be too coarse"
    name, zeros = count.name, (round(high / step), round(-low / own))
    terms = [gs.Variable(f"{name}/{part}", np.uint8) for part in ("current", "projection")]
    made = [*nodes_of(first, terms[0], step, zeros[0]), *nodes_of(second, terms[1], own, zeros[1])]
    parts = [(terms[0], step, zeros[0]), (terms[1], own, zeros[1])]
    return [*made, *clipped(largest, count, lambda output: sum_nodes(parts, output))]


def _reach(linear: Linear) -> tuple[float, float]:
    """The least and the largest sum that any output can have, at most and at least 0."""
    rows = linear.weight.reshape(linear.outputs, -1) if linear.convolution else linear.weight.T
    ends = rows * (linear.least - linear.zero), rows * (linear.largest - linear.zero)
    low, high = (each(*ends).sum(1) + linear.constant for each in (np.minimum, np.maximum))
    return min(float(low.min()), 0.0), max(float(high.max()), 0.0)


def _shortcut(
    linear: Linear,
    other: CountTerm,
    theta: NDArray[np.float64],
    axis: int,
    largest: int,
    count: gs.Variable,
    same_sizes: bool,
    coarsest: float,
) -> list[gs.Node] | str:
    """layer + r·n with r = A/θ.

    A layer's sum below −max(r·n) or above L + 1 decides the count whatever n is. Channels in which that leaves a
    wide range, or r < 0, are convolved along with the layer's own counts instead.
    """
    factor = other.affine.vectors(axis, len(theta))[0].astype(np.float64) / theta
    reach = min(REACH * (largest + 1), 255 * coarsest - (largest + 1))
    large = np.flatnonzero((factor * other.largest > reach) | (factor < 0))
    if len(large):
        through_layer = picked(other.tensor, factor, large, linear, other.largest)
        joint = merged(linear, through_layer) if linear.convolution and same_sizes else None
        done = settled(joint) if joint else "its shortcut is too large for a sum in 255 steps"
        if isinstance(done, str):
            return done
        linear = done
        factor = np.where(np.isin(np.arange(len(factor)), large), 0, factor)
    if not factor.any():
        return clipped(largest, count, lambda output: nodes_of(linear, output))
    high = factor.max() * other.largest
    step = (largest + 1 + high) / 255
    name, nodes = count.name, list[gs.Node]()
    if np.ptp(factor) == 0:
        part = (other.tensor, float(factor[0]), 0)
    elif not linear.convolution or not _same_channels(other, len(theta)):
        return "its shortcut is scaled channel by channel"
    else:
        scaled = gs.Variable(f"{name}/shortcut", np.uint8)
        own = scaling(other.tensor, factor, np.zeros(len(theta)), linear.weight.ndim, other.largest)
        nodes += nodes_of(own, scaled, high / 255)
        part = (scaled, high / 255, 0)
    current, zero = gs.Variable(f"{name}/current", np.uint8), round(high / step)
    nodes += nodes_of(linear, current, step, zero)
    summed = clipped(largest, count, lambda output: sum_nodes([(current, step, zero), part], output))
    return [*nodes, *summed]


def clipped(largest: int, count: gs.Variable, make: Callable[[gs.Variable], list[gs.Node]]) -> list[gs.Node]:
    """count = Clip(what `make` puts into a variable, 0, largest); uint8 ends at 255 by itself."""
    if largest >= 255:
        return make(count)
    whole = gs.Variable(f"{count.name}/whole", np.uint8, count.shape)
    limits = [scalar(f"{count.name}/least", 0, np.uint8), scalar(f"{count.name}/most", largest, np.uint8)]
    return [*make(whole), gs.Node("Clip", f"{count.name}/clip", {}, [whole, *limits], [count])]


def _same_sizes(one: Sequence[object] | None, two: Sequence[object] | None) -> bool:
    """Whether two shapes are known to have the same sizes behind the channels, so that no axis is stretched."""
    if one is None or two is None or len(one) != len(two):
        return False
    return all(isinstance(size, int) and size == other for size, other in zip(one[2:], two[2:], strict=True))


def _same_channels(counts: CountTerm, channels: int) -> bool:
    """Whether counts are known to have so many channels, and are not broadcast over them."""
    shape = counts.tensor.shape
    return shape is not None and len(shape) > 2 and shape[1] == channels


def is_sum(node: gs.Node) -> bool:
    """Whether a node adds two tensors."""
    return node.op == "Add" and not node.domain


def adds_constant(node: gs.Node) -> bool:
    """Whether one of the two is a constant."""
    return any(isinstance(tensor, gs.Constant) for tensor in node.inputs)
