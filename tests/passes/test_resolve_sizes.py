"""Sizes that exporters compute as the network runs."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, shape_inference

from graphpass.passes.base import Rewriting
from graphpass.passes.resolve_sizes import resolve_sizes
from tests.models import FLOAT, build, node
from tests.passes.checking import check, normal, reasons


def sizes(*names, of="x"):
    """Nodes that make one-element tensors <name> of sizes of `of`, as exporters write them: x.size(k)."""
    nodes = [node("Shape", of, f"{of}_sizes", f"{of}_shape")]
    for name in names:
        nodes += [node("Gather", f"{of}_sizes k{name[-1]}", f"{name}_0"), node("Unsqueeze", f"{name}_0 k0s", name)]
    return nodes


K = {"k0": np.array(0), "k1": np.array(1), "k2": np.array(2), "k0s": np.array([0]), "minus": np.array([-1])}
TWO = {"two": np.array(2), "twos": np.array([2])}


def reshaped(nodes, target, shape=("N", 4, 3), constants=K, **attributes):
    joined = [
        *nodes,
        node("Concat", target, "t", "target", axis=0),
        node("Reshape", "x t", "y", "reshape", **attributes),
    ]
    return build(joined, {"x": list(shape)}, {"y": None}, constants)


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (reshaped(sizes("n0"), "n0 minus"), [0, -1]),
        (reshaped(sizes("n0"), "n0 minus", allowzero=1), [0, -1]),
        (reshaped(sizes("n0"), "n0 minus", (None, 4, 3)), [0, -1]),
        (reshaped(sizes("n0"), "n0 minus", (None, None, None)), [0, -1]),
        (reshaped(sizes("n0"), "n0 minus", ("N", "N", "N")), [0, -1]),
        (reshaped(sizes("n0", "c1"), "n0 c1 minus", ("N", "C", 3)), [0, 0, -1]),
        (reshaped(sizes("n0", "c1"), "n0 c1 minus", ("N", None, None), allowzero=1), [0, 0, -1]),
        (reshaped(sizes("n0", "c1", "l2"), "n0 c1 l2", (None, None, None)), [0, 0, 0]),
        (reshaped(sizes("n0", "c1", "l2"), "n0 l2 c1"), [0, 3, 4]),
        (reshaped(sizes("n0", "c1", "l2"), "l2 n0 c1"), [3, -1, 4]),
        (reshaped(sizes("n0", "c1", "l2"), "n0 c1 l2", (5, 4, 3)), [5, 4, 3]),
    ],
)
def test_the_free_size_of_a_target_is_left_to_the_reshape(model, target):
    graph, _ = check(model, ["Reshape"], normal(5, 4, 3))
    (reshape,) = graph.nodes
    assert reshape.inputs[1].values.tolist() == target and not reshape.attrs.get("allowzero", 0)


@pytest.mark.parametrize(
    "model",
    [
        reshaped(sizes("n0", "l2"), "n0 l2 minus", ("N", "L", "L")),  # is it the size in the middle?
        reshaped(sizes("n0", "l2"), "n0 l2 minus", ("N", 4, "L")),  # two that are free
        reshaped(sizes("l2"), "l2 minus", ("N", 4, "L")),  # samples and channels are mixed
        reshaped(sizes("n0"), "n0 minus", ("N", 0, 3)),  # of nothing, −1 may be anything
    ],
)
def test_targets_that_more_than_the_free_size_is_open_in_stay(model):
    graph = gs.import_onnx(model)
    resolve_sizes(Rewriting("resolve_sizes", graph))
    (reshape,) = (each for each in graph.nodes if each.op == "Reshape")
    assert not isinstance(reshape.inputs[1], gs.Constant)


def test_channels_are_shuffled_by_sizes_that_are_reckoned():
    """[N, C, L] → [N, 2, C/2, L] → [N, C/2, 2, L] → [N, C, L], twice: the second sizes are of what the first makes."""
    nodes, data = [], "x"
    for stage in "ab":
        nodes += sizes(f"{stage}n0", f"{stage}l2", of=data)
        nodes += [
            node("Gather", f"{data}_sizes k1", f"{stage}c"), node("Div", f"{stage}c two", f"{stage}h"),
            node("Unsqueeze", f"{stage}h k0s", f"{stage}half"),
            node("Concat", f"{stage}n0 twos {stage}half {stage}l2", f"{stage}t", axis=0),
            node("Reshape", f"{data} {stage}t", f"{stage}r"),
            node("Transpose", f"{stage}r", f"{stage}s", perm=[0, 2, 1, 3]),
            node("Slice", f"{data}_sizes k0s threes", f"{stage}back"),
            node("Reshape", f"{stage}s {stage}back", f"{stage}y"),
        ]  # fmt: skip
        data = f"{stage}y"
    nodes.append(node("Neg", data, "y"))
    model = build(nodes, {"x": ["N", 4, 3]}, {"y": None}, {**K, **TWO, "threes": np.array([3])})
    graph, _ = check(model, [*["Reshape", "Transpose", "Reshape"] * 2, "Neg"], normal(5, 4, 3))
    targets = [each.inputs[1].values.tolist() for each in graph.nodes if each.op == "Reshape"]
    assert targets == [[0, 2, 2, 3], [0, 4, 3]] * 2


def test_sizes_that_are_followed_in_int32():
    """A Flatten of Keras as tf2onnx writes it: x is stored as [N, H, W, C], its sizes are those of [N, C, H, W]."""
    nodes = [
        node("Transpose", "x", "r", perm=[0, 2, 1]), node("Shape", "x", "s"), node("Gather", "s order", "g"),
        node("Cast", "g", "narrow", to=TensorProto.INT32), node("Slice", "narrow k0s k1s k0s", "n"),
        node("Slice", "narrow k1s two2 k0s", "h"), node("Mul", "h three", "w"), node("Concat", "n w", "t", axis=0),
        node("Cast", "t", "wide", to=TensorProto.INT64), node("Reshape", "r wide", "y"),
    ]  # fmt: skip
    order = {"order": np.array([0, 2, 1]), "k1s": np.array([1]), "k0s": np.array([0]), "two2": np.array([2])}
    model = build(nodes, {"x": ["N", 4, 3]}, {"y": None}, {**order, "three": np.array([4], np.int32)})
    graph, _ = check(model, ["Transpose", "Reshape"], normal(5, 4, 3))
    assert graph.nodes[-1].inputs[1].values.tolist() == [0, 12]


def test_int32_results_keep_their_type_and_do_not_overflow():
    nodes = [*sizes("c1"), node("Cast", "c1", "i0", to=TensorProto.INT32)]
    nodes += [node("Mul", f"i{step} i{step}", f"i{step + 1}") for step in range(4)]  # 4^16 = 2^32 is beyond int32
    model = build([*nodes, node("Neg", "i4", "y")], {"x": ["N", 4, 3]}, {"y": [1]}, K)
    model.graph.output[0].ClearField("type")
    graph = gs.import_onnx(shape_inference.infer_shapes(model))
    resolve_sizes(Rewriting("resolve_sizes", graph))
    product = next(each for each in graph.nodes if each.op == "Mul" and each.outputs[0].name == "i4")
    assert (product.inputs[0].dtype, product.inputs[0].values.tolist()) == (np.int32, [4**8])


def test_products_beyond_int64_are_not_reckoned():
    nodes = [
        *sizes("c1"),
        *(node("Mul", f"{one} {one}", two) for one, two in zip(["c1", *"abcdefg"], "abcdefgh", strict=True)),
    ]
    nodes += [node("Sub", "h h", "nothing"), node("Concat", "nothing minus", "t", axis=0), node("Reshape", "x t", "y")]
    graph = gs.import_onnx(build(nodes, {"x": ["N", 4, 3]}, {"y": None}, K))
    resolve_sizes(Rewriting("resolve_sizes", graph))
    assert [each.op for each in graph.nodes if each.op != "Mul"] == ["Shape", "Sub", "Concat", "Reshape"]


def test_what_the_file_says_of_sizes_inside_is_not_believed():
    """An exporter leaves the sizes of its example at tensors whose sizes nobody can infer."""
    nodes = [
        node("NonZero", "x", "z"), node("Transpose", "z", "w", perm=[1, 0]), *sizes("n0", of="w"),
        node("Concat", "n0 minus", "t", axis=0), node("Reshape", "w t", "i"), node("Cast", "i", "y", to=FLOAT),
    ]  # fmt: skip
    model = build(nodes, {"x": ["N", 4]}, {"y": None}, K)
    (stated,) = (value for value in model.graph.value_info if value.name == "w")
    for size, known in zip(stated.type.tensor_type.shape.dim, (20, 2), strict=True):
        size.dim_value = known
    feed = normal(5, 4)
    feed[0] = 0
    graph, _ = check(model, ["NonZero", "Transpose", "Reshape", "Cast"], feed)
    assert graph.nodes[-2].inputs[1].values.tolist() == [0, -1]


def test_sizes_that_are_outputs_stay():
    model = reshaped(sizes("n0", "c1"), "n0 minus")
    model.graph.output.add(name="c1").type.tensor_type.elem_type = 7
    _, reports = check(model, ["Unsqueeze", "Reshape"], normal(5, 4, 3))
    assert reasons(reports, "resolve_sizes") == ["it is a graph output, or a subgraph captures it"]


def test_allowzero_goes_where_the_target_has_no_zero():
    def model(*target):
        constants = {"t": np.array(target)}
        return build([node("Reshape", "x t", "y", allowzero=1)], {"x": [5, 4, 3]}, {"y": None}, constants)

    graph, _ = check(model(-1, 6), ["Reshape"], normal(5, 4, 3), resolve_sizes=1)
    assert "allowzero" not in graph.nodes[0].attrs
    empty = build([node("Reshape", "x t", "y", allowzero=1)], {"x": [5, 0, 3]}, {"y": None}, {"t": np.array([3, 0])})
    check(empty, ["Reshape"], normal(5, 0, 3), resolve_sizes=0)
