"""The calibration methods: what each does with the sampled rows of a site and of the layers in front of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Levels:
    threshold: Array
    shift: Array
    amplitude: Array
    offset: Array


@dataclass(frozen=True)
class SiteSample:
    """Rows at the same positions: x (ANN), x_snn, a = f(x), float32 [P, C]; bottom, top of x over all data, [C]."""

    kind: str
    x: Array
    x_snn: Array
    a: Array
    bottom: Array
    top: Array


@dataclass(frozen=True)
class Method:
    compensates: bool
    fit: Callable[[SiteSample, int], Levels]
    correct: Callable[[Array, SiteSample, int], tuple[Array, Array]]


def _tmp_fit(s: SiteSample, levels: int) -> Levels:
    L = levels - 1
    top = np.maximum(s.a.max(0), 1e-6)
    best = None
    for f in np.linspace(0.1, 1, 24):
        th = (top * f / L).astype(np.float32)
        n = np.clip(np.floor(s.x_snn / th + 0.5), 0, L)
        nm, am = n.mean(0), s.a.mean(0)
        v = ((n - nm) ** 2).mean(0)
        c = ((n - nm) * (s.a - am)).mean(0)
        A = np.where(v > 1e-12, c / np.maximum(v, 1e-12), 0)
        o = am - A * nm
        e = ((A * n + o - s.a) ** 2).mean(0)
        if best is None:
            best = [e, th, A, o]
        else:
            k = e < best[0]
            best = [np.where(k, new, old) for new, old in zip((e, th, A, o), best)]
    _, th, A, o = best
    return Levels(th, th / 2, A, o)


def _tmp_max(s: SiteSample, levels: int) -> Levels:
    L = levels - 1
    th = np.maximum(s.top, 1e-6) / L
    return Levels(th, th / 2, th, th * 0)


def _tmp_correct(U: Array, s: SiteSample, levels: int) -> tuple[Array, Array]:
    R = s.x - s.x_snn
    G, P, K = U.shape
    Rg = R.reshape(P, G, -1).transpose(1, 0, 2)
    out, bias = [], []
    for u, r in zip(U, Rg):
        um, rm = u.mean(0), r.mean(0)
        uc = u - um
        g = (uc.T @ uc).astype(np.float64)
        g += np.eye(K) * (1e-2 * np.trace(g) / K + 1e-9)
        w = np.linalg.solve(g, (uc.T @ (r - rm)).astype(np.float64)).astype(np.float32)
        out.append(w)
        bias.append(rm - um @ w)
    return np.stack(out), np.concatenate(bias)


METHODS: dict[str, Method] = {
    "optimal": Method(True, _tmp_fit, _tmp_correct),
    "max": Method(False, _tmp_max, _tmp_correct),
}
