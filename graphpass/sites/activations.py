"""Recognition of activations, whether one operator or spelled out; the graph is not edited.

A pattern is a nested tuple: "x" is the pre-activation (the same tensor wherever it stands), "$a" captures a
scalar constant, a float matches one near it, ("Op", …) a node, commutative operands in any order;

    ("*", …)  a product, in every order and association: Mul, Div by a constant, Neg; constants multiply up
    ("+", …)  a sum likewise: Add, Sub of a constant
    ("clip", low, high, p)  Clip, Relu, Min, Max with constants, choices that equal them, and nests of these
    ("where", border, p, q)  p where x < border, q where x > border: a Where, or products with comparisons
    ("|", p, q)  either

ACTIVATIONS lists the patterns, larger ones first. The quantise-clip-floor-shift chain is in quantised.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph.patterns import NEAR, Binding, Pattern, matches
from graphpass.graph.weights import floats_of
from graphpass.sites.qcfs import read_qcfs

Parameters = Mapping[str, float | int | NDArray[Any]]


@dataclass(frozen=True)
class Activation:
    """y = f(x): one region of the graph.

    kind: as in ACTIVATIONS. name: of the final node. input: x. output: y. nodes: the region, final node last;
    interior tensors may be read elsewhere too. parameters: of f, by name, floats unless said:

        clip          low, high                        (±inf where open)
        leaky_relu    alpha; low, high where it is clipped: clip(leaky_relu(x), low, high)
        prelu         slope, float32 array that broadcasts to x
        hard_sigmoid  alpha, beta: clip(alpha·x + beta, 0, 1)
        silu, quick_gelu  alpha: x·sigmoid(alpha·x)
        elu, celu, selu, thresholded_relu  alpha; selu: gamma too
        shrink      lambd, bias: x + bias below −lambd, x − bias above lambd, else 0
        qcfs          threshold, shift, amplitude, offset (float32 arrays of one shape), steps (int):
                      y = amplitude·clip(floor((x + shift)/threshold), 0, steps) + offset
    """

    kind: str
    name: str
    input: gs.Variable
    output: gs.Variable
    nodes: tuple[gs.Node, ...]
    parameters: Parameters


Reader = Callable[[Binding], Parameters | None]  # None: a match of form only, its constants do not fit


@dataclass(frozen=True)
class Spelling:
    """One way to write an activation."""

    kind: str
    pattern: Pattern
    read: Reader = lambda found: {}


def _attributes(**defaults: float) -> Reader:
    """Attributes of the final node, with the defaults of the ONNX operator."""
    return lambda found: {name: float(found.last.attrs.get(name, value)) for name, value in defaults.items()}


def _attribute_is(name: str, wanted: object, default: object, **parameters: float) -> Reader:
    def read(found: Binding) -> Parameters | None:
        value = found.last.attrs.get(name, default)
        same = math.isclose(value, wanted, rel_tol=1e-3) if isinstance(wanted, float) else value == wanted
        return parameters if same else None

    return read


def _clip(found: Binding) -> Parameters | None:
    low, high = found.scalars["low"], found.scalars["high"]
    either = low < high and (low, high) not in ((-math.inf, math.inf), (0.0, math.inf))
    return {"low": low, "high": high} if either else None


def _relu(found: Binding) -> Parameters | None:
    return {} if (found.scalars["low"], found.scalars["high"]) == (0.0, math.inf) else None


def _leaky(found: Binding) -> Parameters | None:
    return {"alpha": found.scalars["alpha"]} if 0 < found.scalars["alpha"] < 1 else None


def _clipped_leaky(found: Binding) -> Parameters | None:
    bounds = {"low": found.scalars["low"], "high": found.scalars["high"]}
    leaky = next((node for node in found.nodes if node.op == "LeakyRelu"), None)
    alpha = found.scalars["alpha"] if leaky is None else float(leaky.attrs.get("alpha", 0.01))
    return {"alpha": alpha, **bounds} if 0 < alpha < 1 and bounds["low"] < bounds["high"] else None


def _prelu(found: Binding) -> Parameters | None:
    slope = floats_of(found.last.inputs[1])
    per_channel = slope is not None and sum(n != 1 for n in slope.shape) <= 1
    return {"slope": slope.astype(np.float32)} if slope is not None and per_channel else None


def _minus(found: Binding) -> Parameters:
    return {"alpha": -found.scalars["minus"]}


def _sloped(sign: int) -> Reader:
    """sign times the constant factor of the last product; None where it is more than a slope a channel, or widens x."""

    def read(found: Binding) -> Parameters | None:
        x = found.tensors["x"]
        factors = [floats_of(each) for node in found.nodes if node.op == "Mul" for each in node.inputs]
        slope = next((values for values in reversed(factors) if values is not None), None)
        if slope is None or x.shape is None or slope.ndim > len(x.shape) or sum(n != 1 for n in slope.shape) > 1:
            return None
        fits = all(n in (1, size) for n, size in zip(slope.shape[::-1], x.shape[::-1], strict=False))
        return {"slope": (sign * slope).astype(np.float32)} if fits else None

    return read


def _scaled_elu(found: Binding) -> Parameters | None:
    inner = next(node for node in found.nodes if node.op == "Elu")
    return {"alpha": found.scalars["alpha"]} if inner.attrs.get("alpha", 1.0) == 1 else None


def _elu(found: Binding) -> Parameters | None:
    """gain·(alpha·exp(x) + shift) below 0, gamma·x above it: γ·elu where shift = −alpha, and gain = γ."""
    scalars = {"gain": 1.0, "gamma": 1.0, "alpha": 1.0, **found.scalars}
    slope, end = scalars["gain"] * scalars["alpha"], scalars["gain"] * scalars["shift"]
    gamma = scalars["gamma"]
    if not math.isclose(slope, -end, rel_tol=NEAR) or gamma == 0:
        return None
    return {"alpha": slope / gamma, **({"gamma": gamma} if "gamma" in found.scalars else {})}


def _shrink(found: Binding) -> Parameters | None:
    scalars = {"bias": 0.0, "minus": 0.0, **found.scalars}
    odd = math.isclose(scalars["low"], -scalars["lambd"], rel_tol=NEAR) and math.isclose(
        scalars["minus"], -scalars["bias"], rel_tol=NEAR
    )
    return {"lambd": scalars["lambd"], "bias": scalars["bias"]} if odd else None


def _hard_sigmoid(found: Binding) -> Parameters | None:
    """gain·clip(alpha·x + beta, low, high) with gain·low = 0 and gain·high = 1."""
    gain, slope = found.scalars.get("gain", 1.0), found.scalars.get("alpha", 1.0)
    if found.scalars["low"] != 0 or not math.isclose(gain * found.scalars["high"], 1, rel_tol=1e-3):
        return None
    return {"alpha": gain * slope, "beta": gain * found.scalars["beta"]} if gain * slope > 0 else None


def _hard_swish(found: Binding) -> Parameters | None:
    inner = next(node for node in found.nodes if node.op == "HardSigmoid")
    alpha, beta = inner.attrs.get("alpha", 0.2), inner.attrs.get("beta", 0.5)
    return {} if math.isclose(alpha, 1 / 6, rel_tol=1e-3) and math.isclose(beta, 0.5, rel_tol=1e-3) else None


def _captured_alpha(found: Binding) -> Parameters | None:
    return {"alpha": found.scalars["alpha"]} if found.scalars["alpha"] > 0 else None


def _captured(found: Binding) -> Parameters:
    return dict(found.scalars)


def _swish(found: Binding) -> Parameters:
    default = 1.702 if found.last.op == "QuickGelu" else 1.0
    return {"alpha": float(found.last.attrs.get("alpha", default))}


def _fixed(**parameters: float) -> Reader:
    return lambda found: parameters


MS = "com.microsoft."
SIX = 1 / 6
ERF = ("Erf", ("*", math.sqrt(0.5), "x"))
ONE_AND_ERF = ("|", ("+", 1.0, ERF), ("Sub", 1.0, ("Erf", ("*", -math.sqrt(0.5), "x"))))
CUBE = ("|", ("Pow", "x", 3.0), ("*", "x", "x", "x"), ("*", "x", ("Pow", "x", 2.0)))
SQUARE = ("|", ("Pow", "x", 2.0), ("*", "x", "x"))
ROOT = math.sqrt(2 / math.pi)
TANH = ("Tanh", ("|", ("*", ROOT, ("+", "x", ("*", 0.044715, CUBE))),
                      ("*", ROOT, ("+", "x", ("*", 0.044715, "x", "x", "x"))),
                      ("*", ROOT, ("+", "x", ("*", 0.044715, "x", ("Pow", "x", 2.0)))),
                      ("*", ROOT, "x", ("+", 1.0, ("*", 0.044715, SQUARE))),
                      ("*", ROOT, "x", ("+", 1.0, ("*", 0.044715, "x", "x")))))  # fmt: skip
SOFTPLUS = ("|", ("Softplus", "x"), ("Log", ("+", 1.0, ("Exp", "x"))))
E = ("Exp", "x")
SQUARED = ("|", ("Pow", ("+", 1.0, E), 2.0), ("Mul", ("+", 1.0, E), ("+", 1.0, E)))  # tanh(log(s)) = (s² − 1)/(s² + 1)
LESS_ONE = ("|", ("*", E, ("+", 2.0, E)), ("+", ("*", 2.0, E), ("|", ("Mul", E, E), ("Pow", E, 2.0))))  # s² − 1
EXP = ("Exp", ("|", "x", ("clip", -math.inf, 0.0, "x")))
EXPM1 = ("|", ("+", "$shift", EXP), ("+", "$shift", ("*", "$alpha", EXP)),
              ("*", "$gain", ("+", "$shift", ("|", EXP, ("*", "$alpha", EXP)))))  # fmt: skip
FALLEN = ("clip", 0.0, math.inf, ("*", -1.0, "x"))  # −min(x, 0)
LEAKY = ("|", ("LeakyRelu", "x"), ("Max", "x", ("*", "$alpha", "x")), ("where", 0.0, ("*", "$alpha", "x"), "x"))
RELU = ("clip", 0.0, math.inf, "x")
HALVES = ("|", ("*", 0.5, ("+", "x", ("Abs", "x"))), ("+", ("*", 0.5, "x"), ("*", 0.5, ("Abs", "x"))))
SIGMOID = ("|", ("Sigmoid", "x"), ("Div", 1.0, ("+", 1.0, ("Exp", ("*", -1.0, "x")))))

ACTIVATIONS: tuple[Spelling, ...] = (
    Spelling("qcfs", read_qcfs, lambda found: found.parameters),
    Spelling("gelu", ("*", 0.5, "x", ONE_AND_ERF)),
    Spelling("gelu", ("*", "x", ("+", 0.5, ("*", 0.5, ERF)))),
    Spelling("gelu_tanh", ("*", 0.5, "x", ("+", 1.0, TANH))),
    Spelling("gelu_tanh", ("*", "x", ("+", 0.5, ("*", 0.5, TANH)))),
    Spelling("relu_squared", ("|", ("Pow", RELU, 2.0), ("Mul", RELU, RELU), ("*", "x", RELU))),
    Spelling("hard_swish", ("*", SIX, "x", ("clip", 0.0, 6.0, ("+", 3.0, "x")))),
    Spelling("hard_swish", ("*", "x", ("clip", 0.0, 1.0, ("+", 0.5, ("*", SIX, "x"))))),
    Spelling("hard_swish", ("*", "x", ("clip", 0.0, 1.0, ("*", SIX, ("+", 3.0, "x"))))),
    Spelling("hard_swish", ("*", "x", ("HardSigmoid", "x")), _hard_swish),
    Spelling("mish", ("*", "x", ("Tanh", SOFTPLUS))),
    Spelling("mish", ("*", "x", ("Div", ("+", -1.0, SQUARED), ("+", 1.0, SQUARED)))),
    Spelling("mish", ("*", "x", ("Div", LESS_ONE, ("+", 2.0, LESS_ONE)))),
    Spelling("mish", ("Div", ("*", "x", LESS_ONE), ("+", 2.0, LESS_ONE))),
    Spelling("quick_gelu", ("*", "x", ("Sigmoid", ("*", 1.702, "x"))), _fixed(alpha=1.702)),
    Spelling("silu", ("*", "x", SIGMOID), _fixed(alpha=1.0)),
    Spelling("silu", ("*", "x", ("Sigmoid", ("*", "$alpha", "x"))), _captured_alpha),
    Spelling("silu", ("Div", "x", ("+", 1.0, ("Exp", ("*", -1.0, "x")))), _fixed(alpha=1.0)),
    Spelling("hard_sigmoid", ("*", "$gain", ("clip", "$low", "$high", ("+", "$beta", ("*", "$alpha", "x")))),
             _hard_sigmoid),
    Spelling("hard_sigmoid", ("*", "$gain", ("clip", "$low", "$high", ("+", "$beta", "x"))), _hard_sigmoid),
    Spelling("hard_sigmoid", ("clip", "$low", "$high", ("+", "$beta", ("*", "$alpha", "x"))), _hard_sigmoid),
    Spelling("hard_sigmoid", ("clip", "$low", "$high", ("+", "$beta", "x")), _hard_sigmoid),
    Spelling("leaky_relu", ("clip", "$low", "$high", LEAKY), _clipped_leaky),
    Spelling("leaky_relu", ("Max", "x", ("*", "$alpha", "x")), _leaky),
    Spelling("leaky_relu", ("where", 0.0, ("*", "$alpha", "x"), "x"), _captured),
    Spelling("leaky_relu", ("+", RELU, ("*", "$alpha", ("clip", -math.inf, 0.0, "x"))), _captured),
    Spelling("leaky_relu", ("+", RELU, ("*", "$minus", FALLEN)), _minus),
    Spelling("leaky_relu", ("Sub", RELU, ("*", "$alpha", FALLEN)), _captured),
    Spelling("prelu", ("where", 0.0, ("Mul", "x", "*"), "x"), _sloped(1)),
    Spelling("prelu", ("+", RELU, ("Mul", ("clip", -math.inf, 0.0, "x"), "*")), _sloped(1)),
    Spelling("prelu", ("+", RELU, ("Mul", FALLEN, "*")), _sloped(-1)),
    Spelling("prelu", ("Sub", RELU, ("Mul", FALLEN, "*")), _sloped(1)),
    Spelling("elu", ("where", 0.0, ("*", "$alpha", ("Elu", "x")), ("|", "x", ("Elu", "x"))), _scaled_elu),
    Spelling("selu", ("where", 0.0, EXPM1, ("*", "$gamma", "x")), _elu),
    Spelling("elu", ("where", 0.0, EXPM1, "x"), _elu),
    Spelling("relu", ("|", HALVES, ("Sub", "x", ("clip", -math.inf, 0.0, "x")), ("+", "x", FALLEN))),
    Spelling("tanh_shrink", ("|", ("Sub", "x", ("Tanh", "x")), ("+", "x", ("*", -1.0, ("Tanh", "x"))))),
    Spelling("log_sigmoid", ("Log", SIGMOID)),
    Spelling("softsign", ("Div", "x", ("+", 1.0, ("Abs", "x")))),
    Spelling("softplus", SOFTPLUS),
    Spelling("clip", ("clip", "$low", "$high", "x"), _clip),
    Spelling("relu", ("clip", "$low", "$high", "x"), _relu),
    Spelling("shrink", ("where", "$low", ("|", "x", ("+", "$bias", "x")),
                        ("where", "$lambd", 0.0, ("|", "x", ("+", "$minus", "x")))), _shrink),
    Spelling("thresholded_relu", ("where", "$alpha", 0.0, "x"), _captured),
    Spelling("sigmoid", SIGMOID),
    Spelling("leaky_relu", ("LeakyRelu", "x"), _attributes(alpha=0.01)),
    Spelling("prelu", ("PRelu", "x", "*"), _prelu),
    Spelling("hard_sigmoid", ("HardSigmoid", "x"), _attributes(alpha=0.2, beta=0.5)),
    Spelling("hard_swish", ("HardSwish", "x")),
    Spelling("silu", ("Swish", "x"), _attribute_is("alpha", 1.0, 1.0, alpha=1.0)),
    Spelling("quick_gelu", ("Swish", "x"), _attribute_is("alpha", 1.702, 1.0, alpha=1.702)),
    Spelling("silu", ("Swish", "x"), _swish),
    Spelling("quick_gelu", (MS + "QuickGelu", "x"), _attribute_is("alpha", 1.702, 1.702, alpha=1.702)),
    Spelling("silu", (MS + "QuickGelu", "x"), _swish),
    Spelling("gelu", ("Gelu", "x"), _attribute_is("approximate", "none", "none")),
    Spelling("gelu_tanh", ("Gelu", "x"), _attribute_is("approximate", "tanh", "none")),
    Spelling("gelu", (MS + "Gelu", "x")),
    Spelling("gelu_tanh", (MS + "FastGelu", "x")),
    Spelling("mish", ("Mish", "x")),
    Spelling("elu", ("Elu", "x"), _attributes(alpha=1.0)),
    Spelling("celu", ("Celu", "x"), _attributes(alpha=1.0)),
    Spelling("selu", ("Selu", "x"), _attributes(alpha=1.6732631921768188, gamma=1.0507010221481323)),
    Spelling("thresholded_relu", ("ThresholdedRelu", "x"), _attributes(alpha=1.0)),
    Spelling("shrink", ("Shrink", "x"), _attributes(lambd=0.5, bias=0.0)),
    Spelling("softsign", ("Softsign", "x")),
    Spelling("tanh", ("Tanh", "x")),
)  # fmt: skip


def _alone(pattern: Pattern) -> set[str]:
    """The operators that are this activation by themselves."""
    if not isinstance(pattern, tuple):
        return set()
    if pattern[0] == "|":
        return {op for each in pattern[1:] for op in _alone(each)}
    return {str(pattern[0]).removeprefix(MS)} if pattern[1:] == ("x",) else set()


OPERATORS = frozenset("Relu Clip PRelu".split()).union(*(_alone(each.pattern) for each in ACTIVATIONS))
LIMITS = frozenset({"low", "high"})  # parameters that may be infinite


def _below(*names: str) -> Callable[[Parameters], NDArray[np.bool_]]:
    return lambda found: np.any([~(np.atleast_1d(found[name]) >= 0) for name in names], axis=0)


FALLING: Mapping[str, tuple[Callable[[Parameters], NDArray[np.bool_]], str]] = {  # by channel, and where
    "selu": (lambda found: np.atleast_1d(found["gamma"] < 0 and found["alpha"] < 0), "for x > 0, after a rise"),
    "hard_sigmoid": (_below("alpha"), "between its limits"),
    "thresholded_relu": (_below("alpha"), "at its threshold"),
    "shrink": (lambda found: ~np.atleast_1d(0 <= found["lambd"] >= found["bias"]), "at its thresholds"),
    "silu": (lambda found: ~(np.atleast_1d(found["alpha"]) > 0), "for large x"),
    "quick_gelu": (lambda found: ~(np.atleast_1d(found["alpha"]) > 0), "for large x"),
}


def falling(activation: Activation) -> str | None:
    """Why no staircase of one neuron stands for f, because it falls where x rises; None where it may stand for it.

    A curve may fall and then rise (graphpass/maths/curves.py): each step then has two thresholds. Levels of others are
    even on x, so that counts rise with x. A QCFS chain may fall altogether (A < 0).
    """
    numbers = [np.asarray(value, np.float64) for name, value in activation.parameters.items() if name not in LIMITS]
    if not all(np.isfinite(value).all() for value in numbers):
        return "has a parameter that is no finite number"
    if activation.kind not in FALLING:
        return None
    falls, where = FALLING[activation.kind]
    channels = falls(activation.parameters)
    if not channels.any():
        return None
    some = "" if channels.all() else f" in {np.count_nonzero(channels)} of {channels.size} channels"
    return f"decreases {where}{some}: no staircase of one neuron stands for it"


def find_activations(graph: gs.Graph) -> tuple[Activation, ...]:
    """All activations of the top-level graph, in the order of their final nodes; regions do not overlap.

    Of two regions that would share a node the one higher in ACTIVATIONS wins, then the one that ends later: a
    spelled-out GELU, not the Erf in it.
    """
    claimed: set[int] = set()
    found: list[tuple[int, Activation]] = []
    for spelling in ACTIVATIONS:
        for place in reversed(range(len(graph.nodes))):
            node = graph.nodes[place]
            if id(node) in claimed or len(node.outputs) == 0:
                continue
            for binding in matches(spelling.pattern, node.outputs[0]):
                parameters = spelling.read(binding)
                if parameters is not None and not any(id(each) in claimed for each in binding.nodes):
                    claimed.update(id(each) for each in binding.nodes)
                    x, y = binding.tensors["x"], node.outputs[0]
                    activation = Activation(spelling.kind, node.name, x, y, binding.nodes, parameters)
                    found.append((place, activation))
                    break
    return tuple(activation for _, activation in sorted(found, key=lambda pair: pair[0]))
