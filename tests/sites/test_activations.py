"""Activations in every spelling, and what only looks like one."""

import math

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.maths.curves import curve_of
from graphpass.sites.activations import ACTIVATIONS, falling, find_activations
from tests.models import HALF, build, node, run
from tests.sites.spelled import CONSTANTS, ROOT, SHAPE, TANH_ROOT, find, model_of, spell, x_of

MS = "com.microsoft"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def erf(x):
    return np.vectorize(math.erf)(x)


def softplus(x):
    return np.log1p(np.exp(x))


def gelu(x):
    return 0.5 * x * (1 + erf(x / ROOT))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(TANH_ROOT * (x + 0.044715 * x**3)))


# The functions that Activation documents, by kind: parameters → f.
FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
    "clip": lambda x, low, high: np.clip(x, low, high),
    "leaky_relu": lambda x, alpha, low=-np.inf, high=np.inf: np.clip(np.where(x < 0, alpha * x, x), low, high),
    "prelu": lambda x, slope: np.where(x < 0, slope * x, x),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x, alpha: x * sigmoid(alpha * x),
    "quick_gelu": lambda x, alpha: x * sigmoid(alpha * x),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "mish": lambda x: x * np.tanh(softplus(x)),
    "elu": lambda x, alpha: np.where(x < 0, alpha * np.expm1(x), x),
    "celu": lambda x, alpha: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)),
    "selu": lambda x, alpha, gamma: gamma * np.where(x < 0, alpha * np.expm1(x), x),
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "log_sigmoid": lambda x: -softplus(-x),
    "shrink": lambda x, lambd, bias: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}

