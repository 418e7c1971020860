"""BatchNormalization that no layer takes."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from graphpass.passes.normalise import normalise
from tests.models import HALF, build, node, ops
from tests.passes.checking import check, norm, norm_constants, normal, reasons


def test_batch_norm_over_the_middle_axis_of_a_matmul_is_spelled_out():
    nodes = [node("MatMul", "x w", "p"), norm("p", "y")]
    model = build(nodes, {"x": [2, 5, 4]}, {"y": [2, 5, 6]}, {"w": normal(4, 6), **norm_constants(5)})
    _, reports = check(model, ["MatMul", "Mul", "Add"], normal(2, 5, 4), spell_out_batch_norm=1)
    assert "not known to be the last axis" in reasons(reports, "fuse_batch_norm_into_layer")[0]


def test_batch_norm_in_training_mode_or_with_run_time_statistics_stays():
    nodes = [
        node("BatchNormalization", "x gamma beta mean var", "a r s", name="training", training_mode=1),
        node("ReduceMean", "a", "m", axes=[0, 2, 3], keepdims=0),
        node("BatchNormalization", "a gamma beta m var", "y", name="dynamic"),
    ]
    model = build(nodes, {"x": [2, 6, 4, 4]}, {"y": [2, 6, 4, 4]}, norm_constants(6))
    graph = gs.import_onnx(model)
    reports = {report.rule: report for report in normalise(graph)}
    assert ops(graph) == ["BatchNormalization", "ReduceMean", "BatchNormalization"]
    assert reasons(reports, "spell_out_batch_norm") == [
        "it is in training mode",
        "its scale, bias, mean or variance is not a constant",
    ]


def test_a_scale_that_overflows_float16_is_left():
    constants = {**norm_constants(3, np.float16), "gamma": np.full(3, 6e4, np.float16)}
    constants["var"] = np.full(3, 1e-3, np.float16)
    nodes = [node("Relu", "x", "r"), norm("r", "y")]
    graph = gs.import_onnx(build(nodes, {"x": [1, 3, 2, 2]}, {"y": [1, 3, 2, 2]}, constants, dtype=HALF))
    reports = {report.rule: report for report in normalise(graph)}
    assert reasons(reports, "spell_out_batch_norm") == ["its scale or shift does not fit float16"]


def test_batch_norm_of_unknown_rank_stays():
    nodes = [node("Reshape", "x s", "r"), norm("r", "n"), node("Reshape", "n t", "y")]
    model = build(nodes, {"x": [6, 2], "s": ["K"]}, {"y": [12]}, {"t": np.array([12]), **norm_constants(6)})
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    graph = gs.import_onnx(model)
    reports = {report.rule: report for report in normalise(graph)}
    assert ops(graph) == ["Reshape", "BatchNormalization", "Reshape"]
    assert reasons(reports, "spell_out_batch_norm") == ["the number of axes of its input is not known"]
