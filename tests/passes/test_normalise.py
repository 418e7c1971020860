from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper, numpy_helper

from graphpass.graph.spelling import respell
from graphpass.passes.normalise import RULES, normalise
from graphpass.sites.activations import find_activations
from tests.models import FLOAT, HALF, build, export, node, ops, run

# Folding reorders at most a few hundred float32 products of size about 1: 2^-24 each, 100 times for the sum.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}
# float16 weights are rounded once more after folding: 2^-11 of values up to about 10.
FLOAT16 = {"rtol": 1e-2, "atol": 2e-2}


def rng():
    return np.random.default_rng(7)


def normal(*shape, dtype=np.float32):
    return rng().standard_normal(shape).astype(dtype)


def norm_constants(channels, dtype=np.float32):
    generator = np.random.default_rng(3)
    values = generator.uniform(0.5, 1.5, (4, channels)).astype(dtype)
    return {
        "gamma": values[0] * np.where(np.arange(channels) % 2, 1, -1).astype(dtype),
        "beta": values[1],
        "mean": values[2],
        "var": values[3],
    }


def norm(x, y, **attributes):
    return node("BatchNormalization", f"{x} gamma beta mean var", y, name="bn", **attributes)


def check(model, expected_ops, feed, tolerance=FLOAT32, **rewrites):
    """Normalises; checks ops, rewrites per rule and that outputs did not change. Returns (graph, reports)."""
    respell(Path("tiny.onnx"), model)
    graph = gs.import_onnx(model)
    reports = {report.rule: report for report in normalise(graph)}
    assert list(reports) == [rule.__name__ for rule in RULES]
    assert ops(graph) == expected_ops
    for rule, count in rewrites.items():
        assert reports[rule].rewrites == count, rule
    after = export(graph)
    assert [each.name for each in after.graph.output] == [each.name for each in model.graph.output]
    assert [each.name for each in after.graph.input] == [each.name for each in model.graph.input]
    for was, now in zip(run(model, feed), run(after, feed), strict=True):
        assert was.dtype == now.dtype and was.shape == now.shape
        np.testing.assert_allclose(now, was, **tolerance)
    return graph, reports


def reasons(reports, rule):
    return [miss.reason for miss in reports[rule].misses]


def test_nodes_get_unique_names_and_keep_theirs():
    nodes = [
        node("Relu", "x", "a"),
        node("Abs", "a", "b", name="Relu_0"),
        node("Neg", "b", "c", name="twin"),
        node("Neg", "c", "y", name="twin"),
    ]
    graph = gs.import_onnx(build(nodes, {"x": [3]}, {"y": [3]}, {}))  # onnxruntime refuses to load it as it is
    reports = {report.rule: report for report in normalise(graph)}
    export(graph)
    assert [each.name for each in graph.nodes] == ["Relu_0_1", "Relu_0", "twin", "Neg_3"]
    assert reports["name_nodes"].rewrites == 2


def test_constant_nodes_become_initializers():
    nodes = [
        node("Constant", "", "a", value=numpy_helper.from_array(normal(3))),
        node("Constant", "", "b", value_float=2.0),
        node("Constant", "", "c", value_floats=[1.0, 2.0, 3.0]),
        node("Constant", "", "i", value_int=1),
        node("Constant", "", "j", value_ints=[0, 2]),
        node("Add", "x a", "p"),
        node("Mul", "p b", "q"),
        node("Mul", "q c", "r"),
        node("Gather", "r j", "s", axis=0),
        node("Gather", "s i", "y", axis=0),
    ]
    graph, _ = check(
        build(nodes, {"x": [3]}, {"y": []}, {}),
        ["Add", "Mul", "Mul", "Gather", "Gather"],
        normal(3),
        constants=5,
    )
    assert isinstance(graph.nodes[0].inputs[1], gs.Constant)