# Each spelling: "Op inputs > output" joined by ";", or one node with attributes. x: input, y: result.
SPELLINGS = {
    "relu": [
        "Relu x > y",
        "Max x zero > y",
        "Max zero x > y",
        "Clip x zero > y",
        "Greater x zero > m; Where m x zero > y",
        "Less x zero > m; Where m zero x > y",
        "LessOrEqual zero x > m; Not m > n; Where n zero x > y",
        "Abs x > a; Add x a > b; Div b two > y",
        "Abs x > a; Add a x > b; Mul half b > y",
        "Abs x > a; Mul a half > b; Mul x half > d; Add b d > y",
        "Min x zero > a; Sub x a > y",
        "Neg x > a; Relu a > b; Add x b > y",
    ],
    "relu_squared": [
        "Relu x > a; Pow a two > y",
        "Relu x > a; Mul a a > y",
        "Max x zero > a; Mul a a > y",
        "Relu x > a; Mul x a > y",
    ],
    "clip": [
        "Clip x zero six > y",
        "Clip x - one > y",
        "Min x six > a; Max zero a > y",
        "Relu x > a; Min a six > y",
        "Max x low > a; Clip a zero one > y",
        "Less x low > m; Where m low x > a; Less one a > n; Where n one a > y",
    ],
    "leaky_relu": [
        "Mul x alpha > a; Max x a > y",
        "Mul alpha x > a; Max a x > y",
        "LeakyRelu x > a; Max a low > y",
        "Mul x alpha > a; Max a x > b; Clip b low six > y",
    ],
    "prelu": ["PRelu x slope > y", "PRelu x alpha > y"],
    "hard_sigmoid": [
        "Add x three > a; Clip a zero six > b; Div b six > y",
        "Add three x > a; Clip a zero six > b; Mul sixth b > y",
        "Mul x sixth > a; Add a half > b; Clip b zero one > y",
        "Div x six > a; Add half a > b; Max b zero > c1; Min c1 one > y",
        "Add x half > a; Clip a zero one > y",
    ],
    "hard_swish": [
        "HardSwish x > y",
        "Add x three > a; Clip a zero six > b; Mul x b > d; Div d six > y",
        "Add x three > a; Clip a zero six > b; Div b six > d; Mul d x > y",
        "Add three x > a; Clip a zero six > b; Div x six > d; Mul d b > y",
        "Add x three > a; Relu a > e; Min e six > b; Mul b x > d; Mul sixth d > y",
        "Mul x sixth > a; Add a half > b; Clip b zero one > d; Mul d x > y",
        "Add x three > a; Div a six > b; Clip b zero one > d; Mul d x > y",
    ],
    "silu": [
        "Sigmoid x > a; Mul x a > y",
        "Sigmoid x > a; Mul a x > y",
        "Mul x alpha > b; Sigmoid b > a; Mul x a > y",
        "Neg x > a; Exp a > b; Add b one > d; Div x d > y",
        "Neg x > a; Exp a > b; Add one b > d; Div one d > e; Mul e x > y",
    ],
    "quick_gelu": ["Mul x quick > b; Sigmoid b > a; Mul x a > y"],
    "gelu": [
        "Div x root > a; Erf a > b; Add b one > d; Mul x d > e; Mul e half > y",
        "Mul x over > a; Erf a > b; Add one b > d; Mul half x > e; Mul e d > y",
        "Div x root > a; Erf a > b; Add b one > d; Mul half d > e; Mul x e > y",
        "Div x root > a; Erf a > b; Add b one > d; Div d two > e; Mul x e > y",
        "Div x root > a; Erf a > b; Add b one > d; Div x two > e; Mul d e > y",
        "Mul over x > a; Erf a > b; Mul half b > d; Add d half > e; Mul e x > y",
        "Neg x > n; Div n root > a; Erf a > b; Sub one b > d; Mul half x > e; Mul e d > y",
    ],
    "gelu_tanh": [
        "Pow x three > a; Mul c a > b; Add x b > d; Mul troot d > e; "
        "Tanh e > f; Add one f > g; Mul half x > h; Mul h g > y",
        "Mul x x > a; Mul a x > a3; Mul a3 c > b; Add b x > d; Mul d troot > e; "
        "Tanh e > f; Add f one > g; Mul x g > h; Mul half h > y",
        "Mul c x > a; Mul a x > a2; Mul a2 x > b; Add x b > d; Mul d troot > e; "
        "Tanh e > f; Add f one > g; Mul half g > h; Mul h x > y",
        "Mul x x > a; Mul c a > b; Add one b > d; Mul x troot > d2; Mul d d2 > e; "
        "Tanh e > f; Add f one > g; Mul half g > h; Mul h x > y",
    ],
    "mish": [
        "Mish x > y",
        "Softplus x > a; Tanh a > b; Mul x b > y",
        "Exp x > e; Add e one > f; Log f > a; Tanh a > b; Mul b x > y",
        "Exp x > e; Add two e > f; Mul e f > n; Add n two > d; Div n d > b; Mul x b > y",
        "Exp x > e; Mul e e > s; Mul e two > f; Add s f > n; Add two n > d; Mul n x > b; Div b d > y",
        "Exp x > e; Add one e > f; Mul f f > s; Sub s one > n; Add s one > d; Div n d > b; Mul b x > y",
        "Exp x > e; Add e one > f; Pow f two > s; Sub s one > n; Add one s > d; Div n d > b; Mul x b > y",
    ],
    "softplus": ["Softplus x > y", "Exp x > a; Add one a > b; Log b > y"],
    "softsign": ["Softsign x > y", "Abs x > a; Add a one > b; Div x b > y"],
    "tanh_shrink": ["Tanh x > a; Sub x a > y", "Tanh x > a; Neg a > b; Add b x > y"],
    "log_sigmoid": ["Sigmoid x > a; Log a > y"],
    "shrink": [
        "Less x minus > m; Add x alpha > a; Less one x > n; Sub x alpha > b; Where n b zero > d; Where m a d > y",
        "Less x minus > m; Greater x one > n; Where n x zero > d; Where m x d > y",
    ],
    "sigmoid": ["Sigmoid x > y", "Mul x minus > a; Exp a > b; Add b one > d; Div one d > y"],
    "tanh": ["Tanh x > y"],
}
OPERATORS = [
    ("leaky_relu", "LeakyRelu", {}, 17, {"alpha": 0.01}),
    ("leaky_relu", "LeakyRelu", {"alpha": 0.3}, 17, {"alpha": 0.3}),
    ("hard_sigmoid", "HardSigmoid", {}, 17, {"alpha": 0.2, "beta": 0.5}),
    ("clip", "Clip", {"min": -1.0, "max": 2.0}, 6, {"low": -1, "high": 2}),
    ("relu", "Clip", {"min": 0.0}, 6, None),
    ("elu", "Elu", {"alpha": 0.7}, 17, {"alpha": 0.7}),
    ("celu", "Celu", {"alpha": 2.0}, 17, {"alpha": 2.0}),
    ("selu", "Selu", {}, 17, None),
    ("thresholded_relu", "ThresholdedRelu", {"alpha": 0.5}, 17, {"alpha": 0.5}),
    ("shrink", "Shrink", {}, 17, {"lambd": 0.5, "bias": 0}),
    ("shrink", "Shrink", {"lambd": 0.7, "bias": 0.7}, 17, {"lambd": 0.7, "bias": 0.7}),
    ("gelu", "Gelu", {}, 20, {}),
    ("gelu_tanh", "Gelu", {"approximate": "tanh"}, 20, {}),
    ("silu", "Swish", {}, 24, {"alpha": 1}),
    ("quick_gelu", "Swish", {"alpha": 1.702}, 24, {"alpha": 1.702}),
    ("silu", "Swish", {"alpha": 0.5}, 24, {"alpha": 0.5}),
    ("quick_gelu", f"{MS}.QuickGelu", {}, 17, {"alpha": 1.702}),
    ("silu", f"{MS}.QuickGelu", {"alpha": 1.0}, 17, {"alpha": 1}),
    ("gelu", f"{MS}.Gelu", {}, 17, {}),
    ("gelu_tanh", f"{MS}.FastGelu", {}, 17, {}),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in SPELLINGS.items() for text in texts])
