"""Operators that onnxruntime's optimisers make of several: taken apart, they compute the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from graphpass.graph.model import load
from graphpass.network import prepare
from tests.models import build, node, ops, run

MS = "com.microsoft"
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(4, 4, 3, 3)).astype(np.float32) / 4
B = RANDOM.normal(size=4).astype(np.float32)
M = RANDOM.normal(size=(6, 6)).astype(np.float32) / 2
IMAGES = ["N", 4, 5, 5]
ROWS = ["N", 6]
MATRICES = ["N", 3, 6, 6]


def fused(op, inputs="x w b", **attributes):
    return node(op, inputs, "y", "fused", domain=MS, **attributes)


def conv(kind, *parameters, inputs="x w b", **attributes):
    more = {"activation_params": list(map(float, parameters))} if parameters else {}
    return fused("FusedConv", inputs, activation=kind, pads=[1] * 4, **more, **attributes)


def gemm(kind, **attributes):
    return fused("FusedGemm", "x m", activation=kind, **attributes)


CASES = {
    **{kind: (conv(kind), IMAGES) for kind in ("Relu", "Sigmoid", "Tanh")},
    "LeakyRelu": (conv("LeakyRelu", 0.2), IMAGES),
    "Clip": (conv("Clip", -0.5, 1.5), IMAGES),
    "HardSigmoid": (conv("HardSigmoid", 0.4, 0.1), IMAGES),
    "no bias": (conv("Relu", inputs="x w"), IMAGES),
    "a summand": (conv("Relu", inputs="x w b x"), IMAGES),
    "a summand and no bias": (conv("Relu", inputs="x w - x", group=1, dilations=[1, 1]), IMAGES),
    "a summand alone": (fused("FusedConv", "x w b x", pads=[1] * 4), IMAGES),
    "Gemm and Relu": (gemm("Relu", alpha=0.5, transB=1), ROWS),
    "Gemm and LeakyRelu": (gemm("LeakyRelu", activation_alpha=0.3), ROWS),
    "Gemm and Elu": (gemm("Elu", activation_alpha=0.5), ROWS),
    "a product": (fused("FusedMatMul", "x m", alpha=0.25), ROWS),
    "a product of transposed": (fused("FusedMatMul", "x x", alpha=-1.5, transA=1), MATRICES),
    "a product with transposed": (fused("FusedMatMul", "x m", transB=1), MATRICES),
    "FastGelu": (fused("FastGelu", "x v"), ROWS),
    "BiasGelu": (fused("BiasGelu", "x v"), ROWS),
}
CONSTANTS = {"w": W, "b": B, "m": M, "v": M[0]}
GELUS = {"BiasGelu": "Gelu", "FastGelu": "FastGelu"}


def model_of(each, shape, opset=17, **options):
    used = {name: CONSTANTS[name] for name in each.input if name in CONSTANTS}
    return build([each], {"x": shape}, {"y": [None] * len(shape)}, used, opset=opset, **options)


def data(shape):
    return RANDOM.normal(size=(7, *shape[1:])).astype(np.float32)


@pytest.mark.filterwarnings("ignore::graphpass.graph.model.UpgradeWarning")
@pytest.mark.parametrize("opset", [11, 17, 22])
@pytest.mark.parametrize("case", CASES)
def test_the_parts_compute_what_the_whole_does(case, opset):
    each, shape = CASES[case]
    model, x = model_of(each, shape, opset), data(shape)
    parts = load(model).upgraded
    left = [part for part in parts.graph.node if part.domain]
    assert [part.op_type for part in left] == ([GELUS[each.op_type]] if each.op_type in GELUS else [])
    assert all(len(part.input) == 1 for part in left)
    np.testing.assert_allclose(run(parts, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-5)


def test_parts_in_a_subgraph():
    """Of a tensor that is made outside, by a fused operator, too."""
    branches = []
    for name, kind in (("yes", "Relu"), ("no", "Tanh")):
        inner = node("FusedConv", "h w b", "y", f"{name}/fused", domain=MS, activation=kind, pads=[1] * 4)
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, IMAGES)
        branches.append(helper.make_graph([inner], name, [], [value]))
    nodes = [
        node("FusedConv", "x w b", "h", "outer", domain=MS, activation="LeakyRelu", activation_params=[0.1]),
        node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"),
        node("If", "c", "z", "choice", then_branch=branches[0], else_branch=branches[1]),
    ]  # fmt: skip
    nodes[0].attribute.append(helper.make_attribute("pads", [1] * 4))
    model = build(nodes, {"x": IMAGES}, {"z": [None] * 4}, {"w": W, "b": B, "zero": np.float32(0)}, opset=17)
    parts = load(model).upgraded
    assert "FusedConv" not in str(parts)
    for sign in (-1, 1):
        x = sign * np.abs(data(IMAGES))
        np.testing.assert_allclose(run(parts, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-5)


LEFT = {
    "an activation that is not known": (conv("Wiggle"), IMAGES),
    "a parameter that is missing": (conv("LeakyRelu"), IMAGES),
    "a parameter of a Gemm that is missing": (gemm("LeakyRelu"), ROWS),
    "batches that are transposed": (fused("FusedMatMul", "x m", transBatchA=1, transA=1), MATRICES),
    "no bias": (fused("FastGelu", "x"), ROWS),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_has_no_parts_stays_as_it_is(case):
    each, shape = LEFT[case]
    (kept,) = load(model_of(each, shape)).upgraded.graph.node
    assert kept == each


def test_a_network_that_onnxruntime_has_optimised_has_the_sites_of_the_original(tmp_path):
    nodes = [
        node("Conv", "x w b", "c0", "c0", pads=[1] * 4), node("Relu", "c0", "a0", "a0"),
        node("Conv", "a0 w b", "c1", "c1", pads=[1] * 4), node("Add", "c1 a0", "s", "s"),
        node("LeakyRelu", "s", "a1", "a1", alpha=0.1), node("Conv", "a1 w b", "y", "last", pads=[1] * 4),
    ]  # fmt: skip
    path = tmp_path / "optimised.onnx"
    model = build(nodes, {"x": IMAGES}, {"y": IMAGES}, {"w": W, "b": B}, opset=17)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    assert "FusedConv" in {each.op_type for each in onnx.load(path).graph.node}
    original, optimised = (prepare(load(each)).coverage for each in (model, path))
    kinds = [site.kind for site in original.sites]
    assert [site.kind for site in optimised.sites] == kinds == ["relu", "leaky_relu"]
    assert optimised.spiking_layers == original.spiking_layers and optimised.complete
    assert "FusedConv" not in ops(load(path).graph())
