"""Maps pass a node as the values of the elements do."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphpass.graph.travel import RULES, Travel, travels
from tests.models import build, node, run
from tests.properties import examples

SIZES = [2, 4, 6, 4]  # of x, with two samples
LONG = 1 << 62

# node, its constants, opset; what is filled in is 7
NODES = {
    "Identity": (node("Identity", "x", "y"), {}, 18),
    "Cast": (node("Cast", "x", "y", to=1), {}, 18),
    "Dropout": (node("Dropout", "x", "y"), {}, 18),
    "Expand": (node("Expand", "x k", "y"), {"k": np.array([1, 4, 1, 1])}, 18),
    "Transpose": (node("Transpose", "x", "y", perm=[0, 3, 1, 2]), {}, 18),
    "Reshape": (node("Reshape", "x k", "y"), {"k": np.array([0, 8, -1, 2])}, 18),
    "Reshape, tail": (node("Reshape", "x k", "y"), {"k": np.array([0, 2, 2, 6, 4])}, 18),
    "Reshape, head": (node("Reshape", "x k", "y"), {"k": np.array([0, 4, 24])}, 18),
    "Flatten": (node("Flatten", "x", "y"), {}, 18),
    "Unsqueeze": (node("Unsqueeze", "x k", "y"), {"k": np.array([2, -1])}, 18),
    "Slice": (node("Slice", "x a b c d", "y"), {"a": np.array([-1, 1]), "b": np.array([-LONG, LONG]),
                                                "c": np.array([1, 3]), "d": np.array([-2, 1])}, 18),
    "Split": (node("Split", "x k", "y z", axis=1), {"k": np.array([1, 3])}, 18),
    "Gather": (node("Gather", "x k", "y", axis=-3), {"k": np.array([[3, 0], [-1, 1]])}, 18),
    "Gather of one": (node("Gather", "x k", "y", axis=2), {"k": np.array(-2)}, 18),
    "Compress": (node("Compress", "x k", "y", axis=2), {"k": np.array([1, 0, 1, 1, 0, 1]) > 0}, 18),
    "Pad": (node("Pad", "x k f", "y"), {"k": np.array([0, 1, -1, 2, 0, 0, 2, -1]), "f": np.float32(7)}, 18),
    "Pad, axes": (node("Pad", "x k f a", "y"), {"k": np.array([1, 2]), "f": np.float32(7), "a": np.array([-2])}, 18),
    "Pad, reflect": (node("Pad", "x k", "y", mode="reflect"), {"k": np.array([0, 2, 1, 0, 0, 0, 3, 1])}, 18),
    "Pad, edge": (node("Pad", "x k", "y", mode="edge"), {"k": np.array([0, 1, 1, 0, 0, 2, 0, -1])}, 18),
    "Pad, wrap": (node("Pad", "x k", "y", mode="wrap"), {"k": np.array([0, 1, 2, 0, 0, 0, 1, 0])}, 19),
    "Tile": (node("Tile", "x k", "y"), {"k": np.array([1, 2, 1, 3])}, 18),
    "DepthToSpace": (node("DepthToSpace", "x", "y", blocksize=2), {}, 18),
    "DepthToSpace, CRD": (node("DepthToSpace", "x", "y", blocksize=2, mode="CRD"), {}, 18),
    "SpaceToDepth": (node("SpaceToDepth", "x", "y", blocksize=2), {}, 18),
    "Where": (node("Where", "m x f", "y"), {"m": np.eye(6, 4) > 0, "f": np.float32(7)}, 18),
    "Where not": (node("Where", "m f x", "y"), {"m": np.eye(6, 4) > 0, "f": np.float32([[7], [8], [9], [7], [7], [7]])},
                  18),
    "Trilu": (node("Trilu", "x k", "y", upper=0), {"k": np.array(1)}, 18),
    "Resize": (node("Resize", "x - k", "y", mode="nearest"), {"k": np.float32([1, 1, 2, 2])}, 18),
    "AveragePool": (node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1] * 4), {}, 18),
    "GlobalAveragePool": (node("GlobalAveragePool", "x", "y"), {}, 18),
    "ReduceMean": (node("ReduceMean", "x k", "y", keepdims=0), {"k": np.array([-1])}, 18),
}  # fmt: skip
VARYING = [(), (1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3)]


def graph_of(name, batch=2):
    each, constants, opset = NODES[name]
    model = build([each], {"x": [batch, *SIZES[1:]]}, dict.fromkeys(each.output), constants, opset=opset)
    return model, gs.import_onnx(model)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("varying", VARYING)
def test_a_map_is_where_its_elements_are(name, varying):
    model, graph = graph_of(name)
    shape = [size if axis in varying else 1 for axis, size in enumerate(SIZES)]
    values = np.random.default_rng(0).integers(-50, 50, shape).astype(np.float32)
    whole = np.broadcast_to(values, SIZES).copy()
    outputs = run(model, whole)
    filled = [~np.isnan(each) for each in run(model, np.full_like(whole, np.nan))]
    offsets = travels(graph.nodes[0], values, Travel.OFFSET)
    scales = travels(graph.nodes[0], values, Travel.SCALE)
    averages = name in ("AveragePool", "GlobalAveragePool", "ReduceMean", "Resize")
    if offsets is None or scales is None:
        assert averages and varying not in ((), (1,))
        return
    for y, mask, offset, scale in zip(outputs, filled, offsets, scales, strict=True):
        assert offset.dtype == scale.dtype == np.float32
        for found in (offset, scale):
            assert found.ndim == y.ndim and found.shape[0] == 1
            assert all(size in (1, whole) for size, whole in zip(found.shape, y.shape, strict=True))
        np.testing.assert_allclose(np.broadcast_to(offset, y.shape), y, rtol=1e-6)  # averages of equal values
        np.testing.assert_allclose(np.broadcast_to(scale, y.shape)[~mask], y[~mask], rtol=1e-6)


@pytest.mark.parametrize("name", NODES)
def test_what_a_map_varies_along_does_not_depend_on_its_values(name):
    """… and a map that stays as it is, is the same array."""
    _, graph = graph_of(name)
    for varying in VARYING:
        shape = [size if axis in varying else 1 for axis, size in enumerate(SIZES)]
        maps = [np.ones(shape, np.float32), np.random.default_rng(1).random(shape, np.float32)]
        for what in Travel:
            found = [travels(graph.nodes[0], values, what) for values in maps]
            assert (found[0] is None) == (found[1] is None)
            for one, two in zip(found[0] or (), found[1] or (), strict=True):
                assert one.shape == two.shape
                assert (one is maps[0]) == (two is maps[1])


@pytest.mark.parametrize(
    "name", ["Slice", "Transpose", "Reshape, head", "Pad, reflect", "SpaceToDepth", "Tile", "Gather"]
)
def test_free_sizes_are_no_obstacle_along_axes_that_do_not_vary(name):
    each, constants, opset = NODES[name]
    free = build([each], {"x": ["N", 4, "H", "W"]}, dict.fromkeys(each.output), constants, opset=opset)
    values = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)
    found = travels(gs.import_onnx(free).nodes[0], values, Travel.SCALE)
    y = run(free, np.broadcast_to(values, SIZES).copy())[0]
    assert found is not None
    np.testing.assert_array_equal(np.broadcast_to(found[0], y.shape), y)


def test_channels_merge_behind_a_free_size():
    """[N, L, 4, 3] → [N, L, 12]: as exporters flatten the frames of a sound."""
    model = build([node("Reshape", "x k", "y")], {"x": ["N", "L", 4, 3]}, {"y": None}, {"k": np.array([0, 0, -1])})
    values = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    graph = gs.import_onnx(model)
    (found,) = travels(graph.nodes[0], values, Travel.SCALE) or [None]
    (y,) = run(model, np.broadcast_to(values, (2, 5, 4, 3)).copy())
    np.testing.assert_array_equal(np.broadcast_to(found, y.shape), y)
    assert travels(graph.nodes[0], np.ones((1, 5, 4, 1), np.float32) * values, Travel.SCALE) is None


def test_a_pattern_on_free_sizes_is_no_map():
    each = node("DepthToSpace", "x", "y", blocksize=2)
    free = gs.import_onnx(build([each], {"x": ["N", 4, "H", "W"]}, {"y": None}, {}))
    assert travels(free.nodes[0], np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1), Travel.SCALE) is None
    equal = travels(free.nodes[0], np.ones((1, 1, 1, 1), np.float32), Travel.SCALE)
    assert equal is not None and equal[0].shape == (1, 1, 1, 1)


def test_squeeze():
    model = build([node("Squeeze", "x k", "y")], {"x": [2, 4, 1, 3]}, {"y": None}, {"k": np.array([-2])})
    values = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)
    (found,) = travels(gs.import_onnx(model).nodes[0], values, Travel.SCALE) or [None]
    np.testing.assert_array_equal(found, values.reshape(1, 4, 1))


def test_rows_that_merge_with_samples_have_no_map():
    each = node("Reshape", "x k", "y")
    graph = gs.import_onnx(build([each], {"x": ["N", 4, 4]}, {"y": None}, {"k": np.array([-1, 4])}))
    rows = np.arange(4, dtype=np.float32)
    assert travels(graph.nodes[0], rows.reshape(1, 4, 1), Travel.SCALE) is None
    (last,) = travels(graph.nodes[0], rows.reshape(1, 1, 4), Travel.SCALE) or [None]
    np.testing.assert_array_equal(last, rows.reshape(1, 4))


@examples(60)
@example([(-5, -5, -1)], (1,))  # a start in front of the axis
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([-3, -2, -1, 1, 2])), min_size=1,
             max_size=3),
    st.sampled_from(VARYING),
)  # fmt: skip
def test_any_slice(limits, varying):
    axes = np.arange(1, 1 + len(limits))
    parts = [np.array(values) for values in zip(*limits, strict=True)]
    each = node("Slice", "x a b c d", "y")
    constants = {"a": parts[0], "b": parts[1], "c": axes, "d": parts[2]}
    model = build([each], {"x": SIZES}, {"y": None}, constants)
    shape = [size if axis in varying else 1 for axis, size in enumerate(SIZES)]
    values = np.random.default_rng(0).random(shape, np.float32)
    y = run(model, np.broadcast_to(values, SIZES).copy())[0]
    found = travels(gs.import_onnx(model).nodes[0], values, Travel.OFFSET)
    assert found is not None
    np.testing.assert_array_equal(np.broadcast_to(found[0], y.shape), y)


def test_every_rule_is_tested():
    assert {each.op_type for each, _, _ in NODES.values()} | {"Squeeze"} == {*RULES, "Where", "Trilu"}