def test_spellings(kind, text):
    model = model_of(spell(text), opset=22 if "HardSwish" in text else 18)
    (activation,) = find_activations(gs.import_onnx(model))
    assert (activation.kind, activation.input.name, activation.output.name) == (kind, "x", "y")
    assert activation.name == activation.nodes[-1].name == model.graph.node[-1].name
    assert {each.name for each in activation.nodes} == {each.name for each in model.graph.node}
    expected = FUNCTIONS[kind](x_of().astype(np.float64), **activation.parameters)
    # float32 functions of size up to 10 chained over at most nine nodes, and constants matched within 1e-3
    np.testing.assert_allclose(run(model, x_of())[0], expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "op", "attributes", "opset", "parameters"), OPERATORS)
def test_operators(kind, op, attributes, opset, parameters):
    domain, _, name = op.rpartition(".")
    (activation,) = find([node(name, "x", "y", name="f", domain=domain, **attributes)], opset=opset)
    assert (activation.kind, activation.name, activation.input.name) == (kind, "f", "x")
    if parameters is not None:
        assert activation.parameters == pytest.approx(parameters)
    if name not in ("Swish", "Gelu", "FastGelu", "QuickGelu"):  # not on every onnxruntime
        model = model_of([node(name, "x", "y", **attributes)], opset=opset)
        expected = FUNCTIONS[kind](x_of().astype(np.float64), **activation.parameters)
        np.testing.assert_allclose(run(model, x_of())[0], expected, rtol=1e-4, atol=1e-5)  # one float32 function


def test_every_kind_of_the_table_is_tested():
    tested = set(SPELLINGS) | {kind for kind, *_ in OPERATORS} | {"qcfs"}
    assert tested == {spelling.kind for spelling in ACTIVATIONS} == {*FUNCTIONS, "qcfs"}


@pytest.mark.parametrize("kind", ["gelu", "gelu_tanh", "hard_swish", "quick_gelu"])
def test_float16_constants_are_near_enough(kind):
    constants = {name: np.asarray(value, np.float16) for name, value in CONSTANTS.items()}
    for text in SPELLINGS[kind]:
        if text != "HardSwish x > y":
            (activation,) = find(spell(text), constants, dtype=HALF)
            assert activation.kind == kind


NEGATIVE = {
    "two inputs": ("Sigmoid z > a; Mul x a > y", ["sigmoid"]),
    "0.4 for 0.5": ("Div x root > a; Erf a > b; Add b one > d; Mul x d > e; Mul e alpha > y", []),
    "x/2 for x/sqrt(2)": ("Div x two > a; Erf a > b; Add b one > d; Mul x d > e; Mul e half > y", []),
    "relu times another": ("Relu x > a; Relu z > b; Mul a b > y", ["relu", "relu"]),
    "relu to the third": ("Relu x > a; Pow a three > y", ["relu"]),
    "max(x, 2x)": ("Mul x two > a; Max x a > y", []),
    "max(x, -0.4x)": ("Mul x low > a; Max x a > y", []),
    "max(x, z)": ("Max x z > y", []),
    "clip that depends on data": ("ReduceMax z > m; Clip x zero m > y", []),
    "3 for 6": ("Add x three > a; Clip a zero three > b; Mul x b > d; Div d six > y", ["clip"]),
    "HardSigmoid of slope 0.2": ("HardSigmoid x > a; Mul x a > y", ["hard_sigmoid"]),
    "x * sigmoid(-x)": ("Neg x > a; Sigmoid a > b; Mul x b > y", ["sigmoid"]),
    "softsign with 2": ("Abs x > a; Add a two > b; Div x b > y", []),
    "tanh(softplus(x)) of another": ("Softplus z > a; Tanh a > b; Mul x b > y", ["softplus", "tanh"]),
    "0 below 0.5, another above": ("Greater x half > m; Where m z zero > y", []),
    "0.5 below 0": ("Less x zero > m; Where m half x > y", []),
    "exp(x) - 2 below 0": ("Exp x > a; Sub a two > b; Less x zero > m; Where m b x > y", []),
    "relu(x) + relu(-z)": ("Relu x > a; Neg z > b; Relu b > d; Mul d alpha > e; Add a e > y", ["relu", "relu"]),
    "x + |x|": ("Abs x > a; Add a x > y", []),
    "(x + |z|) / 2": ("Abs z > a; Add a x > b; Mul b half > y", []),
    "x - tanh(z)": ("Tanh z > a; Sub x a > y", ["tanh"]),
    "tanh(x) - x": ("Tanh x > a; Sub a x > y", ["tanh"]),
    "x - min(z, 0)": ("Min z zero > a; Sub x a > y", ["clip"]),
    "x * relu(z)": ("Relu z > a; Mul x a > y", ["relu"]),
    "exp of another": ("Exp z > a; Sub a one > b; Less x zero > m; Where m b x > y", []),
    "arithmetic": ("Mul x alpha > a; Add a one > b; Div b six > y", []),
}