def test_constants_of_other_floats_are_cast():
    tensor = helper.make_tensor("t", onnx.TensorProto.BFLOAT16, [2], [1.5, -3.0])
    half = numpy_helper.from_array(np.float16([1.5, 1e-7]))
    nodes = [
        node("Constant", "", "c", value=tensor),
        node("Cast", "c", "d", to=FLOAT),
        node("Add", "x d", "s"),
        node("Constant", "", "h", value=half),
        node("Cast", "h", "g", to=FLOAT),
        node("Add", "s g", "y"),
    ]
    graph = gs.import_onnx(build(nodes, {"x": [2]}, {"y": [2]}, {}))
    normalise(graph)
    kept = {each.name: each for each in export(graph).graph.initializer}
    assert numpy_helper.to_array(kept["d"]).tolist() == [1.5, -3.0]
    assert numpy_helper.to_array(kept["g"]).tolist() == np.float16([1.5, 1e-7]).astype(np.float32).tolist()


def test_constants_that_are_outputs_stay():
    nodes = [node("Constant", "", "c", value_float=2.0), node("Mul", "x c", "y")]
    _, reports = check(build(nodes, {"x": [3]}, {"y": [3], "c": []}, {}), ["Constant", "Mul"], normal(3), constants=0)
    assert reasons(reports, "constants") == ["it is a graph output, or a subgraph captures it"]


def test_identities_go():
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a ratio", "b"),
        node("Cast", "b", "c", to=FLOAT),
        node("Abs", "c", "d"),
        node("Dropout", "d ratio false", "e"),
        node("Relu", "e", "f"),
        node("Identity", "f", "y"),
        node("Neg", "f", "z"),
    ]
    model = build(nodes, {"x": [3]}, {"y": [3], "z": [3]}, {"ratio": 0.5, "false": np.array(False)})
    graph, _ = check(model, ["Abs", "Relu", "Neg"], normal(3), identities=5)
    assert graph.nodes[1].outputs[0] is graph.outputs[0]


@pytest.mark.parametrize(("terms", "expected"), [("x", []), ("x b", ["Add"]), ("x b x c", ["Add"] * 3)])
def test_sums_of_many_become_sums_of_two(terms, expected):
    nodes = [node("Sum", terms, "s", name="sum"), node("Neg", "s", "y")]
    constants = {"b": normal(2, 3), "c": normal(3) * 2}
    check(build(nodes, {"x": [2, 3]}, {"y": [2, 3]}, constants), [*expected, "Neg"], normal(2, 3), sums=1)


def test_an_input_that_is_an_output_survives():
    nodes = [
        node("Identity", "x", "y", name="through"),
        node("Relu", "x", "a"),
        node("Identity", "a", "z"),
        node("Identity", "a", "w", name="second"),
    ]
    model = build(nodes, {"x": [3]}, {"y": [3], "z": [3], "w": [3]}, {})
    _, reports = check(model, ["Identity", "Relu", "Identity"], normal(3), identities=1)
    assert [miss.node for miss in reports["identities"].misses] == ["through", "second"]


def test_dropout_in_training_mode_or_with_its_mask_stays():
    nodes = [
        node("Dropout", "x ratio true", "a", name="training", seed=1),
        node("Dropout", "a", "y m", name="mask"),
        node("Cast", "m", "z", to=FLOAT),
    ]
    model = build(nodes, {"x": [3]}, {"y": [3], "z": [3]}, {"ratio": 0.0, "true": np.array(True)})
    _, reports = check(model, ["Dropout", "Dropout", "Cast"], normal(3), identities=0)
    assert reasons(reports, "identities") == ["it may run in training mode", "its mask is used"]


def test_weights_that_are_reshaped_at_run_time_are_folded():
    nodes = [
        node("Cast", "half", "w", to=FLOAT),
        node("Transpose", "w", "wt", perm=[1, 0]),
        node("Reshape", "wt shape", "wr"),
        node("MatMul", "x wr", "p"),
        node("Sub", "one b", "nb"),
        node("Unsqueeze", "nb axes", "ub"),
        node("Squeeze", "ub axes", "sb"),
        node("Add", "p sb", "y"),
    ]
    constants = {
        "half": normal(2, 4, dtype=np.float16),
        "shape": np.array([0, -1]),
        "b": normal(2),
        "one": 1.0,
        "axes": np.array([0]),
    }
    model = build(nodes, {"x": [5, 4]}, {"y": [5, 2]}, constants)
    check(model, ["MatMul", "Add"], normal(5, 4), fold_constants=6)


