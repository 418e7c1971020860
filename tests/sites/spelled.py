"""Activations spelled as nodes, and networks of them."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.sites.activations import find_activations
from tests.models import build, node

SHAPE = [2, 6, 5, 5]
ROOT, HALF_ROOT = math.sqrt(2), math.sqrt(0.5)
TANH_ROOT = math.sqrt(2 / math.pi)
CONSTANTS = {
    "zero": 0.0,
    "half": [0.5],
    "one": 1.0,
    "two": 2.0,
    "three": [[[3.0]]],
    "six": 6.0,
    "sixth": 1 / 6,
    "alpha": 0.2,
    "low": -0.4,
    "root": ROOT,
    "over": HALF_ROOT,
    "c": 0.044715,
    "troot": TANH_ROOT,
    "quick": 1.702,
    "minus": -1.0,
    "slope": np.linspace(0.1, 0.6, 6, dtype=np.float32).reshape(6, 1, 1),
}


def spell(text):
    nodes = []
    for part in text.split(";"):
        left, output = part.split(">")
        op, *inputs = left.split()
        nodes.append(node(op, " ".join(inputs), output.strip(), name=f"{op}_{len(nodes)}"))
    return nodes


def model_of(nodes, constants=None, outputs=("y",), opset=18, **options):
    used = {name for each in nodes for name in each.input}
    constants = {name: value for name, value in {**CONSTANTS, **(constants or {})}.items() if name in used}
    inputs = {name: SHAPE for name in ("x", "z") if name in used}
    return build(nodes, inputs, dict.fromkeys(outputs, SHAPE), constants, opset=opset, **options)


def find(*arguments, **options):
    return find_activations(gs.import_onnx(model_of(*arguments, **options)))


def x_of(dtype=np.float32):
    return (3 * np.random.default_rng(5).standard_normal(SHAPE)).astype(dtype)
