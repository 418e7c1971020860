"""BatchNormalization behind a layer."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper

from graphpass.passes.normalise import normalise
from tests.models import HALF, build, node
from tests.passes.checking import FLOAT16, check, norm, norm_constants, normal, reasons

CONVOLUTIONS = {
    "1-D": ("Conv", (6, 3, 3), 1, [2, 3, 9], 6),
    "2-D": ("Conv", (6, 3, 3, 3), 1, [2, 3, 9, 9], 6),
    "3-D": ("Conv", (6, 3, 2, 2, 2), 1, [2, 3, 5, 5, 5], 6),
    "grouped": ("Conv", (6, 1, 3, 3), 3, [2, 3, 9, 9], 6),
    "transposed": ("ConvTranspose", (3, 6, 3, 3), 1, [2, 3, 5, 5], 6),
    "transposed, grouped": ("ConvTranspose", (4, 3, 3, 3), 2, [2, 4, 5, 5], 6),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_batch_norm_is_fused_into_the_convolution_in_front_of_it(case, bias):
    op, shape, group, x, channels = CONVOLUTIONS[case]
    nodes = [
        node(op, "x w b" if bias else "x w", "c", group=group, pads=[1, 1] * (len(x) - 2)),
        norm("c", "y"),
    ]
    constants = {"w": normal(*shape), **norm_constants(channels)} | ({"b": normal(channels)} if bias else {})
    model = build(nodes, {"x": x}, {"y": ["N", channels, *"pqr"[: len(x) - 2]]}, constants)
    check(model, [op], normal(*x), fuse_batch_norm_into_layer=1)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}])
def test_batch_norm_is_fused_into_gemm(attributes):
    shape = (6, 4) if attributes.get("transB") else (4, 6)
    nodes = [node("Gemm", "x w b", "c", **attributes), norm("c", "y")]
    constants = {"w": normal(*shape), "b": normal(1, 6), **norm_constants(6)}
    check(
        build(nodes, {"x": [5, 4]}, {"y": [5, 6]}, constants),
        ["Gemm"],
        normal(5, 4),
        fuse_batch_norm_into_layer=1,
    )


@pytest.mark.parametrize("add", ["", "p b", "b p"])
def test_batch_norm_is_fused_into_matmul_and_its_add(add):
    nodes = [
        node("MatMul", "x w", "p"),
        *([node("Add", add, "c")] if add else []),
        norm("c" if add else "p", "y"),
    ]
    constants = {"w": normal(4, 6), **norm_constants(6)} | ({"b": normal(6)} if add else {})
    model = build(nodes, {"x": [5, 4]}, {"y": [5, 6]}, constants)
    check(model, ["MatMul", "Add"], normal(5, 4), fuse_batch_norm_into_layer=1)


def test_float16_is_fused_in_higher_precision_and_stays_float16():
    nodes = [node("Conv", "x w", "c"), norm("c", "y")]
    constants = {"w": normal(6, 3, 3, 3, dtype=np.float16), **norm_constants(6, np.float16)}
    model = build(nodes, {"x": [2, 3, 9, 9]}, {"y": [2, 6, 7, 7]}, constants, dtype=HALF)
    graph, _ = check(model, ["Conv"], normal(2, 3, 9, 9, dtype=np.float16), FLOAT16, fuse_batch_norm_into_layer=1)
    assert {each.dtype for each in graph.nodes[0].inputs[1:]} == {np.dtype(np.float16)}
    w, gamma, var = (constants[name].astype(np.float64) for name in ("w", "gamma", "var"))
    exact = w * (gamma / np.sqrt(var + np.float32(1e-5))).reshape(-1, 1, 1, 1)
    assert np.array_equal(graph.nodes[0].inputs[1].values, exact.astype(np.float16))


def test_weights_that_would_overflow_float16_are_left():
    constants = {"w": np.full((6, 3, 1, 1), 6e4, np.float16), **norm_constants(6, np.float16)}
    constants["gamma"] = np.full(6, 5, np.float16)
    nodes = [node("Conv", "x w", "c"), norm("c", "y")]
    graph = gs.import_onnx(build(nodes, {"x": [1, 3, 2, 2]}, {"y": [1, 6, 2, 2]}, constants, dtype=HALF))
    reports = {report.rule: report for report in normalise(graph)}
    assert reasons(reports, "fuse_batch_norm_into_layer") == ["the folded weight or bias does not fit float16"]
    assert graph.nodes[0].inputs[1].values.max() == np.float16(6e4)


def test_shared_weights_get_a_copy():
    nodes = [node("Conv", "x w", "c"), norm("c", "y"), node("Conv", "x w", "z")]
    constants = {"w": normal(6, 3, 1, 1), **norm_constants(6)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4], "z": [2, 6, 4, 4]}, constants)
    graph, _ = check(model, ["Conv", "Conv"], normal(2, 3, 4, 4), fuse_batch_norm_into_layer=1)
    assert graph.nodes[0].inputs[1] is not graph.nodes[1].inputs[1]


def test_a_convolution_that_others_read_keeps_its_values():
    nodes = [node("Conv", "x w", "c"), norm("c", "y"), node("Relu", "c", "z")]
    constants = {"w": normal(6, 3, 1, 1), **norm_constants(6)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4], "z": [2, 6, 4, 4]}, constants)
    _, reports = check(model, ["Conv", "Mul", "Relu", "Add"], normal(2, 3, 4, 4), spell_out_batch_norm=1)
    assert reasons(reports, "fuse_batch_norm_into_layer") == ["c is used elsewhere too"]


def test_a_convolution_that_is_an_output_keeps_its_values():
    nodes = [node("Conv", "x w", "c"), norm("c", "y")]
    constants = {"w": normal(6, 3, 1, 1), **norm_constants(6)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4], "c": [2, 6, 4, 4]}, constants)
    check(model, ["Conv", "Mul", "Add"], normal(2, 3, 4, 4), fuse_batch_norm_into_layer=0)


def test_a_matmul_that_is_an_output_keeps_its_values():
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "c"), norm("c", "y")]
    constants = {"w": normal(4, 6), "b": normal(6), **norm_constants(6)}
    model = build(nodes, {"x": [5, 4]}, {"p": [5, 6], "y": [5, 6]}, constants)
    check(model, ["MatMul", "Add", "Mul", "Add"], normal(5, 4), fuse_batch_norm_into_layer=0)


def beside(*more, held=(), axis=1, dtype=np.float32):
    """Two convolutions side by side and a BatchNormalization behind them."""
    nodes = [node("Conv", "x w b", "c", pads=[1] * 4), node("Conv", "x v", "d"), node("Concat", "c d", "j", axis=axis)]
    constants = {
        "w": normal(4, 3, 3, 3, dtype=dtype),
        "b": normal(4, dtype=dtype),
        "v": normal(2, 3, 1, 1, dtype=dtype),
    }
    outputs = dict.fromkeys(("y", *held))
    kind = {"dtype": HALF} if dtype == np.float16 else {}
    constants |= norm_constants(6, dtype)
    return build([*nodes, norm("j", "y"), *more], {"x": [2, 3, 5, 5]}, outputs, constants, **kind)


def test_batch_norm_is_fused_into_convolutions_side_by_side():
    check(beside(), ["Conv", "Conv", "Concat"], normal(2, 3, 5, 5), fuse_batch_norm_into_layer=1)


@pytest.mark.parametrize("held", ["c", "j"])
def test_convolutions_side_by_side_that_something_else_reads_stay(held):
    model = beside(held=[held])
    check(model, ["Conv", "Conv", "Concat", "Mul", "Add"], normal(2, 3, 5, 5), fuse_batch_norm_into_layer=0)


def test_a_scale_that_overflows_float16_stays_behind_convolutions_side_by_side():
    model = beside(dtype=np.float16)
    for each in model.graph.initializer:
        if each.name == "gamma":
            each.CopyFrom(numpy_helper.from_array(np.full(6, 6e4, np.float16), "gamma"))
    graph = gs.import_onnx(model)
    reports = {report.rule: report for report in normalise(graph)}
    assert reasons(reports, "fuse_batch_norm_into_layer") == ["the folded weight or bias does not fit float16"]