def test_integer_division_and_float_to_integer_are_as_the_runtime_computes_them():
    nodes = [
        node("Cast", "f", "i", to=onnx.TensorProto.INT64),
        node("Div", "k two", "h"),
        node("Add", "i h", "s"),
        node("Gather", "x s", "y"),
    ]
    model = build(nodes, {"x": [9]}, {"y": [1]}, {"f": [5.5], "k": np.array([-7]), "two": np.array([2])})
    check(model, ["Gather"], normal(9), fold_constants=3)


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
def test_batch_norm_folds_into_the_convolution_before_it(case, bias):
    op, shape, group, x, channels = CONVOLUTIONS[case]
    nodes = [
        node(op, "x w b" if bias else "x w", "c", group=group, pads=[1, 1] * (len(x) - 2)),
        norm("c", "y"),
    ]
    constants = {"w": normal(*shape), **norm_constants(channels)} | ({"b": normal(channels)} if bias else {})
    model = build(nodes, {"x": x}, {"y": ["N", channels, *"pqr"[: len(x) - 2]]}, constants)
    check(model, [op], normal(*x), batch_norm_into_weights=1)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}])
def test_batch_norm_folds_into_gemm(attributes):
    shape = (6, 4) if attributes.get("transB") else (4, 6)
    nodes = [node("Gemm", "x w b", "c", **attributes), norm("c", "y")]
    constants = {"w": normal(*shape), "b": normal(1, 6), **norm_constants(6)}
    check(
        build(nodes, {"x": [5, 4]}, {"y": [5, 6]}, constants),
        ["Gemm"],
        normal(5, 4),
        batch_norm_into_weights=1,
    )


@pytest.mark.parametrize("add", ["", "p b", "b p"])
def test_batch_norm_folds_into_matmul_and_its_add(add):
    nodes = [
        node("MatMul", "x w", "p"),
        *([node("Add", add, "c")] if add else []),
        norm("c" if add else "p", "y"),
    ]
    constants = {"w": normal(4, 6), **norm_constants(6)} | ({"b": normal(6)} if add else {})
    model = build(nodes, {"x": [5, 4]}, {"y": [5, 6]}, constants)
    check(model, ["MatMul", "Add"], normal(5, 4), batch_norm_into_weights=1)


def test_batch_norm_over_the_middle_axis_of_a_matmul_is_spelled_out():
    nodes = [node("MatMul", "x w", "p"), norm("p", "y")]
    model = build(nodes, {"x": [2, 5, 4]}, {"y": [2, 5, 6]}, {"w": normal(4, 6), **norm_constants(5)})
    _, reports = check(model, ["MatMul", "Mul", "Add"], normal(2, 5, 4), scale_and_shift=1)
    assert "not known to be the last axis" in reasons(reports, "batch_norm_into_weights")[0]


def test_float16_folds_in_higher_precision_and_stays_float16():
    nodes = [node("Conv", "x w", "c"), norm("c", "y")]
    constants = {"w": normal(6, 3, 3, 3, dtype=np.float16), **norm_constants(6, np.float16)}
    model = build(nodes, {"x": [2, 3, 9, 9]}, {"y": [2, 6, 7, 7]}, constants, dtype=HALF)
    graph, _ = check(model, ["Conv"], normal(2, 3, 9, 9, dtype=np.float16), FLOAT16, batch_norm_into_weights=1)
    assert {each.dtype for each in graph.nodes[0].inputs[1:]} == {np.dtype(np.float16)}
    w, gamma, var = (constants[name].astype(np.float64) for name in ("w", "gamma", "var"))
    exact = w * (gamma / np.sqrt(var + np.float32(1e-5))).reshape(-1, 1, 1, 1)
    assert np.array_equal(graph.nodes[0].inputs[1].values, exact.astype(np.float16))