@pytest.mark.parametrize("case", NEGATIVE)
def test_what_only_looks_like_an_activation(case):
    text, kinds = NEGATIVE[case]
    assert [each.kind for each in find(spell(text))] == kinds


def test_a_product_with_a_comparison_is_a_choice():
    nodes = [node("Greater", "x zero", "m"), node("Cast", "m", "a", to=1), node("Mul", "a x", "y")]
    (activation,) = find(nodes)
    assert (activation.kind, len(activation.nodes)) == ("relu", 3)


@pytest.mark.parametrize("negated", ["m", "k"])
def test_a_sum_of_products_with_a_comparison_and_its_opposite_is_a_choice(negated):
    """tf.where, as tf2onnx writes it."""
    nodes = [
        *spell(f"Greater x zero > m; Greater z zero > k; Not {negated} > n"), node("Cast", "m", "p", to=1),
        node("Cast", "n", "q", to=1), *spell("Mul x p > a; Mul x alpha > b; Mul b q > d; Add d a > y"),
    ]  # fmt: skip
    found = find(nodes)
    if negated == "m":
        assert [(each.kind, each.parameters) for each in found] == [("leaky_relu", {"alpha": pytest.approx(0.2)})]
    else:
        assert [each.kind for each in found] == ["relu"]


FULL = {  # as torch.zeros_like is exported
    "a constant": [],
    "ConstantOfShape": [node("Shape", "x", "s"), node("ConstantOfShape", "s", "full")],
    "Expand": [node("Shape", "x", "s"), node("Expand", "zero s", "full")],
}


@pytest.mark.parametrize("ends", [("Greater x zero > m; Where m x full > y"), ("Max full x > y")])
@pytest.mark.parametrize("name", FULL)
def test_zeros_in_the_shape_of_the_pre_activation(name, ends):
    constants = {} if FULL[name] else {"full": np.zeros(SHAPE[1:], np.float32)}
    (activation,) = find([*FULL[name], *spell(ends)], constants)
    assert (activation.kind, activation.input.name) == ("relu", "x")


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Shape", "z", "s"), node("ConstantOfShape", "s", "full")],
        [node("Shape", "x", "s", end=1), node("ConstantOfShape", "s", "full")],
        [node("Shape", "x", "s"), node("Expand", "slope s", "full")],
    ],
    ids=["of another", "of one axis", "of slopes"],
)
def test_what_is_not_one_number_in_the_shape_of_the_pre_activation(nodes):
    assert find([*nodes, *spell("Max full x > y")], {"slope": CONSTANTS["slope"].reshape(1, 6, 1, 1)}) == ()


def test_slopes_that_widen_the_pre_activation_are_no_activation():
    model = build(
        spell("Mul slope x > a; Less x zero > m; Where m a x > y"), {"x": [2, 1, 5, 5]}, {"y": [2, 6, 5, 5]},
        {name: CONSTANTS[name] for name in ("slope", "zero")},
    )  # fmt: skip
    assert find_activations(gs.import_onnx(model)) == ()


def test_integer_clips_are_no_activations():
    nodes = [
        node("Shape", "x", "s"),
        node("Clip", "s i j", "t"),
        node("Min", "t j", "u"),
        node("Expand", "x u", "y"),
    ]
    assert find(nodes, {"i": np.array(1), "j": np.array(9)}) == ()


