"""Arithmetic with constants behind a layer."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphpass.passes.normalise import normalise
from tests.models import build, node, ops
from tests.passes.checking import check, normal, reasons

AFFINE = [
    ("Mul c s", (6, 1, 1)),
    ("Mul s c", ()),
    ("Div c s", (1, 6, 1, 1)),
    ("Add c s", ()),
    ("Sub c s", (1,)),
    ("Sub s c", (6, 1, 1)),
]


@pytest.mark.parametrize(("text", "shape"), AFFINE)
def test_arithmetic_with_constants_is_fused_into_a_convolution(text, shape):
    op, inputs = text.split(" ", 1)
    nodes = [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node(op, inputs, "y")]
    model = build(
        nodes,
        {"x": [2, 3, 5, 5]},
        {"y": [2, 6, 5, 5]},
        {"w": normal(6, 3, 3, 3), "s": 1 + normal(*shape) ** 2},
    )
    check(model, ["Conv"], normal(2, 3, 5, 5), fuse_affine=1)


def test_chains_of_arithmetic_are_fused_into_gemm_and_matmul():
    nodes = [
        node("Gemm", "x w", "c"),
        node("Mul", "c s", "d"),
        node("Add", "d t", "e"),
        node("Relu", "e", "f"),
        node("MatMul", "f v", "g"),
        node("Mul", "g t", "h"),
        node("Add", "h t", "i"),
        node("Div", "i s", "y"),
    ]
    constants = {"w": normal(4, 6), "v": normal(6, 6), "s": np.float32(2), "t": normal(1, 6)}
    model = build(nodes, {"x": [5, 4]}, {"y": [5, 6]}, constants)
    check(model, ["Gemm", "Relu", "MatMul", "Add"], normal(5, 4), fuse_affine=4)


def test_matmul_and_its_add_stay():
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "y")]
    model = build(nodes, {"x": [2, 5, 4]}, {"y": [2, 5, 6]}, {"w": normal(4, 6), "b": normal(6)})
    _, reports = check(model, ["MatMul", "Add"], normal(2, 5, 4), fuse_affine=0)
    assert reports["fuse_affine"].misses == ()


def test_arithmetic_that_is_not_per_channel_or_divides_by_zero_stays():
    nodes = [
        node("Conv", "x w", "c"),
        node("Add", "c s", "y"),
        node("Conv", "x w", "d"),
        node("Div", "d zero", "z"),
    ]
    constants = {"w": normal(6, 3, 1, 1), "s": normal(1, 1, 1, 4), "zero": np.float32(0)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4], "z": [2, 6, 4, 4]}, constants)
    graph = gs.import_onnx(model)
    reports = {report.rule: report for report in normalise(graph)}
    assert sorted(ops(graph)) == ["Add", "Conv", "Conv", "Div"]
    assert reasons(reports, "fuse_affine") == [
        "its constant is not one value per output channel",
        "its scale or shift is not finite",
    ]


def test_arithmetic_that_belongs_to_an_activation_stays():
    nodes = [
        node("Conv", "x w", "c"),
        node("Add", "c three", "a"),
        node("Clip", "a zero six", "b"),
        node("Div", "b six", "y"),
    ]
    constants = {"w": normal(6, 3, 1, 1), "three": 3.0, "zero": 0.0, "six": 6.0}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4]}, constants)
    check(model, ["Conv", "Add", "Clip", "Div"], normal(2, 3, 4, 4), fuse_affine=0)
