"""Curved activations whose levels are finer than what onnxruntime computes.

    e² = mean (ŷ − f(x))²        ŷ: what onnxruntime makes of x;  f in float64
    e > θ/2                      θ: mean distance between levels on f

A Sigmoid or an Elu is computed beside a 1, so that float32 leaves an error of some 2⁻²⁴ however small f(x) is:
below 1e-7, ŷ is rounding (Sigmoid(−16) = 6.0e-8 instead of 1.1e-7, Sigmoid(−18) = 0). Forms that
compare x with thresholds compute f(x) instead, and are another function then.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration.segments import Walk
from graphpass.graph.plan import SitePlan
from graphpass.sites.sites import Site

COARSE = 2.0**-18  # levels further apart are not looked at: 64 errors of float32 beside 1
ROUNDED = "onnxruntime computes it with a larger error than the distance between levels: its values are near 0"


def is_rounding(site: Site, neurons: SitePlan, walk: Walk, nodes: Sequence[gs.Node]) -> bool:
    """Whether ŷ is rounding on the first batch. nodes: those from what the walk has stored to the site's output."""
    curve = site.curve
    if curve is None or neurons.scale != "activation" or neurons.threshold.min() > COARSE:
        return False
    ends = [site.input, site.output]
    values = {name: walk.store.get(name, 0) for name in walk.outside(nodes)}
    values |= walk.segment(nodes, [name for name in ends if name not in values], values).run(values)
    x, y = (_rows(values[name], site.axis) for name in ends)
    with np.errstate(all="ignore"):
        error = y - curve.value(x)
    return bool(np.sqrt(np.square(error).mean()) > neurons.threshold.mean() / 2)


def _rows(values: NDArray[np.float32], axis: int | None) -> NDArray[np.float64]:
    """[P, C] in float64."""
    rows = values.reshape(-1, 1) if axis is None else np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    return rows.astype(np.float64)
