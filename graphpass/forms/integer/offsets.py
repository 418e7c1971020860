"""Counts with an offset as numbers without one, for convolutions that are padded.

    y = A·n + o = a·(q − z)      q = round((A·n + o)/a) + z, from 0 to Q      a = max(max y/(Q − z), −min y/z)      (1)

z, one for all channels, stands for the zeros of the padding, and a is each channel's own, 0 if all its values are 0:
with any other a, weights that are never used would decide in which steps int8 holds those beside them. So no error at a
border remains. Values are off by a/2 at most, which is less than int8 weights take. n itself remains for all other
readers.

Q = 127, as for weights: a layer keeps its 8 bits (quantised.py). Where there are more counts than that, Q = 255.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms.integer.layers import Linear, count_of_zero, fits_padding, scaling
from graphpass.forms.integer.quantised import quantised
from graphpass.forms.integer.sums import CountTerm
from graphpass.forms.integer.tensors import Numbers
from graphpass.graph.affine import Affine
from graphpass.graph.layers import WeightLayer, is_padded

HALF = 127

Array = NDArray[np.float64]


def hides_zero(layer: WeightLayer, known: CountTerm) -> bool:
    """Whether a padded convolution reads these counts, and none of them stands for 0."""
    if layer.node.op != "Conv" or not is_padded(layer.node.attrs) or not known.affine.shifted:
        return False
    if known.affine.varying - {1}:
        return False  # linear_of refuses it
    scale, offset = _vectors(known, layer)
    zero = count_of_zero(scale, offset, known.largest) if known.tensor.dtype != np.int8 else 0
    return not fits_padding(scale, offset + scale * zero)


def without_offset(
    layer: WeightLayer,
    known: CountTerm,
    output: gs.Variable,
    numbers: Numbers,
    product: Callable[[Linear, gs.Variable, str], list[gs.Node]],
) -> tuple[list[gs.Node], CountTerm]:
    """Nodes that make q of formula (1), and what it stands for. product: a layer with a float output."""
    scale, offset = _vectors(known, layer)
    ends = np.stack([scale * known.least, scale * known.largest]) + offset
    most = HALF if known.largest - known.least <= HALF else numbers.largest
    zero, own = _steps(ends.min(0), ends.max(0), most, numbers.shifted)
    rank = known.affine.scale.ndim
    step = np.where(own > 0, own, 1.0)
    linear = replace(scaling(known.tensor, scale / step, offset / step + zero, rank, known.largest), least=known.least)
    real = gs.Variable(f"{output.name}/scaled", np.float32, output.shape)
    nodes = [*product(linear, real, f"{output.name}/layer"), quantised(real, 1.0, 0, output)]
    along = own.astype(np.float32).reshape(1, -1, *(1,) * (rank - 2))
    return nodes, CountTerm(output, Affine(along, np.zeros_like(along)), most, zero, 0 if numbers.shifted else -most)


def _vectors(known: CountTerm, layer: WeightLayer) -> tuple[Array, Array]:
    """Scale and offset of every channel that the layer reads."""
    scale, offset = known.shifted.vectors(1, layer.weight.shape[1] * layer.groups)
    return scale.astype(np.float64), offset.astype(np.float64)


def _steps(low: Array, high: Array, most: int, shifted: bool) -> tuple[int, Array]:
    """z and a of formula (1), for the z that leaves the finest steps: least Σ (a/(max |y|))²; a = 0 where y is 0."""
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if not shifted:
        zero, own = 0, np.maximum(-low, high) / most
    else:
        wide = np.maximum(np.maximum(-low, high), np.finfo(np.float64).tiny)
        zero = min(range(most + 1), key=lambda each: float(np.square(_step(low, high, each, most) / wide).sum()))
        own = _step(low, high, zero, most)
    return zero, own


def _step(low: Array, high: Array, zero: int, most: int) -> Array:
    """a of formula (1) for a z; infinite where that leaves a side without numbers."""
    below = -low / zero if zero else np.where(low < 0, np.inf, 0.0)
    above = high / (most - zero) if zero < most else np.where(high > 0, np.inf, 0.0)
    return np.maximum(below, above)