def test_a_bias_in_the_operator_is_left():
    nodes = [node("BiasGelu", "x b", "a", domain=MS), node("FastGelu", "a b", "y", domain=MS)]
    assert find(nodes, {"b": np.zeros(5, np.float32)}) == ()


def test_order_is_topological_and_regions_do_not_overlap():
    text = (
        "Relu x > a; Div a root > b; Erf b > c1; Add c1 one > d; Mul a d > e; Mul half e > f; "
        "Sigmoid f > g; Mul f g > h; Tanh h > y"
    )
    found = find(spell(text))
    assert [each.kind for each in found] == ["relu", "gelu", "silu", "tanh"]
    assert [(each.input.name, each.output.name) for each in found] == [
        ("x", "a"),
        ("a", "f"),
        ("f", "h"),
        ("h", "y"),
    ]
    assert len({id(each) for one in found for each in one.nodes}) == 9


def test_interior_tensors_may_be_read_elsewhere():
    text = "Sigmoid x > a; Mul x a > y; Neg a > n"
    (activation,) = find(spell(text), outputs=("y", "n", "a"))
    assert (activation.kind, activation.output.name) == ("silu", "y")


def test_a_product_can_be_the_pre_activation():
    text = "Mul x alpha > p; Div p root > a; Erf a > b; Add b one > d; Mul p d > e; Mul e half > y"
    (activation,) = find(spell(text))
    assert (activation.kind, activation.input.name) == ("gelu", "p")


SLOPES = np.float32([0.2, -0.5, 0, 1.5]).reshape(4, 1, 1)
RISING = [
    ("LeakyRelu", {"alpha": 0.0}), ("LeakyRelu", {"alpha": 2.0}), ("Elu", {}), ("Elu", {"alpha": 0.0}), ("Selu", {}),
    ("Celu", {"alpha": -2.0}), ("HardSigmoid", {}), ("ThresholdedRelu", {"alpha": 0.0}), ("Swish", {"alpha": 0.5}),
    ("PRelu", {"slope": np.float32([0, 0.5, 1, 2]).reshape(4, 1, 1)}), ("Gelu", {}), ("HardSwish", {}), ("Mish", {}),
]  # fmt: skip
VALLEYS = [
    ("LeakyRelu", {"alpha": -1.0}), ("PRelu", {"slope": np.float32([-0.5])}), ("PRelu", {"slope": SLOPES}),
    ("Elu", {"alpha": -1.0}), ("Selu", {"alpha": -1.0}), ("Selu", {"gamma": -1.0}),
]  # fmt: skip
FALLS = [
    ("HardSigmoid", {"alpha": -0.2}, "between its limits"),
    ("Selu", {"alpha": -1.0, "gamma": -1.0}, "for x > 0, after a rise"),
    ("ThresholdedRelu", {"alpha": -1.0}, "at its threshold"), ("Swish", {"alpha": -1.0}, "for large x"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "attributes", "where"), [*((*e, None) for e in RISING), *((*e, "") for e in VALLEYS), *FALLS]
)
def test_what_falls_is_no_staircase_and_says_where(op, attributes, where):
    """What falls and then rises has two thresholds a step; what falls otherwise is left, and falls by more than 0.4."""
    slope = {name: value for name, value in attributes.items() if name == "slope"}
    numbers = {name: value for name, value in attributes.items() if name != "slope"}
    last = node(op, " ".join(["x", *slope]), "y", name="act", **numbers)
    model = build([last], {"x": ["N", 4, 1, 1]}, {"y": None}, slope, opset=24 if op == "Swish" else 22)
    (activation,) = find_activations(gs.import_onnx(model))
    reason = falling(activation)
    assert reason == (f"decreases {where}: no staircase of one neuron stands for it" if where else None)
    x = np.linspace(-6, 6, 481).reshape(-1, 1)
    y = FUNCTIONS[activation.kind](x, **{k: np.ravel(v) for k, v in activation.parameters.items()})
    valley = where == ""
    fall = (np.maximum.accumulate(y) - y).max(0)
    # a mirrored SiLU falls by 0.28, too
    assert (fall.max() > 0.4) == (reason is not None) or valley or op == "Swish"
    assert not valley or np.max(curve_of(activation.kind, activation.parameters).least) > -math.inf


def test_parameters_that_are_no_numbers_are_no_activation():
    model = build([node("LeakyRelu", "x", "y", name="act", alpha=math.nan)], {"x": ["N", 4]}, {"y": None}, {})
    (activation,) = find_activations(gs.import_onnx(model))
    assert falling(activation) == "has a parameter that is no finite number"
