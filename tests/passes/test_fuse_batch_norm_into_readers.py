"""BatchNormalization in front of layers."""

import numpy as np
import pytest

from tests.models import build, node
from tests.passes.checking import check, norm, norm_constants, normal, reasons


@pytest.mark.parametrize("group", [1, 3])
def test_batch_norm_is_fused_into_an_unpadded_convolution_behind_it(group):
    nodes = [node("Relu", "x", "r"), norm("r", "n"), node("Conv", "n w b", "y", group=group)]
    constants = {"w": normal(6, 3 // group, 3, 3), "b": normal(6), **norm_constants(3)}
    model = build(nodes, {"x": [2, 3, 6, 6]}, {"y": [2, 6, 4, 4]}, constants)
    check(model, ["Relu", "Conv"], normal(2, 3, 6, 6), fuse_batch_norm_into_readers=1)


def test_batch_norm_in_front_of_zero_padding_is_spelled_out_unless_it_does_not_shift():
    nodes = [
        node("Relu", "x", "r"),
        norm("r", "n"),
        node("Conv", "n w", "y", name="padded", pads=[1, 1, 1, 1]),
    ]
    constants = {"w": normal(6, 3, 3, 3), **norm_constants(3)}
    model = build(nodes, {"x": [2, 3, 6, 6]}, {"y": [2, 6, 6, 6]}, constants)
    _, reports = check(model, ["Relu", "Mul", "Add", "Conv"], normal(2, 3, 6, 6), spell_out_batch_norm=1)
    assert reasons(reports, "fuse_batch_norm_into_readers") == [
        "Conv padded pads with zeros, and the shift is not zero"
    ]
    constants |= {"beta": np.zeros(3, np.float32), "mean": np.zeros(3, np.float32)}
    model = build(nodes, {"x": [2, 3, 6, 6]}, {"y": [2, 6, 6, 6]}, constants)
    check(model, ["Relu", "Conv"], normal(2, 3, 6, 6), fuse_batch_norm_into_readers=1)


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "AveragePool"])
def test_batch_norm_is_fused_through_pooling_and_flatten_into_every_reader(pool):
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]} if pool == "AveragePool" else {}
    size = 4 if attributes else 1
    nodes = [
        node("Relu", "x", "r"),
        norm("r", "n"),
        node(pool, "n", "p", **attributes),
        node("Flatten", "p", "f"),
        node("Gemm", "f w", "y", transB=1),
        node("MatMul", "f v", "z"),
    ]
    constants = {"w": normal(5, 3 * size), "v": normal(3 * size, 2), **norm_constants(3)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 5], "z": [2, 2]}, constants)
    expected = ["Relu", pool, "Flatten", "Gemm", "MatMul", "Add"]
    check(model, expected, normal(2, 3, 4, 4), fuse_batch_norm_into_readers=1)


def test_batch_norm_that_something_else_reads_too_is_spelled_out():
    nodes = [
        node("Relu", "x", "r"),
        norm("r", "n"),
        node("Conv", "n w", "y"),
        node("Abs", "n", "z", name="other"),
    ]
    model = build(
        nodes,
        {"x": [2, 3, 4, 4]},
        {"y": [2, 6, 4, 4], "z": [2, 3, 4, 4]},
        {"w": normal(6, 3, 1, 1), **norm_constants(3)},
    )
    _, reports = check(model, ["Relu", "Mul", "Add", "Conv", "Abs"], normal(2, 3, 4, 4), fuse_batch_norm_into_readers=0)
    assert reasons(reports, "fuse_batch_norm_into_readers") == ["Abs other reads it and is not a weight layer"]