def test_a_fold_that_overflows_float16_is_left():
    constants = {"w": np.full((6, 3, 1, 1), 6e4, np.float16), **norm_constants(6, np.float16)}
    constants["gamma"] = np.full(6, 5, np.float16)
    nodes = [node("Conv", "x w", "c"), norm("c", "y")]
    graph = gs.import_onnx(build(nodes, {"x": [1, 3, 2, 2]}, {"y": [1, 6, 2, 2]}, constants, dtype=HALF))
    reports = {report.rule: report for report in normalise(graph)}
    assert reasons(reports, "batch_norm_into_weights") == ["the folded weight or bias does not fit float16"]
    assert graph.nodes[0].inputs[1].values.max() == np.float16(6e4)


def test_shared_weights_get_a_copy():
    nodes = [node("Conv", "x w", "c"), norm("c", "y"), node("Conv", "x w", "z")]
    constants = {"w": normal(6, 3, 1, 1), **norm_constants(6)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4], "z": [2, 6, 4, 4]}, constants)
    graph, _ = check(model, ["Conv", "Conv"], normal(2, 3, 4, 4), batch_norm_into_weights=1)
    assert graph.nodes[0].inputs[1] is not graph.nodes[1].inputs[1]


def test_a_convolution_that_others_read_keeps_its_values():
    nodes = [node("Conv", "x w", "c"), norm("c", "y"), node("Relu", "c", "z")]
    constants = {"w": normal(6, 3, 1, 1), **norm_constants(6)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4], "z": [2, 6, 4, 4]}, constants)
    _, reports = check(model, ["Conv", "Mul", "Relu", "Add"], normal(2, 3, 4, 4), scale_and_shift=1)
    assert reasons(reports, "batch_norm_into_weights") == ["c is used elsewhere too"]


def test_a_convolution_that_is_an_output_keeps_its_values():
    nodes = [node("Conv", "x w", "c"), norm("c", "y")]
    constants = {"w": normal(6, 3, 1, 1), **norm_constants(6)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4], "c": [2, 6, 4, 4]}, constants)
    check(model, ["Conv", "Mul", "Add"], normal(2, 3, 4, 4), batch_norm_into_weights=0)


def test_a_matmul_that_is_an_output_keeps_its_values():
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "c"), norm("c", "y")]
    constants = {"w": normal(4, 6), "b": normal(6), **norm_constants(6)}
    model = build(nodes, {"x": [5, 4]}, {"p": [5, 6], "y": [5, 6]}, constants)
    check(model, ["MatMul", "Add", "Mul", "Add"], normal(5, 4), batch_norm_into_weights=0)


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
    assert reasons(reports, "scale_and_shift") == [
        "it is in training mode",
        "its scale, bias, mean or variance is not a constant",
    ]


def test_a_scale_that_overflows_float16_is_left():
    constants = {**norm_constants(3, np.float16), "gamma": np.full(3, 6e4, np.float16)}
    constants["var"] = np.full(3, 1e-3, np.float16)
    nodes = [node("Relu", "x", "r"), norm("r", "y")]
    graph = gs.import_onnx(build(nodes, {"x": [1, 3, 2, 2]}, {"y": [1, 3, 2, 2]}, constants, dtype=HALF))
    reports = {report.rule: report for report in normalise(graph)}
    assert reasons(reports, "scale_and_shift") == ["its scale or shift does not fit float16"]


def test_batch_norm_of_unknown_rank_stays():
    nodes = [node("Reshape", "x s", "r"), norm("r", "n"), node("Reshape", "n t", "y")]
    model = build(nodes, {"x": [6, 2], "s": ["K"]}, {"y": [12]}, {"t": np.array([12]), **norm_constants(6)})
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    graph = gs.import_onnx(model)
    reports = {report.rule: report for report in normalise(graph)}
    assert ops(graph) == ["Reshape", "BatchNormalization", "Reshape"]
    assert reasons(reports, "scale_and_shift") == ["the number of axes of its input is not known"]


