"""All rules together."""

import sys
from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper, numpy_helper

from graphpass.passes.normalise import RULES, normalise
from graphpass.sites.activations import find_activations
from tests.models import FLOAT, build, node, ops
from tests.passes.checking import check, norm, norm_constants, normal, reasons


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


def test_sizes_behind_computed_padding_are_known():
    """Two paddings, each by widths that are reckoned from the size of what it pads, as for "same" convolutions."""
    text = "Shape x s; Gather s two a; Sub eight a b; ConstantOfShape five zeros; Concat zeros b w; Pad x w p; "
    text += "Shape p t; Gather t two c; Sub ten c d; Concat zeros d v; Pad p v y"
    parts = [each.split() for each in text.split("; ")]
    axes = {"Concat": {"axis": 0}}
    zero = {"ConstantOfShape": {"value": numpy_helper.from_array(np.array([0]))}}
    nodes = [node(op, " ".join(names[:-1]), names[-1], **(axes | zero).get(op, {})) for op, *names in parts]
    constants = {"two": np.array([2]), "eight": np.array([8]), "ten": np.array([10]), "five": np.array([5])}
    model = build(nodes, {"x": ["N", 3, 5]}, {"y": None}, constants)
    graph, _ = check(model, ["Pad", "Pad"], normal(2, 3, 5))
    assert [each.inputs[1].values.tolist()[-1] for each in graph.nodes] == [3, 2]


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
    _, reports = check(model, expected, normal(2, 3, 4, 4), eliminate_identities=1, spell_out_batch_norm=1)
    assert reasons(reports, "fuse_batch_norm_into_layer") == ["c is used elsewhere too"]
    assert reasons(reports, "extract_constants") == ["it is a graph output, or a subgraph captures it"]


def test_normalising_twice_changes_nothing_more():
    nodes = [node("Conv", "x w", "c"), norm("c", "n"), node("Relu", "n", "r"), node("Identity", "r", "y")]
    model = build(nodes, {"x": [2, 3, 4, 4]}, {"y": [2, 6, 4, 4]}, {"w": normal(6, 3, 1, 1), **norm_constants(6)})
    graph, _ = check(model, ["Conv", "Relu"], normal(2, 3, 4, 4))
    assert [report.rewrites for report in normalise(graph)] == [0] * len(RULES)


def test_a_qcfs_chain_keeps_its_threshold_behind_a_fused_batch_norm():
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


def test_the_cost_of_normalising_is_linear() -> None:
    """Four times as many layers, each with a normalisation to fuse, take four times as many calls of functions."""

    def calls(layers: int) -> int:
        nodes, constants = [], {}
        for k in range(layers):
            nodes += [
                node("Conv", f"x{k} w{k}", f"c{k}"), node("BatchNormalization", f"c{k} g g g g", f"n{k}"),
                node("Relu", f"n{k}", f"x{k + 1}"),
            ]  # fmt: skip
            constants[f"w{k}"] = np.ones((2, 2, 1, 1), np.float32)
        constants["g"] = np.ones(2, np.float32)
        graph = gs.import_onnx(build(nodes, {"x0": ["N", 2, 3, 3]}, {f"x{layers}": None}, constants))
        events: Counter[str] = Counter()
        sys.setprofile(lambda _frame, event, _argument: events.update([event]))
        try:
            normalise(graph)
        finally:
            sys.setprofile(None)
        return events["call"] + events["c_call"]

    assert calls(80) < 4.2 * calls(20)
