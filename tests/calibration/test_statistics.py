"""Statistics of BatchNormalization: read, measured on other data, matched, and plans carried over."""

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from graphpass.calibration.statistics import (
    Moments,
    batch_norms,
    carried_over,
    lookup_rows,
    match,
    use_batch_statistics,
)
from graphpass.graph.layers import weight_layers
from graphpass.graph.model import export
from graphpass.graph.plan import LayerPlan, Plan
from graphpass.passes.normalise import normalise
from graphpass.runtime.session import open_session, run
from tests.models import build, node

RANDOM = np.random.default_rng(0)
CHANNELS = 4
PARTS = ("g", "b", "m", "v")  # γ, β, μ, σ²


def parts(number: int) -> dict[str, np.ndarray]:
    values = (
        RANDOM.uniform(0.5, 2, CHANNELS),
        RANDOM.normal(size=CHANNELS),
        RANDOM.normal(size=CHANNELS),
        RANDOM.uniform(0.5, 2, CHANNELS),
    )
    return {f"{part}{number}": value.astype(np.float32) for part, value in zip(PARTS, values, strict=True)}


def norm(number: int, x: str, y: str, **attributes) -> list:
    return [
        node("BatchNormalization", f"{x} g{number} b{number} m{number} v{number}", y, f"norm{number}", **attributes)
    ]


def network():
    """conv1 → norm1 → relu → conv2 → norm2 → relu → conv3"""
    weights = {f"w{k}": RANDOM.normal(size=(CHANNELS, CHANNELS, 3, 3)).astype(np.float32) for k in (1, 2, 3)}
    return build(
        [
            node("Conv", "x w1", "c1", "conv1"), *norm(1, "c1", "n1"), node("Relu", "n1", "r1", "relu1"),
            node("Conv", "r1 w2", "c2", "conv2"), *norm(2, "c2", "n2"), node("Relu", "n2", "r2", "relu2"),
            node("Conv", "r2 w3", "y", "conv3"),
        ],
        {"x": ["N", CHANNELS, 10, 10]}, {"y": None}, {**weights, **parts(1), **parts(2)}, opset=21,
    )  # fmt: skip


PROTO = network()
X = (3 + 2 * RANDOM.normal(size=(16, CHANNELS, 10, 10))).astype(np.float32)


def fetched(graph: gs.Graph, *names: str) -> dict[str, np.ndarray]:
    copy = graph.copy()
    copy.outputs = [copy.tensors()[name] for name in names]
    for tensor in copy.outputs:
        tensor.dtype = np.float32
    return run(open_session(export(copy.cleanup().toposort())), {"x": X})


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = values.astype(np.float64)
    return wide.mean((0, 2, 3)), wide.var((0, 2, 3))


def test_matched_normalisations_have_their_own_moments_on_other_data() -> None:
    graph = gs.import_onnx(network())
    measuring = graph.copy()
    names = use_batch_statistics(measuring)
    found = run(open_session(export(measuring.cleanup().toposort())), {"x": X})
    assert set(names) == {"n1", "n2"}
    known = {name: Moments(*(found[each].astype(np.float64).ravel() for each in pair)) for name, pair in names.items()}
    first = fetched(graph, "c1")["c1"]
    for value, expected in zip((known["n1"].mean, known["n1"].variance), moments(first), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)  # float32 sums over 1,024 values
    constants = {k: graph.tensors()[k].values for k in ("b1", "g1", "b2", "g2")}
    before = moments(fetched(graph, "n2")["n2"])[0]
    match(graph, known)
    after = fetched(graph, "n1", "n2")
    for number in (1, 2):
        mean, variance = moments(after[f"n{number}"])
        np.testing.assert_allclose(mean, constants[f"b{number}"], atol=1e-3)  # as above, divided by deviations of 0.5
        np.testing.assert_allclose(np.sqrt(variance), constants[f"g{number}"], rtol=1e-3)
    assert np.abs(before - constants["b2"]).max() > 0.1  # it was not so before


def test_normalisations_that_say_nothing_are_left() -> None:
    values = {**parts(1), "w": RANDOM.normal(size=(4, 4)).astype(np.float32)}
    training = build(
        [node("BatchNormalization", "x g1 b1 m1 v1", "y rm rv", "norm", training_mode=1)],
        {"x": ["N", CHANNELS, 5, 5]}, {"y": None}, values,
    )  # fmt: skip
    assert batch_norms(gs.import_onnx(training)) == []
    computed = build(
        [node("Neg", "b1", "shift"), node("BatchNormalization", "x g1 shift m1 v1", "y", "norm")],
        {"x": ["N", CHANNELS, 5, 5]}, {"y": None}, values,
    )  # fmt: skip
    assert batch_norms(gs.import_onnx(computed)) == []


def test_changes_of_weights_are_carried_over_by_the_ratio_of_the_weights() -> None:
    """W = s·W' a channel: W + s·ΔW', s·Δb'."""
    given, matched = gs.import_onnx(PROTO), gs.import_onnx(PROTO)
    old = {name: matched.tensors()[name].values.astype(np.float64) for name in ("v1", "v2")}
    factors = np.array([0.5, 1.0, 2.0, 3.0])
    match(matched, {f"n{k}": Moments(np.zeros(CHANNELS), factors**2 * (old[f"v{k}"] + 1e-5) - 1e-5) for k in (1, 2)})
    for graph in (given, matched):
        normalise(graph)
    weights = {layer.node.name: layer.weight.values for layer in weight_layers(matched)}
    change = RANDOM.normal(size=weights["conv2"].shape).astype(np.float32)
    bias = RANDOM.normal(size=CHANNELS).astype(np.float32)
    same = LayerPlan("conv3", weights["conv3"] + 1, bias)
    plan = Plan(4, "rate", "optimal", (), (LayerPlan("conv2", weights["conv2"] + change, bias), same))
    found = carried_over(plan, matched, given)
    own = {layer.node.name: layer.weight.values for layer in weight_layers(given)}["conv2"]
    expected = own + factors[:, None, None, None] * change
    np.testing.assert_allclose(found.layers[0].weight, expected, rtol=1e-4, atol=1e-4)  # float32 weights of size 1
    np.testing.assert_allclose(found.layers[0].bias_change, factors * bias, rtol=1e-4)
    assert found.layers[0].weight.dtype == np.float32
    assert found.layers[1] is same


def test_rows_of_tables_that_inputs_look_up() -> None:
    """`ids` behind a reshape; `other` looks up columns, `mask` nothing."""
    nodes = [
        node("Identity", "ids", "i", "same"), node("Gather", "table i", "e", "words"), node("Cast", "e", "y", to=7),
        node("Gather", "table other", "f", "columns", axis=1), node("Cast", "f", "z", to=7), node("Neg", "mask", "m"),
    ]  # fmt: skip
    table = {"table": np.ones((30, 4), np.float32)}
    shapes = {"ids": ["N", 3], "other": ["N"], "mask": ["N", 3]}
    proto = build(nodes, shapes, {"y": None, "z": None, "m": None}, table, dtype=TensorProto.INT64)
    assert lookup_rows(gs.import_onnx(proto)) == {"ids": 30}