@pytest.mark.parametrize("group", [1, 3])
def test_batch_norm_folds_forward_into_an_unpadded_convolution(group):
    nodes = [node("Relu", "x", "r"), norm("r", "n"), node("Conv", "n w b", "y", group=group)]
    constants = {"w": normal(6, 3 // group, 3, 3), "b": normal(6), **norm_constants(3)}
    model = build(nodes, {"x": [2, 3, 6, 6]}, {"y": [2, 6, 4, 4]}, constants)
    check(model, ["Relu", "Conv"], normal(2, 3, 6, 6), batch_norm_after=1)


def test_batch_norm_in_front_of_zero_padding_is_spelled_out_unless_it_does_not_shift():
    nodes = [
        node("Relu", "x", "r"),
        norm("r", "n"),
        node("Conv", "n w", "y", name="padded", pads=[1, 1, 1, 1]),
    ]
    constants = {"w": normal(6, 3, 3, 3), **norm_constants(3)}
    model = build(nodes, {"x": [2, 3, 6, 6]}, {"y": [2, 6, 6, 6]}, constants)
    _, reports = check(model, ["Relu", "Mul", "Add", "Conv"], normal(2, 3, 6, 6), scale_and_shift=1)
    assert reasons(reports, "batch_norm_after") == ["Conv padded pads with zeros, and the shift is not zero"]
    constants |= {"beta": np.zeros(3, np.float32), "mean": np.zeros(3, np.float32)}
    model = build(nodes, {"x": [2, 3, 6, 6]}, {"y": [2, 6, 6, 6]}, constants)
    check(model, ["Relu", "Conv"], normal(2, 3, 6, 6), batch_norm_after=1)


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "AveragePool"])
def test_batch_norm_folds_through_pooling_and_flatten_into_every_reader(pool):
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
    check(model, expected, normal(2, 3, 4, 4), batch_norm_after=1)


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
    _, reports = check(model, ["Relu", "Mul", "Add", "Conv", "Abs"], normal(2, 3, 4, 4), batch_norm_after=0)
    assert reasons(reports, "batch_norm_after") == ["Abs other reads it and is not a weight layer"]


AFFINE = [
    ("Mul c s", (6, 1, 1)),
    ("Mul s c", ()),
    ("Div c s", (1, 6, 1, 1)),
    ("Add c s", ()),
    ("Sub c s", (1,)),
    ("Sub s c", (6, 1, 1)),
]


@pytest.mark.parametrize(("text", "shape"), AFFINE)
def test_arithmetic_with_constants_folds_into_a_convolution(text, shape):
    op, inputs = text.split(" ", 1)
    nodes = [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), node(op, inputs, "y")]
    model = build(
        nodes,
        {"x": [2, 3, 5, 5]},
        {"y": [2, 6, 5, 5]},
        {"w": normal(6, 3, 3, 3), "s": 1 + normal(*shape) ** 2},
    )
    check(model, ["Conv"], normal(2, 3, 5, 5), affine=1)


def test_chains_of_arithmetic_fold_into_gemm_and_matmul():
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
    check(model, ["Gemm", "Relu", "MatMul", "Add"], normal(5, 4), affine=4)


def test_matmul_and_its_add_stay():
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "y")]
    model = build(nodes, {"x": [2, 5, 4]}, {"y": [2, 5, 6]}, {"w": normal(4, 6), "b": normal(6)})
    _, reports = check(model, ["MatMul", "Add"], normal(2, 5, 4), affine=0)
    assert reports["affine"].misses == ()


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
    assert reasons(reports, "affine") == [
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
    check(model, ["Conv", "Add", "Clip", "Div"], normal(2, 3, 4, 4), affine=0)


def test_what_a_subgraph_captures_keeps_its_name_and_value():
    branches = [
        helper.make_graph(
            [node(op, "c k", f"{op}_out")], op, [], [helper.make_tensor_value_info(f"{op}_out", FLOAT, None)]
        )
        for op in ("Add", "Mul")
    ]
    nodes = [
        node("Constant", "", "k", value_float=3.0),
        node("Identity", "x", "i"),
        node("Conv", "i w", "c"),
        norm("c", "n"),
        node("ReduceMax", "n", "m", keepdims=0),
        node("Greater", "m zero", "q"),
        node("If", "q", "z", then_branch=branches[0], else_branch=branches[1]),
        node("Add", "z n", "y"),
    ]
    constants = {"w": normal(6, 3, 1, 1), "zero": 0.0, **norm_constants(6)}
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4]}, constants)
    expected = ["Constant", "Conv", "Mul", "Add", "ReduceMax", "Greater", "If", "Add"]
    _, reports = check(model, expected, normal(2, 3, 4, 4), identities=1, scale_and_shift=1)
    assert reasons(reports, "batch_norm_into_weights") == ["c is used elsewhere too"]
    assert reasons(reports, "constants") == ["it is a graph output, or a subgraph captures it"]


def test_normalising_twice_changes_nothing_more():
    nodes = [node("Conv", "x w", "c"), norm("c", "n"), node("Relu", "n", "r"), node("Identity", "r", "y")]
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4]}, {"w": normal(6, 3, 1, 1), **norm_constants(6)})
    graph, _ = check(model, ["Conv", "Relu"], normal(2, 3, 4, 4))
    assert [report.rewrites for report in normalise(graph)] == [0] * len(RULES)


def test_a_qcfs_chain_keeps_its_threshold_behind_a_folded_batch_norm():
    text = (
        "Div n theta a",
        "Clip a zero one b",
        "Mul b T d",
        "Add d half e",
        "Floor e f",
        "Div f T g",
        "Mul g theta y",
    )
    chain = [node(op, " ".join(inputs), output) for op, *inputs, output in (each.split() for each in text)]
    constants = {"theta": [2.0], "T": 4.0, "half": 0.5, "zero": 0.0, "one": 1.0, "w": normal(6, 3, 1, 1)}
    nodes = [node("Conv", "x w", "c"), norm("c", "n"), *chain]
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4]}, {**constants, **norm_constants(6)})
    graph = gs.import_onnx(model)
    normalise(graph)
    (activation,) = find_activations(graph)
    assert ops(graph)[:2] == ["Conv", "Div"] and activation.input is graph.nodes[0].outputs[0]
    assert activation.parameters["steps"] == 4
    assert activation.parameters["threshold"] == pytest.approx(0.5)


def test_filled_weights_become_initializers():
    model = build(
        [
            node("ConstantOfShape", "shape", "w", value=numpy_helper.from_array(np.float32([0.25]))),
            node("Conv", "x w", "y"),
        ],
        {"x": [2, 3, 5, 5]},
        {"y": [2, 4, 5, 5]},
        {"shape": np.array([4, 3, 1, 1])},
    )
    check(model, ["Conv"], normal(2, 3, 5, 5), fold_constants=1)


def padded_conv(*pad_inputs, pads=(0, 0, 1, 2, 0, 0, 3, 0), **attributes):
    return build(
        [node("Pad", f"x pads {' '.join(pad_inputs)}", "p", "pad", **attributes.pop("pad", {})),
         node("Conv", "p w", "y", "conv", **attributes)],
        {"x": ["N", 2, 6, 6]},
        {"y": None},
        {"pads": np.array(pads), "w": np.ones((3, 2, 3, 3), np.float32), "zero": np.zeros((), np.float32),
         "one": np.ones((), np.float32)},
    )  # fmt: skip


def test_a_pad_in_front_of_a_convolution_is_its_own_padding():
    feed = np.random.default_rng(0).normal(size=(2, 2, 6, 6)).astype(np.float32)
    graph, _ = check(padded_conv("zero", pads=(0, 0, 1, 2, 0, 0, 3, 0)), ["Conv"], feed, padding=1)
    assert list(graph.nodes[0].attrs["pads"]) == [1, 2, 3, 0]
    graph, _ = check(padded_conv(auto_pad="VALID"), ["Conv"], feed, padding=1)
    check(padded_conv("zero", pads=(0, 0, 1, 1, 0, 0, 1, 1)), ["Conv"], feed, padding=1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (padded_conv("one"), "other values"),
        (padded_conv("zero", pad={"mode": "reflect"}), "other values"),
        (padded_conv("zero", pads=(1, 0, 1, 2, 0, 0, 3, 0)), "along samples"),
        (padded_conv("zero", pads=(0, 0, -1, 2, 0, 0, 3, 0)), "negative"),
        (padded_conv("zero", auto_pad="SAME_UPPER"), "depends on the size"),
    ],
)
def test_other_padding_stays(model, reason):
    feed = np.random.default_rng(0).normal(size=(2, 2, 6, 6)).astype(np.float32)
    _, reports = check(model, ["Pad", "Conv"], feed, padding=0)
    assert reason in reasons(reports, "padding")[0]
